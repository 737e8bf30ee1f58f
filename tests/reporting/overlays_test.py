import numpy as np
from PIL import Image

from allencv.reporting.overlays import color_bar, enlarged, overlaid


def test_maps_over_pictures() -> None:
    """Bright where a map is strong, the picture in grey where there is nothing."""
    picture = Image.new("RGB", (40, 20), (200, 0, 0))
    heat = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    found = np.asarray(overlaid(picture, heat)).astype(int)
    assert found.shape == (20, 40, 3)
    assert np.ptp(found[:, 0], axis=-1).max() == 0
    assert found[10, 0, 0] == np.asarray(picture.convert("L"))[0, 0]
    assert found[10, 39].sum() > found[10, 0].sum() + 150
    bar = np.asarray(color_bar().convert("L")).astype(int)[0]
    assert (np.diff(bar) >= 0).all()


def test_small_pictures_are_enlarged_by_a_whole_number() -> None:
    picture = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    found = np.asarray(enlarged(picture, 8))
    assert np.array_equal(found, np.asarray(picture).repeat(2, 0).repeat(2, 1))
    assert enlarged(picture, 5).size == picture.size
    assert enlarged(picture, 2).size == picture.size

import multiprocessing

import pytest
import torch

from allencv.data.data_loaders.kept_images import DTYPES, KeptImages, bytes_of


def test_a_forked_process_shares_its_images() -> None:
    kept = KeptImages(2, 10_000)
    image = torch.full((3, 4, 5), 9)
    process = multiprocessing.get_context("fork").Process(target=kept.put, args=(1, image))
    process.start()
    process.join()
    assert kept.get(0) is None
    found = kept.get(1)
    assert found is not None
    assert torch.equal(found, image)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_kept_images(dtype: torch.dtype, channels_last: bool) -> None:
    image = torch.arange(24).to(dtype).view(2, 3, 4)
    if channels_last:
        image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    kept = KeptImages(3, 1024)
    assert kept.get(1) is None
    assert kept.put(1, image)
    assert kept.put(1, image + 1)  # the first stays
    assert kept.put(0, image + 2)
    for place, expected in ((1, image), (0, image + 2)):
        found = kept.get(place)
        assert found is not None
        assert found.dtype == dtype
        assert found.stride() == image.stride()
        assert torch.equal(found, expected)
    assert kept.get(2) is None


def test_no_more_than_the_capacity() -> None:
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    assert bytes_of(image) == 192
    kept = KeptImages(3, 2 * 192)
    assert [kept.put(place, image) for place in range(3)] == [True, True, False]
    assert kept.get(2) is None
    assert not kept.put(2, torch.zeros(8, 8))
    assert not kept.put(2, torch.zeros(1, 1, 1, dtype=torch.bool))

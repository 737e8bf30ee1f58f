import io
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np
import pytest
from PIL import Image

from allencv.certainty.labelled_outputs import (
    drawn,
    labelled_outputs,
    network_outputs,
    one_hot,
    targets_of,
)
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.samples import SampleList
from allencv.runtime.certainty import Certainty
from allencv.runtime.errors import InputError
from allencv.runtime.images import ImageSource
from allencv.runtime.preprocessing import Preprocessing


class Brightness:
    """A classifier of grey images: how bright they are."""

    name = "brightness"
    labels = ["dark", "bright"]
    multi_label = False
    thresholds: Optional[List[float]] = None
    certainty: Optional[Certainty] = None
    preprocessing = Preprocessing(4, 4)

    def preprocess(self, source: ImageSource) -> np.ndarray:
        return self.preprocessing(source)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return self.outputs(images)[0]

    def outputs(self, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        bright = images.mean(axis=(1, 2, 3), dtype=np.float32) / 255
        bright[bright == 1] = np.nan
        return np.stack([1 - bright, bright], axis=1), bright[:, None] * [[1, 2, 3]]


class Several(Brightness):
    multi_label = True
    thresholds = [0.5, 0.5]


def grey(folder: Path, level: int) -> str:
    file = str(folder / f"{level}.png")
    Image.new("L", (4, 4), level).save(file)
    return file


def test_images_and_labels_stay_together(tmp_path: Path) -> None:
    levels = [10, 200, 255, 90, 30]  # 255 gives nan
    samples = [Sample(grey(tmp_path, each), "dark" if each < 100 else "bright") for each in levels]
    broken = tmp_path / "broken.png"
    broken.write_text("none")
    samples.insert(1, Sample(str(broken), "bright"))
    found = labelled_outputs(Brightness(), SampleList(samples), "greys", show_progress=False)
    assert [Path(name).stem for name in found.names] == ["10", "200", "90", "30"]
    assert found.probabilities[:, 1] == pytest.approx(np.array([10, 200, 90, 30]) / 255)
    assert found.vectors[:, 2] == pytest.approx(3 * found.probabilities[:, 1])
    assert found.targets.tolist() == [0, 1, 0, 0]
    reasons = {Path(name).stem: reason for name, reason in found.errors.items()}
    assert set(reasons) == {"broken", "255"}
    assert "not finite" in reasons["255"]


def test_images_that_are_read_later_and_many_batches(tmp_path: Path) -> None:
    def opened(level: int) -> bytes:
        file = io.BytesIO()
        Image.new("L", (4, 4), level).save(file, "PNG")
        return file.getvalue()

    samples = [
        Sample(lambda level=level % 250: opened(level), "dark", metadata={"image": str(level)})
        for level in range(300)
    ]
    found = network_outputs(Brightness(), SampleList(samples), show_progress=False)
    assert found.indices == list(range(300))
    assert found.probabilities[:, 1] == pytest.approx(np.arange(300) % 250 / 255, abs=1e-6)


def test_no_image_can_be_read() -> None:
    samples = SampleList([Sample("missing.png", "dark")])
    found = labelled_outputs(Brightness(), samples, "greys", show_progress=False)
    assert found.probabilities.shape == (0, 2)
    assert len(found.targets) == 0
    assert list(found.errors) == ["missing.png"]


def test_sets_of_labels() -> None:
    samples = [Sample("a", labels=["bright", "dark"]), Sample("b", labels=[])]
    assert targets_of(Several(), samples, "greys").tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize(
    ("classifier", "sample", "message"),
    [
        (Brightness(), Sample("a.png"), "greys: a.png has no label; expected one"),
        (Several(), Sample("a.png"), "greys: a.png has no labels; expected"),
        (Brightness(), Sample("a.png", "grey"), "a.png has the label 'grey'.*'dark', 'bright'"),
        (Several(), Sample("a.png", labels=["dark", "grey"]), "a.png has the label 'grey'"),
    ],
)
def test_labels_that_cannot_be_used(classifier: Brightness, sample: Sample, message: str) -> None:
    with pytest.raises(InputError, match=message):
        targets_of(classifier, [sample], "greys")


def test_targets_as_a_table() -> None:
    assert one_hot(np.array([1, 0]), 2).tolist() == [[False, True], [True, False]]
    several = np.array([[True, True]])
    assert one_hot(several, 2) is several


def test_a_draw() -> None:
    assert drawn(3, 5) == [0, 1, 2]
    some = drawn(1000, 10)
    assert some == sorted(set(some)) == drawn(1000, 10)
    assert len(some) == 10
    assert max(some) > 500

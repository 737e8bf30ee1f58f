import os
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import pytest

from allencv.classify.answers import answers
from allencv.runtime.certainty import Judgement
from allencv.runtime.classifier import readable
from allencv.runtime.errors import ImageError, InputError
from allencv.runtime.image_files import list_images
from allencv.runtime.onnx_classifier import OnnxClassifier
from tests.conftest import write_images
from tests.runtime.tiny_bundle import LABELS, softmax_of, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "colours")


@pytest.fixture
def classifier(bundle: Path) -> OnnxClassifier:
    return OnnxClassifier(bundle)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_images(tmp_path / "photos", {"a": 4, "b": 4, "c": 3})


def answered(classifier: Any, folder: Path, batch_size: int = 4, **options: Any) -> Any:
    options = {"workers": 2, "top_k": 3, "probabilities": False, **options}
    return answers(classifier, list_images([str(folder)], "path").images, batch_size, **options)


def test_each_image_has_its_answer_in_order(classifier: OnnxClassifier, photos: Path) -> None:
    batches = list(answered(classifier, photos, top_k=2, probabilities=True))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    files = sorted(photos.rglob("*.jpg"))
    records = [record for batch in batches for record in batch]
    assert [record["path"] for record in records] == list(map(str, files))
    for file, record in zip(files, records):
        expected = softmax_of(file)
        assert [record["probabilities"][label] for label in LABELS] == pytest.approx(expected)
        row = np.array([record["probabilities"][label] for label in LABELS])
        assert {**readable(classifier, Judgement(row), 2), **record} == record
        assert record["label"] == LABELS[int(expected.argmax())]
        status = os.stat(file)
        assert record["stamp"] == [status.st_size, status.st_mtime_ns]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("workers", [1, 5])
def test_neither_batches_nor_workers_change_an_answer(
    classifier: OnnxClassifier, photos: Path, batch_size: int, workers: int
) -> None:
    def labels(batches: Any) -> List[Dict[str, Any]]:
        return [{**record, "top_k": None} for batch in batches for record in batch]

    expected = labels(answered(classifier, photos))
    assert labels(answered(classifier, photos, batch_size, workers=workers)) == expected


def test_bad_files_cost_no_other_an_answer(classifier: OnnxClassifier, photos: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))
    bad = [files[0], files[5], files[6], files[7], files[-1]]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(bad[1].read_bytes()[:300])
    bad[2].write_text("<svg/>")
    for index, target in ((3, "pipe"), (4, "nowhere")):
        bad[index].unlink()
        bad[index].symlink_to(photos / target)
    images = list_images([str(photos)], "path").images
    os.mkfifo(photos / "pipe")
    batches = answers(classifier, images, 4, workers=2, top_k=3, probabilities=False)
    records = [record for batch in batches for record in batch]
    assert [record["path"] for record in records] == list(map(str, files))
    errors = {record["path"]: record["error"] for record in records if "error" in record}
    assert list(errors) == list(map(str, bad))
    reasons = ("empty", "Truncated", "not an image", "a named pipe", "No such file")
    for file, reason in zip(bad, reasons):
        assert reason in errors[str(file)]
    for file, record in zip(files, records):
        assert ("label" in record) == (file not in bad)


def test_images_of_several_sizes_are_not_padded(bundle: Path, photos: Path) -> None:
    seen: List[Any] = []

    class OfTwoSizes(OnnxClassifier):
        """Every second image is twice as high, and cut to the size of the network later."""

        def preprocess(self, source: Any) -> np.ndarray:
            pixels = super().preprocess(source)
            return np.tile(pixels, (1 + int(Path(source).stem) % 2, 1, 1))

        def probabilities(self, images: np.ndarray) -> np.ndarray:
            seen.append(images.shape)
            return super().probabilities(images[:, :16])

    def probabilities(classifier: Any) -> List[float]:
        batches = answered(classifier, photos, batch_size=11)
        return [record["top_k"][0]["probability"] for batch in batches for record in batch]

    assert probabilities(OfTwoSizes(bundle)) == pytest.approx(probabilities(OnnxClassifier(bundle)))
    assert seen == [(6, 16, 16, 3), (5, 32, 16, 3)]


def test_a_size_that_the_network_does_not_take_is_an_error(bundle: Path, photos: Path) -> None:
    class OfOneSize(OnnxClassifier):
        """Every third image is half as high, which its network does not take."""

        def preprocess(self, source: Any) -> np.ndarray:
            pixels = super().preprocess(source)
            return pixels[:8] if int(Path(source).stem) == 2 else pixels

        def probabilities(self, images: np.ndarray) -> np.ndarray:
            if images.shape[1] != 16:
                raise ImageError("the network does not take images of 16 x 8 pixels")
            return super().probabilities(images)

    records = [record for batch in answered(OfOneSize(bundle), photos) for record in batch]
    assert len(records) == 11
    for record in records:
        if record["path"].endswith("002.jpg"):
            assert (
                record["error"]
                == f"{record['path']}: the network does not take images of 16 x 8 pixels"
            )
        else:
            assert record["label"] in LABELS


def test_what_is_no_number_is_an_error(bundle: Path, photos: Path) -> None:
    class Overflowing(OnnxClassifier):
        def probabilities(self, images: np.ndarray) -> np.ndarray:
            rows = super().probabilities(images)
            rows[1] = np.nan
            return rows

    (batch,) = answered(Overflowing(bundle), photos, batch_size=11)
    assert "not finite" in batch[1]["error"]
    assert sum("error" in record for record in batch) == 1


def test_few_images_are_decoded_ahead_and_none_after_the_end(bundle: Path, photos: Path) -> None:
    decoded: List[Any] = []

    class Counting(OnnxClassifier):
        def preprocess(self, source: Any) -> np.ndarray:
            decoded.append(source)
            return super().preprocess(source)

    before = threading.active_count()
    batches = answered(Counting(bundle), photos, batch_size=2)
    next(batches)
    time.sleep(0.2)
    assert 2 <= len(decoded) <= 6
    batches.close()
    count = len(decoded)
    time.sleep(0.1)
    assert len(decoded) == count
    assert threading.active_count() <= before  # threads of earlier tests may end meanwhile


class Stuck(OnnxClassifier):
    """Waits for some images, as for those on a drive that no longer answers."""

    def __init__(self, bundle: Path, stuck: Sequence[Path]) -> None:
        super().__init__(bundle)
        self.stuck = set(map(str, stuck))
        self.released = threading.Event()

    def preprocess(self, source: Any) -> np.ndarray:
        if str(source) in self.stuck:
            self.released.wait()
        return super().preprocess(source)


def test_an_image_that_does_not_come_costs_no_other_an_answer(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allencv.classify.answers.READING_SECONDS", 0.5)
    files = sorted(photos.rglob("*.jpg"))
    classifier = Stuck(bundle, files[2:3])
    records = [record for batch in answered(classifier, photos) for record in batch]
    classifier.released.set()
    assert [record["path"] for record in records] == list(map(str, files))
    errors = [record.get("error") for record in records]
    assert errors == [None] * 2 + [f"{files[2]}: not read within 0.5 seconds"] + [None] * 8


def test_where_no_thread_is_left_the_run_ends(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allencv.classify.answers.READING_SECONDS", 0.1)
    classifier = Stuck(bundle, sorted(photos.rglob("*.jpg")))
    with pytest.raises(InputError, match=r"001.jpg: not read within 0.1 seconds; expected files"):
        list(answered(classifier, photos))
    classifier.released.set()

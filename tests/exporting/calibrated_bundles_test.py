"""A calibrated archive as bundles of each format and precision."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.certainty.calibrate import calibrate
from allencv.certainty.fit_certainty import Wanted
from allencv.certainty.unknown_scores import Nearest
from allencv.common.archives import load_archive
from allencv.exporting import TorchClassifier, export_bundle
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime import OnnxClassifier, open_bundle, readable
from allencv.runtime.certainty import Certainty
from allencv.runtime.classifier import Classifier, judged
from allencv.runtime.errors import InputError

pytestmark = pytest.mark.slow
WANTED = Wanted(levels=[0.8, 0.9], target_accuracy=0.5, known_share=0.8)


@pytest.fixture(scope="module")
def archive_file(
    trained_run: Path, cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An archive that is calibrated on its training images."""
    file = shutil.copy(trained_run / "model.tar.gz", tmp_path_factory.mktemp("run"))
    calibrate(file, str(cats_and_dogs / "train"), WANTED, Nearest(3), show_progress=False)
    return Path(file)


@pytest.fixture(scope="module")
def bundle(archive_file: Path) -> Path:
    export_bundle(load_archive(archive_file), archive_file.parent / "bundle")
    return archive_file.parent / "bundle"


@pytest.fixture(scope="module")
def images(cats_and_dogs: Path) -> List[str]:
    return sorted(map(str, (cats_and_dogs / "test").rglob("*.jpg")))


def contents(found: Any) -> Dict[str, Any]:
    assert isinstance(found, Certainty)
    content = asdict(found)
    arrays = {**content.pop("unknown").pop("arrays"), "scores": content.pop("known_scores")}
    return {
        **content,
        **{name: array.tolist() for name, array in arrays.items()},
        "label_counts": content["label_counts"].tolist(),
    }


def answers_of(classifier: Classifier, images: List[str]) -> List[Any]:
    pixels = np.stack([classifier.preprocess(image) for image in images])
    answers = [readable(classifier, each) for each in judged(classifier, pixels)]
    for answer in answers:
        assert answer.keys() == {"label", "labels", "is_unknown", "is_answered", "top_k"}
    return [{key: value for key, value in answer.items() if key != "top_k"} for answer in answers]


def test_a_bundle_takes_the_calibration_of_its_archive(
    archive_file: Path, bundle: Path, images: List[str]
) -> None:
    archive, classifier = ArchiveClassifier(archive_file, "cpu"), OnnxClassifier(bundle)
    assert contents(classifier.certainty) == contents(archive.certainty)
    expected = answers_of(archive, images)
    assert answers_of(classifier, images) == expected
    assert len({str(each) for each in expected}) > 1
    manifest = open_bundle(bundle)
    assert manifest.parity is not None
    assert manifest.parity.decisions == 1
    assert {"certainty.json", "certainty.npz"} < manifest.files.keys()
    text = " ".join((bundle / "README.md").read_text().split())
    assert "For 100.00% it also decides the same about the set of labels" in text
    assert "hold a calibration of the float32 network." in text
    assert "Set of labels: for 80% of the images, the right label is in it." in text
    assert "24 of these also trained the model" in text


@pytest.mark.parametrize("precision", ["torch_export", "float16"])
def test_other_formats_decide_alike(
    archive_file: Path, images: List[str], tmp_path: Path, precision: str
) -> None:
    options = {"format": precision} if precision == "torch_export" else {"precision": precision}
    manifest = export_bundle(load_archive(archive_file), tmp_path / "bundle", **options)
    assert manifest.parity is not None
    assert manifest.parity.decisions is not None
    classifier: Any = (
        TorchClassifier(tmp_path / "bundle", trusted=True)
        if precision == "torch_export"
        else OnnxClassifier(tmp_path / "bundle")
    )
    expected = ArchiveClassifier(archive_file, "cpu")
    assert contents(classifier.certainty) == contents(expected.certainty)
    same = [a == b for a, b in zip(answers_of(classifier, images), answers_of(expected, images))]
    assert np.mean(same) >= (1 if precision == "torch_export" else 0.8)


def test_int8_is_calibrated_anew(archive_file: Path, cats_and_dogs: Path, tmp_path: Path) -> None:
    quantized_on = sorted(map(str, (cats_and_dogs / "val").rglob("*.jpg")))
    manifest = export_bundle(
        load_archive(archive_file), tmp_path / "int8", "onnx", "int8", None, quantized_on
    )
    assert manifest.parity is not None
    assert manifest.parity.decisions is not None
    before = ArchiveClassifier(archive_file, "cpu").certainty
    classifier = OnnxClassifier(tmp_path / "int8")
    found = classifier.certainty
    assert before is not None
    assert found is not None
    assert (found.precision, found.images, found.overlap) == ("int8", 24, 24)
    assert found.data == before.data
    # What is kept of the training images stays; limits and scores are its own.
    assert found.unknown is not None
    assert before.unknown is not None
    kept = [each.unknown.arrays["kept"] for each in (found, before) if each.unknown is not None]
    assert np.array_equal(*kept)
    assert found.unknown.limit != before.unknown.limit
    assert found.sets is not None
    assert before.sets is not None
    assert (found.sets.kind, found.sets.levels) == (before.sets.kind, before.sets.levels)
    assert found.selection is not None
    assert found.selection.target_accuracy == 0.5
    # On the calibration images themselves the promises are kept.
    files = sorted(map(str, (cats_and_dogs / "train").rglob("*.jpg")))
    answers = answers_of(classifier, files)
    held = [Path(file).parent.name in each["labels"] for file, each in zip(files, answers)]
    assert np.mean(held) >= 0.8
    assert np.mean([each["is_unknown"] for each in answers]) <= 0.2


def test_int8_needs_the_images(
    archive_file: Path, cats_and_dogs: Path, tmp_path: Path, trained_run: Path
) -> None:
    copy = Path(shutil.copy(trained_run / "model.tar.gz", tmp_path))
    labelled = shutil.copytree(cats_and_dogs / "train", tmp_path / "labelled")
    calibrate(copy, str(labelled), WANTED, show_progress=False)
    shutil.rmtree(labelled)
    archive = load_archive(copy)
    quantized_on = sorted(map(str, (cats_and_dogs / "val").rglob("*.jpg")))
    given: Dict[str, Any] = {"precision": "int8", "quantization_images": quantized_on}
    with pytest.raises(
        InputError, match="int8 is calibrated again, .*labelled' cannot be read"
    ) as e:
        export_bundle(archive, tmp_path / "int8", **given)
    assert "expected --calibration-data" in str(e.value)
    assert not (tmp_path / "int8").exists()
    data = str(cats_and_dogs / "val")
    export_bundle(archive, tmp_path / "int8", **given, calibration_data=data, parity=False)
    found = OnnxClassifier(tmp_path / "int8").certainty
    assert found is not None
    # All ten chose the epoch, and it was quantized on them.
    assert (found.images, found.data, found.overlap) == (10, data, 10)
    export_bundle(archive, tmp_path / "plain", **given, certainty=False)
    assert OnnxClassifier(tmp_path / "plain").certainty is None
    assert open_bundle(tmp_path / "plain").files.keys() == {"README.md", "model.onnx"}


def test_data_for_certainty_without_use_are_refused(archive_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="int8 bundles of calibrated models use"):
        export_bundle(load_archive(archive_file), tmp_path / "bundle", calibration_data="photos")


def test_decisions_far_from_a_limit_must_be_the_same(
    archive_file: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = load_archive(archive_file)

    class Undecided(OnnxClassifier):
        """Its vectors point elsewhere, so it takes all images for unknown."""

        def outputs(self, images: np.ndarray) -> Any:
            probabilities, vectors = super().outputs(images)
            return probabilities, -vectors

    monkeypatch.setattr(
        "allencv.exporting.bundle_export._opened", lambda folder, format: Undecided(folder)
    )
    with pytest.raises(ConfigurationError, match="decides differently .*'is_unknown' differs for"):
        export_bundle(archive, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()

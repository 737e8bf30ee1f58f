import logging
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.training.util import data_loaders_from_params

from allencv.data.corrections import LABEL, NONE, SKIP, Correction, as_line, as_row, columns
from allencv.data.dataset_readers import CorrectedReader, ImageFolderReader, ImageTableReader
from allencv.data.inspection import read_splits
from tests.conftest import write_images

Answers = Dict[str, Tuple[str, Any, Any]]
"""The answer, the labels and the previous labels, by the path below the folder of the test."""


def write_answers(folder: Path, answers: Answers, multi_label: bool = False) -> str:
    """Write `corrections.csv`. Labels are strings, or tuples of them with `multi_label`."""

    def as_tuple(given: Any) -> Optional[Tuple[str, ...]]:
        return (given,) if isinstance(given, str) else given

    lines = [as_line(columns(multi_label))]
    for name, (answer, labels, previous) in answers.items():
        path = str(folder / name)
        correction = Correction(path, answer, as_tuple(labels) or (), as_tuple(previous), "now")
        lines.append(as_row(correction, str(folder), columns(multi_label)))
    (folder / "corrections.csv").write_text("".join(lines))
    return str(folder / "corrections.csv")


ANSWERS: Answers = {
    "pets/cat/000.jpg": (LABEL, "dog", "cat"),
    "pets/cat/001.jpg": (LABEL, "cat", "cat"),
    "pets/dog/000.jpg": (NONE, None, "dog"),
    "pets/dog/001.jpg": (SKIP, None, "dog"),
    "new/x/001.jpg": (LABEL, "cat", None),
    "new/x/000.jpg": (LABEL, "dog", None),
    "new/x/002.jpg": (NONE, None, None),
}
CORRECTED = [
    ("pets/cat/000.jpg", "dog"),
    ("pets/cat/001.jpg", "cat"),
    ("pets/cat/002.jpg", "cat"),
    ("pets/dog/001.jpg", "dog"),
    ("new/x/001.jpg", "cat"),
    ("new/x/000.jpg", "dog"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "pets", {"cat": 3, "dog": 2}, size=10)
    write_images(tmp_path / "new", {"x": 3}, size=10)
    return tmp_path


def listed(instances: Any) -> List[Tuple[str, str]]:
    return [
        (
            "/".join(Path(each["metadata"].metadata["image"]).parts[-3:]),
            each["label"].label,
        )
        for each in instances
    ]


def config(file: str, **more: Any) -> Dict[str, Any]:
    reader = {"type": "image_folder", "transforms": [{"type": "resize", "size": [8, 8]}]}
    return {"type": "corrected", "reader": reader, "corrections": file, **more}


def read(file: str, path: Path, **more: Any) -> List[Tuple[str, str]]:
    return listed(DatasetReader.from_params(Params(config(file, **more))).read(str(path)))


def test_the_answers_lie_over_the_data(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = write_answers(folder, ANSWERS)
    assert read(file, folder / "pets") == CORRECTED
    assert (
        "labels changed: 1. Images left out: 1 with the answer 'none', 0 without an answer. "
        "Images added: 2" in caplog.text
    )
    assert sorted(path.name for path in (folder / "pets" / "cat").iterdir())[0] == "000.jpg"


@pytest.mark.parametrize("type", ["image", "multiprocess"])
def test_in_the_loaders(folder: Path, type: str) -> None:
    params = {
        "dataset_reader": config(write_answers(folder, ANSWERS)),
        "train_data_path": str(folder / "pets"),
        "data_loader": {"type": type, "batch_size": 4, "num_workers": 2},
    }
    loader = data_loaders_from_params(Params(params))["train"]
    instances = list(loader.iter_instances())
    assert sorted(listed(instances)) == sorted(CORRECTED)
    assert {tuple(each["image"].as_tensor({}).shape) for each in instances} == {(3, 8, 8)}


def test_the_validation_images_do_not_get_the_added_ones(folder: Path) -> None:
    write_images(folder / "val", {"cat": 1}, size=10)
    file = write_answers(folder, ANSWERS)
    params: Dict[str, Any] = {
        "dataset_reader": config(file, unknown_images="skip"),
        "train_data_path": str(folder / "pets"),
        "validation_data_path": str(folder / "val"),
    }
    message = 'adds the 2 images without a label .* to .*pets and to .*val; .* unlabelled "skip"'
    with pytest.raises(ConfigurationError, match=message):
        read_splits(Params(deepcopy(params)))
    params["validation_dataset_reader"] = config(file, unknown_images="skip", unlabelled="skip")
    train, validation = read_splits(Params(params))
    assert [len(train.samples), len(validation.samples)] == [6, 1]
    reader = CorrectedReader(ImageFolderReader(), write_answers(folder, ANSWERS))
    for _ in range(2):  # a second epoch
        assert listed(reader.read(str(folder / "pets"))) == CORRECTED


def test_images_that_are_not_read(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(folder / "more", {"cat": 1}, size=10)
    answers = {**ANSWERS, "more/cat/000.jpg": (LABEL, "dog", "cat")}
    file = write_answers(folder, answers)
    message = r"answers to images that are not in .*pets \(1\): .*more/cat/000.jpg; expected all"
    with pytest.raises(ConfigurationError, match=message):
        read(file, folder / "pets")
    assert read(file, folder / "pets", unknown_images="skip") == CORRECTED
    assert "skipped answers to images that are not in" in caplog.text


def test_an_added_image_must_exist(folder: Path) -> None:
    file = write_answers(folder, {**ANSWERS, "new/gone.jpg": (LABEL, "cat", None)})
    message = r"images that do not exist \(1 of 3\): .*new/gone.jpg; expected them relative to "
    with pytest.raises(ConfigurationError, match=message):
        read(file, folder / "pets")
    assert read(file, folder / "pets", unlabelled="skip") == CORRECTED[:4]


def test_a_new_label(folder: Path) -> None:
    file = write_answers(folder, {**ANSWERS, "pets/cat/002.jpg": (LABEL, "fox", "cat")})
    with pytest.raises(ConfigurationError, match=r"has the labels \(1\) fox of .*new_labels .add."):
        read(file, folder / "pets")
    assert ("pets/cat/002.jpg", "fox") in read(file, folder / "pets", new_labels="add")


def test_labels_that_changed_since(folder: Path) -> None:
    file = write_answers(folder, {"pets/cat/000.jpg": (LABEL, "dog", "fox")})
    message = r"labels of 1 image have changed since .*000.jpg \(reviewed with fox, now cat\)"
    with pytest.raises(ConfigurationError, match=message):
        read(file, folder / "pets")
    # The data have the answer already, as after the files were moved.
    file = write_answers(folder, {"pets/cat/000.jpg": (LABEL, "cat", "dog")})
    assert read(file, folder / "pets")[0] == ("pets/cat/000.jpg", "cat")


def test_of_images_without_labels_the_answered_ones(folder: Path) -> None:
    reader = ImageFolderReader(labelled=False, recursive=True)
    corrected = CorrectedReader(reader, write_answers(folder, ANSWERS), new_labels="add")
    with pytest.raises(ConfigurationError, match="answers to images that are not in"):
        list(corrected.read(str(folder / "new")))
    answers = {name: answer for name, answer in ANSWERS.items() if name.startswith("new")}
    corrected = CorrectedReader(reader, write_answers(folder, answers), new_labels="add")
    expected = [("new/x/000.jpg", "dog"), ("new/x/001.jpg", "cat")]
    assert listed(corrected.read(str(folder / "new"))) == expected


def test_several_labels(folder: Path) -> None:
    (folder / "t.csv").write_text("file,genres\npets/cat/000.jpg,a b\npets/cat/001.jpg,a\n")
    reader = ImageTableReader("file", labels_column="genres", labels_delimiter=" ")
    answers: Answers = {
        "pets/cat/000.jpg": (LABEL, ("b",), ("b", "a")),
        "pets/cat/001.jpg": (LABEL, (), ("a",)),
        "new/x/000.jpg": (LABEL, ("a", "b"), None),
    }
    corrected = CorrectedReader(reader, write_answers(folder, answers, multi_label=True))
    found = [sample.labels for sample in corrected.read_samples(str(folder / "t.csv"))]
    assert found == [["b"], [], ["a", "b"]]
    write_answers(folder, ANSWERS)
    with pytest.raises(ConfigurationError, match=r"has one label an image, but .*reader does not"):
        corrected.read_samples(str(folder / "t.csv"))


def test_max_instances(folder: Path) -> None:
    file = write_answers(folder, ANSWERS)
    assert read(file, folder / "pets", max_instances=2) == CORRECTED[:2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"reader": {"type": "babi"}}, "dataset_reader.reader is a .*; expected a reader of image"),
        ({"unlabelled": "ad"}, "dataset_reader.unlabelled is 'ad'; expected one of add, skip"),
        ({"unknown_images": "add"}, "dataset_reader.unknown_images is 'add'; expected one of"),
        ({"new_labels": "skip"}, "dataset_reader.new_labels is 'skip'; expected one of"),
    ],
)
def test_wrong_arguments(more: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DatasetReader.from_params(Params({**config("c.csv"), **deepcopy(more)}))

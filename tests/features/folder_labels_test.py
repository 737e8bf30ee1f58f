from pathlib import Path
from typing import Dict, List, Optional, Sequence

import pytest

from allencv.features.folder_labels import labels_of
from allencv.fitting.folder_layout import find_in_folder
from allencv.fitting.options import FolderOptions, TableColumns


def labels_in(root: Path, images: Sequence[str], paths: Sequence[str] = ("pets",)) -> List:
    """The labels of images that are there, in the working directory `root`."""
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / image).touch()
    return labels_of(paths, images)


CASES: Dict[str, Dict[str, Optional[str]]] = {
    "classes": {"Cat/1.jpg": "Cat", "Cat/old/2.jpg": "Cat", "Dog/1.jpg": "Dog", "1.jpg": None},
    "one class": {"Cat/1.jpg": "Cat", "Cat/2.jpg": "Cat"},
    "no class": {"1.jpg": None, "2.jpg": None},
    "splits": {
        "train/Cat/1.jpg": "Cat",
        "train/Dog/1.jpg": "Dog",
        "val/Dog/1.jpg": "Dog",
        "Testing/Cat/old/1.jpg": "Cat",
    },
    "one class in a split": {"train/Cat/1.jpg": "Cat", "train/Cat/2.jpg": "Cat"},
    "split without classes": {
        "train/Cat/1.jpg": "Cat",
        "train/Dog/1.jpg": "Dog",
        "test/1.jpg": None,
    },
    "folder in between": {"images/Cat/1.jpg": "Cat", "images/Dog/old/1.jpg": "Dog"},
    "splits in between": {"images/train/Cat/1.jpg": "Cat", "images/val/Dog/old/2.jpg": "Dog"},
    "class called train": {"train/1.jpg": "train", "car/1.jpg": "car"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", ["pets", "./pets//", "{root}/pets"])
def test_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    expected = CASES[case]
    path = path.format(root=tmp_path)
    assert labels_in(tmp_path, [f"{path}/{name}" for name in expected], [path]) == list(
        expected.values()
    )


@pytest.mark.parametrize("case", ["classes", "splits", "folder in between", "class called train"])
def test_the_folders_that_fit_takes_as_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = labels_in(tmp_path, [f"pets/{name}" for name in CASES[case]])
    found = find_in_folder("pets", TableColumns(), FolderOptions(recursive=True))
    classes = {each.name for each in Path(str(found.train_path)).iterdir() if each.is_dir()}
    assert classes == set(labels) - {None}

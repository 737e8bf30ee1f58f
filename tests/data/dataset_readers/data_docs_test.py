"""The configs of docs/data.md, on data as the page describes it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List

import _jsonnet
import fsspec
import pytest
from allennlp.common import Params
from allennlp.data import DatasetReader

from tests.conftest import ROOT, write_images

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
OURS = ("image_folder", "image_table", "image_list", "concat")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def configs() -> Iterator[Dict[str, Any]]:
    for text in blocks("jsonnet"):
        config = json.loads(_jsonnet.evaluate_snippet("docs/data.md", text))
        if config.get("dataset_reader", {}).get("type") in OURS:
            yield config


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "pets" / "train", {"cat": 4, "dog": 4}, size=4)
    write_images(tmp_path / "pets" / "unlabelled", {"a": 2}, size=4)
    shutil.copy("pets/train/cat/000.jpg", "pets/train/cat/000_mask.jpg")
    (table,) = [text for text in blocks("text") if text.startswith("Id,")]
    Path("posters").mkdir()
    Path("posters/metadata.csv").write_text(table)
    Path("flowers").mkdir()
    (lists,) = [text for text in blocks("text") if "train_list" in text]
    for text in lists.split("\n\n"):
        name, _, content = text.removeprefix("# ").partition("\n")
        Path(name).write_text(content)
    (multi,) = [text for text in blocks("text") if "\t" in text]
    Path("flowers/train_multi.txt").write_text(multi)
    with fsspec.open("memory://flowers/files.csv", "w") as file:
        file.write("file\na.jpg\n")
    return tmp_path


def read(config: Dict[str, Any]) -> List[Any]:
    """The first label of each image, or `None`."""
    reader = DatasetReader.from_params(Params(config["dataset_reader"]))
    instances = list(reader.read(config["train_data_path"]))
    return [
        each["label"].label
        if "label" in each
        else each["labels"].labels
        if "labels" in each
        else None
        for each in instances
    ]


def test_the_configs_read_what_the_page_says(data: Path) -> None:
    flowers = ["pink primrose", "hard-leaved pocket orchid"]
    assert [read(config) for config in configs()] == [
        ["cat"] * 5 + ["dog"] * 4,
        ["cat"] * 4 + ["dog"] * 4,
        [None, None],
        [("Comedy", "Drama"), ("Drama",), ("Comedy",), ("Action",)],
        flowers,
        [(flowers[1],)],
        ["cat"] * 4 + ["dog"] * 3,
        flowers + ["cat"] * 5 + ["dog"] * 4,
        [None],
    ]


def test_both_sides_of_the_split(data: Path) -> None:
    (config,) = [config for config in configs() if "validation_dataset_reader" in config]
    train = read(config)
    held_out = read({**config, "dataset_reader": config["validation_dataset_reader"]})
    assert sorted(train + held_out) == ["cat"] * 5 + ["dog"] * 4
    assert sorted(held_out) == ["cat", "dog"]

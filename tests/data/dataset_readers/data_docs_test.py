"""The configs of docs/data.md, on data as the page describes it."""

import json
import re
import shlex
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterator, List

import _jsonnet
import fsspec
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.data import DataLoader, DatasetReader

import allencv.plugin  # noqa: F401
from allencv.data.class_weightings import ClassWeighting
from tests.configs import experiment
from tests.conftest import ROOT, Run, write_images

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
OURS = ("image_folder", "image_table", "image_list", "concat")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@lru_cache
def evaluated(*texts: str) -> str:
    """The values of texts of Jsonnet, as a list in JSON: at once, as each call takes long."""
    values = ",".join(f"({text}\n)" for text in texts)
    return str(_jsonnet.evaluate_snippet("docs/data.md", f"[{values}]"))


def configs() -> Iterator[Dict[str, Any]]:
    for config in json.loads(evaluated(*blocks("jsonnet"))):
        if config.get("dataset_reader", {}).get("type") in OURS:
            yield config


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "pets" / "train", {"cat": 4, "dog": 4}, size=4)
    write_images(tmp_path / "pets" / "unlabelled", {"a": 2}, size=4)
    write_images(tmp_path / "scans" / "train", {"cat": 1, "dog": 1}, size=4)
    shutil.copy("pets/train/cat/000.jpg", "pets/train/cat/000_mask.jpg")
    (table,) = [text for text in blocks("text") if text.startswith("Id,")]
    write_images(tmp_path, {"breeds": 1}, size=4)
    shutil.move("breeds/000.jpg", "breeds/Bengal_12.jpg")
    Path("birds").mkdir()
    rows = ["a.jpg,wren,train", "b.jpg,finch,train", "c.jpg,wren,val"]
    Path("birds/birds.csv").write_text("\n".join(["file,species,split", *rows]))
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
        ["Bengal"],
        ["cat"] * 4 + ["dog"] * 4,
        [None, None],
        [("Comedy", "Drama"), ("Drama",), ("Comedy",), ("Action",)],
        ["wren", "finch"],
        flowers,
        [(flowers[1],)],
        ["cat"] * 4 + ["dog"] * 3,
        ["cat"] * 3 + ["dog"] * 3,
        ["cat", "dog"],
        flowers + ["cat"] * 5 + ["dog"] * 4,
        [None],
    ]


def test_both_sides_of_the_split_and_of_the_fold(data: Path) -> None:
    expected = (["cat", "dog"], ["cat", "cat", "dog"])
    pairs = [config for config in configs() if "validation_dataset_reader" in config]
    for config, validation in zip(pairs, expected, strict=True):
        train = read(config)
        held_out = read({**config, "dataset_reader": config["validation_dataset_reader"]})
        assert sorted(train + held_out) == ["cat"] * 5 + ["dog"] * 4
        assert sorted(held_out) == validation


def test_class_weightings(data: Path) -> None:
    """Those of the table, and that of the config, in a loader of the folder of the page."""
    texts = re.findall(r"^\| `(\{ type: .*?)` \| .* \|$", PAGE, re.MULTILINE)
    assert len(texts) == len(ClassWeighting.list_available())
    (config,) = [text for text in blocks("jsonnet") if "class_weighting" in text]
    params, *weightings = json.loads(evaluated(config, *texts))
    reader = DatasetReader.from_params(Params({"type": "image_folder"}))
    for weighting in weightings:
        ClassWeighting.from_params(Params(weighting))({"cat": 5, "dog": 4})
    loader = DataLoader.from_params(
        Params(params["data_loader"]), reader=reader, data_path="pets/train"
    )
    assert loader.labels() == {"cat": 5, "dog": 4}


def test_the_model_of_a_split_is_evaluated_on_all_images(data: Path, run: Run) -> None:
    """The command of the page, after a training with the reader of the page."""
    write_images(data / "pets" / "test", {"cat": 3, "dog": 4}, size=16, seed=1)
    (config, _) = [config for config in configs() if "validation_dataset_reader" in config]
    resize = [{"type": "resize", "size": [16, 16]}]
    changed = {
        f"{key}__{name}": value
        for key in ("dataset_reader", "validation_dataset_reader")
        for name, value in (("split", config[key]["split"]), ("transforms", resize))
    }
    params = experiment(data, **changed, trainer__num_epochs=1)
    params["train_data_path"] = params["validation_data_path"] = config["train_data_path"]
    train_model(Params(params), str(data / "runs" / "pets"))
    shutil.copy(ROOT / ".allennlp_plugins", data)
    (command,) = [text for text in blocks("bash") if "evaluate" in text]
    # The loader counts the images of each class in the log.
    assert "7 images in pets/test: cat 3, dog 4" in run(*shlex.split(command), cwd=data).stderr

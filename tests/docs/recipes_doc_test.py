"""The commands of docs/recipes.md, run as printed, on small data and with small networks."""

import inspect
import re
import shlex
import shutil
from pathlib import Path
from typing import List

import pytest
import timm
import torch
from allennlp.common import Params
from allennlp.data import DatasetReader
from torchvision.datasets import Flowers102

from tests.conftest import ROOT
from tests.recipes import CONFIGS, DATA, QUICK, SMALL_IMAGES, run_here, train_command

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def commands(block: str) -> List[str]:
    return block.replace("\\\n", "").splitlines()


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"bash", "jsonnet"}


HEADERS = [shlex.split(train_command(file)) for file in CONFIGS]
"""The commands that `training_config_test.py` trains by."""


@pytest.mark.parametrize(
    "block",
    [
        block
        for block in blocks("bash")
        if "training_config/" in block
        if [shlex.split(line) for line in commands(block)] not in [[words] for words in HEADERS]
    ],
    ids=lambda block: block.split()[-1],
)
def test_the_commands(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, *others = commands(block)
    (name,) = re.findall(r"training_config/(\w+)\.jsonnet", train)
    folder, write = DATA[name]
    write(tmp_path / folder)
    run_here(train, tmp_path, monkeypatch, **QUICK[name], **SMALL_IMAGES[name])
    for command in others:
        run_here(command, tmp_path, monkeypatch)
    run = tmp_path / shlex.split(train.split(" -s ")[1])[0]
    assert (run / "model.tar.gz").exists()
    shutil.rmtree(run)


def test_a_config_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = [block for block in blocks("bash") if "lite0.jsonnet" in block]
    (config,) = [block for block in blocks("jsonnet") if "import" in block]
    folder, write = DATA["hymenoptera"]
    write(tmp_path / folder)
    (tmp_path / "lite0.jsonnet").write_text(config)
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / "lite0.pth")
    small = {**QUICK["hymenoptera"], **SMALL_IMAGES["hymenoptera"]}
    run_here(command.strip(), tmp_path, monkeypatch, **small)
    assert (tmp_path / "runs" / "lite0" / "model.tar.gz").exists()
    shutil.rmtree(tmp_path / "runs")


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_has_its_section(file: Path) -> None:
    (section,) = [
        part
        for part in re.split(r"^## ", PAGE, flags=re.M)
        if f"](../training_config/{file.name})" in part
    ]
    printed = [
        line
        for block in re.findall(r"```bash\n(.*?)```", section, re.S)
        for line in commands(block)
    ]
    words = [shlex.split(line) for line in printed]
    assert shlex.split(train_command(file)) in words, "the command of the config's header"
    assert re.search(rf"^\| \[{file.stem}\]\(#[\w-]+\) \|", PAGE, re.MULTILINE), (
        "a row in the table"
    )


def test_flowers_of_torchvision(tmp_path: Path) -> None:
    """They are not here to be read; but the reader is built, and torchvision takes the paths."""
    (text,) = [block for block in blocks("jsonnet") if "Flowers102" in block]
    (tmp_path / "data.jsonnet").write_text(text)
    config = Params.from_file(tmp_path / "data.jsonnet").as_dict()
    reader = DatasetReader.from_params(Params(config["dataset_reader"]))
    assert reader.download
    for path in (config["train_data_path"], config["validation_data_path"]):
        inspect.signature(Flowers102).bind(**path)
        assert path["split"] in ("train", "val")

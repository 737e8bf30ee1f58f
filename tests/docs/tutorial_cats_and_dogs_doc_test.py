"""The commands and the code of docs/tutorial_cats_and_dogs.md, in their order, on small data."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
import timm
import torch
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from tests.conftest import ROOT, write_images
from tests.recipes import run_here
from tests.tutorial_test import COMMAND, run_command

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "tutorial_cats_and_dogs.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


SPLIT, CHECK, EXPORT_AND_TRAIN, EVALUATE, PREDICT, TODAY_AND_FIT = blocks("bash")
EXPORT, TRAIN = EXPORT_AND_TRAIN.split("\n", 1)
TODAY, FIT = TODAY_AND_FIT.replace("\\\n", "").splitlines()
SPLIT_CODE, PYTHON = blocks("python")
(ANSWER,) = blocks("json")
TABLE, FITTED = blocks("text")
SMALL: Dict[str, Any] = {
    "dataset_reader.transforms.0.size": [32, 32],
    "validation_dataset_reader.transforms.0.size": 32,
    "model.im2im_encoder.resnet_model": "resnet18",
    "model.im2im_encoder.weights": None,
    "model.im2vec_encoder.input_channels": 512,
    "trainer.num_epochs": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like a clone, with photographs that are not yet split."""
    folder = tmp_path_factory.mktemp("pets")
    (folder / "training_config").symlink_to(ROOT / "training_config")
    (folder / ".allennlp_plugins").symlink_to(ROOT / ".allennlp_plugins")
    write_images(folder / "data" / "PetImages", {"Cat": 15, "Dog": 15})
    (folder / "split_pets.py").write_text(SPLIT_CODE)
    program, *arguments = shlex.split(SPLIT)
    assert program == "python"
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    command = f"{EXPORT}\n{TRAIN.rstrip()} -o '{json.dumps(SMALL)}'"
    result = run_command(command, folder, folder)
    assert result.returncode == 0, result.stderr[-3000:]
    printed = (folder / "path/to/serialization/dir/out.log").read_text()
    for line in TABLE.splitlines():
        words = re.sub(r"[\d.]+|\s+", " ", line).strip(" /")
        assert words in re.sub(r"[\d.]+|\s+", " ", printed), line
    return folder


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"bash", "json", "python", "text"}


def test_the_published_command() -> None:
    assert TRAIN.strip() == COMMAND


def test_the_split(folder: Path) -> None:
    counts = [len(list(folder.glob(f"data/PetImages/{s}/*/*.jpg"))) for s in ("train", "val")]
    assert counts == [24, 6]
    assert sorted(path.name for path in (folder / "data/PetImages").iterdir()) == ["train", "val"]


def test_check_data(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run_here(CHECK.replace("\\\n", ""), folder, monkeypatch)
    assert "30 images checked" in capsys.readouterr().out


def test_what_the_run_has(trained: Path) -> None:
    run = trained / "path/to/serialization/dir"
    for name in ("model.tar.gz", "metrics.json", "out.log"):
        assert f"`{name}`" in PAGE
        assert (run / name).is_file()
    assert (run / "vocabulary/labels.txt").read_text().split() == ["Cat", "Dog"]


def test_what_the_page_says_of_the_config() -> None:
    variables = {"TRAIN_PATH": "train", "VALIDATION_PATH": "val"}
    config = Params.from_file(ROOT / "training_config/image_classifier.jsonnet", "", variables)
    model = config["model"]
    named = (config["dataset_reader"], model, model["im2im_encoder"], model["im2vec_encoder"])
    assert all(f"`{part['type']}`" in PAGE for part in named)


def test_evaluate_and_predict(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_here(EVALUATE, trained, monkeypatch)
    assert json.loads((trained / "val.json").read_text()).keys() == {"accuracy", "loss"}
    write, predict = PREDICT.splitlines()
    subprocess.run(["bash", "-ec", write], cwd=trained, check=True)
    run_here(predict, trained, monkeypatch)
    answers = [json.loads(line) for line in (trained / "answers.jsonl").read_text().splitlines()]
    names = [Path(answer["metadata"]["image"]).name for answer in answers]
    assert names == 2 * ["000.jpg", "010.jpg"]
    assert answers[0].keys() == json.loads(ANSWER).keys()
    assert answers[0]["top_k"][0].keys() == json.loads(ANSWER)["top_k"][0].keys()


def test_today(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run_here(TODAY, folder, monkeypatch, **SMALL)
    assert (folder / "runs/pets/model.tar.gz").is_file()
    (options,) = re.findall(r"with\n`(--backbone .*?)`:", PAGE)
    network = timm.create_model("tf_efficientnet_lite0")
    torch.save(network.state_dict(), folder / "lite0.pth")
    capsys.readouterr()
    run_here(f"{FIT} {options}".replace(" -o ", " --output "), folder, monkeypatch)
    printed = capsys.readouterr().out
    for line in FITTED.splitlines():
        if line != "...":
            words = re.sub(r"\d[\d.:]*", "0", line)
            assert words in re.sub(r"\d[\d.:]*", "0", printed), line
    assert (folder / "runs/fit.jsonnet").read_text().count("//") > 3


def test_the_python_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(folder)
    code = PYTHON
    for printed, small in {
        "size=224": "size=32",
        'ResnetEncoder("resnet50")': 'ResnetEncoder("resnet18", weights=None)',
        "input_channels=2048": "input_channels=512",
        "num_epochs=5": "num_epochs=1, cuda_device=-1",
    }.items():
        assert printed in code
        code = code.replace(printed, small)
    exec(compile(code, "tutorial_cats_and_dogs.md", "exec"), {})
    assert 0 <= float(capsys.readouterr().out.splitlines()[-1]) <= 1

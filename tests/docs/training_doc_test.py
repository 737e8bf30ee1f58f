"""The config of docs/training.md, used as it is printed, and the names that the page gives."""

import inspect
import re
from pathlib import Path

from allennlp.commands.train import train_model
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from allencv.training import ImageTrainer
from allencv.training.changed_config import MAY_CHANGE, OF_IMAGES_PER_STEP
from tests.configs import experiment
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_trainer(cats_and_dogs: Path, tmp_path: Path) -> None:
    (text,) = re.findall(r"^```jsonnet\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"jsonnet", "text"}
    (tmp_path / "fragment.jsonnet").write_text(f"{{ {text} }}")
    trainer = Params.from_file(str(tmp_path / "fragment.jsonnet"))["trainer"].as_dict()
    config = experiment(cats_and_dogs)
    config["trainer"] = {**trainer, "num_epochs": 4, "cuda_device": -1}
    train_model(Params(config), str(tmp_path / "run"))
    assert (tmp_path / "run" / "model.tar.gz").exists()


def test_every_key_is_one_of_the_trainers() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    keys = {key for row in rows for key in re.findall(r"`(?:trainer\.)?(\w+)`", row)}
    assert len(keys) == 21
    assert keys <= set(inspect.signature(ImageTrainer.from_partial_objects).parameters)


def test_what_may_change_in_a_recovered_run() -> None:
    section = PAGE.partition("You may change these keys")[2].partition("Every other change")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    keys = {key for cell in cells for key in re.findall(r"`([\w.]+)`", cell)}
    changed = {key if "." in key else f"trainer.{key}" for key in keys}
    deeper = {"callbacks": "callbacks.0.count"}
    for part in ("learning_rate_scheduler", "momentum_scheduler", "moving_average"):
        deeper[part] = f"{part}.decay"
    for key in changed:
        name = key.removeprefix("trainer.")
        path = f"trainer.{deeper[name]}" if name in deeper else key
        path = name if name == "distributed" else path
        assert MAY_CHANGE.fullmatch(path) or OF_IMAGES_PER_STEP.fullmatch(path), key
    assert len(changed) == 27

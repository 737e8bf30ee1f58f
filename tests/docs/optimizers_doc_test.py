"""The commands and the code of docs/optimizers.md, run as they are printed."""

import re
import shlex
from pathlib import Path
from typing import Any, List

import pytest
from allennlp.common import Lazy, Params
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.optimizers import Optimizer

import allencv.plugin
import allencv.training.optimizers  # noqa: F401
from tests.conftest import ROOT, Run, write_images
from tests.training.parameter_groups_test import Classifier

PAGE = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


FRAGMENTS = [text for text in blocks("jsonnet") if not text.startswith("local")]
(CONFIG,) = [text for text in blocks("jsonnet") if text not in FRAGMENTS]
TRAIN, *_ = blocks("bash")


def table(heading: str) -> List[str]:
    """The names in the first column of the table with this heading."""
    rows = re.search(rf"^\| name \| {heading}.*?\n\n", PAGE, re.DOTALL | re.MULTILINE)[0]
    first = [row.split("|")[1] for row in rows.strip().splitlines()]
    return re.findall(r"`(\w+)`", "\n".join(first))


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"jsonnet", "bash", "python"}
    assert len(blocks("bash")) == 1


def test_every_name_is_registered() -> None:
    assert len(table("what it is")) == 20
    assert set(table("what it is")) <= set(Optimizer.list_available())
    assert len(table("after the warm-up")) == 6
    assert set(table("after the warm-up")) <= set(LearningRateScheduler.list_available())


@pytest.mark.parametrize("text", FRAGMENTS)
def test_a_part_of_a_trainer(text: str, tmp_path: Path) -> None:
    (tmp_path / "part.jsonnet").write_text(f"{{ {text} }}")
    params: Any = Params.from_file(str(tmp_path / "part.jsonnet"))
    params = params.get("trainer", params)
    model = Classifier("test_resnet")
    parameters = list(model.named_parameters())
    optimizer = Optimizer.from_params(
        params.get("optimizer", Params({"type": "adamw"})),
        model_parameters=parameters,
        model=model,
    )
    if "learning_rate_scheduler" in params:
        Lazy(LearningRateScheduler, params=params["learning_rate_scheduler"]).construct(
            optimizer=optimizer, num_epochs=30, num_steps_per_epoch=10
        )
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(parameters)


def test_training(run: Run, tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        write_images(tmp_path / "pets" / split, {"cat": 8, "dog": 8}, seed=seed)
    (tmp_path / "pets.jsonnet").write_text(CONFIG)
    run(*shlex.split(TRAIN), "-o", '{"trainer.num_epochs": 1}', cwd=tmp_path)
    assert (tmp_path / "runs" / "pets" / "model.tar.gz").exists()


def test_the_python_way(capsys: pytest.CaptureFixture) -> None:
    (code,) = blocks("python")
    exec(compile(code, "optimizers.md", "exec"), {})
    printed = [float(rate) for rate in capsys.readouterr().out.split()]
    assert printed[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert printed[4:] == sorted(printed[4:], reverse=True)

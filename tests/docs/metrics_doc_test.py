"""The commands and the code of docs/metrics.md, run as they are printed."""

import json
import re
import shlex
from pathlib import Path
from typing import List

import pytest
import torch
from allennlp.common import Params
from allennlp.training.metrics import Metric

import allencv.plugin  # noqa: F401
from allencv.training.metrics import METRICS
from tests.conftest import ROOT, Run, write_images

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


CONFIG, FRAGMENT = blocks("jsonnet")
(TRAIN,) = blocks("bash")


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"jsonnet", "bash", "python"}


def test_the_tables_have_every_metric() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(names) == len(set(names))
    ours = {"top_k_accuracy", "balanced_accuracy", "per_class", "confusion_matrix", "stat_scores"}
    named = {Metric.by_name(name) for name in names}
    assert named == {*METRICS.values(), *map(Metric.by_name, ours)}


def test_training(tmp_path: Path, run: Run) -> None:
    for seed, split in enumerate(("train", "val")):
        write_images(tmp_path / "pets" / split, {"cat": 8, "dog": 8}, seed=seed)
    (tmp_path / "pets.jsonnet").write_text(CONFIG)
    run(*shlex.split(TRAIN), "-o", '{"trainer.num_epochs": 2}', cwd=tmp_path)
    metrics = json.loads((tmp_path / "runs" / "pets" / "metrics.json").read_text())
    for name in ("balanced_accuracy", "f1", "recall_cat", "recall_dog", "auroc", "ece"):
        for split in ("training", "validation", "best_validation"):
            assert 0 <= metrics[f"{split}_{name}"] <= 1, name
    # Both classes have as many images.
    assert metrics["best_validation_balanced_accuracy"] == metrics["best_validation_accuracy"]
    wrong = 16 * (1 - metrics["best_validation_accuracy"])
    found = [
        metrics.get(f"best_validation__confused_{pair}", 0) for pair in ("cat_as_dog", "dog_as_cat")
    ]
    assert sum(found) == pytest.approx(wrong)


def test_several_labels(tmp_path: Path) -> None:
    (tmp_path / "model.jsonnet").write_text(f"{{ {FRAGMENT} }}")
    metrics = Params.from_file(str(tmp_path / "model.jsonnet"))["metrics"]
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(40, 3, generator=generator)
    labels = torch.randint(2, (40, 3), generator=generator)
    for name in list(metrics):
        metric = Metric.from_params(metrics.pop(name))
        metric(probs, labels)
        value = metric.get_metric(reset=True)
        assert len(value) > 3 if name in ("labels", "at_95") else 0 < value < 1


def test_the_python_way(capsys: pytest.CaptureFixture) -> None:
    (code,) = blocks("python")
    exec(compile(code, "metrics.md", "exec"), {})
    auroc, confusions, *matrix = capsys.readouterr().out.splitlines()
    assert eval(auroc).keys() == {"cat", "dog", "eel"}
    assert eval(confusions) == {"dog_as_eel": 1.0}
    assert re.findall(r"\d", "".join(matrix)) == list("100011001")

"""Sweeps on the embedded Ray. By hand, as Ray and each of its runs take long to start."""

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest

from allencv.experiments.sweep import sweep
from allencv.runtime.ray_cluster import connected_ray
from tests.configs import experiment
from tests.conftest import write_images

pytestmark = pytest.mark.exhaustive

CALLBACK = """
from allennlp.training import TrainerCallback


@TrainerCallback.register("fail_with_seed_1")
class FailWithSeed1(TrainerCallback):
    def on_batch(self, trainer, *args, **kwargs):
        import pathlib, torch
        broken = pathlib.Path(self.serialization_dir).parent / "broken"
        if torch.initial_seed() == 1 and broken.exists():
            raise ValueError("the disk is full of cats")
"""


def metrics_of(runs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Those that do not depend on time or memory."""
    words = ("duration", "memory", "peak", "_s", "per_second")
    return [
        {key: value for key, value in run["metrics"].items() if not any(w in key for w in words)}
        for run in runs
    ]


def test_runs_on_ray_are_those_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """One fails, stops no other, and goes on when the sweep is repeated. Paths are relative."""
    pytest.importorskip("ray")
    for seed, part in enumerate(("train", "val")):
        write_images(tmp_path / part, {"cat": 4, "dog": 4}, seed=seed)
    (tmp_path / "own_callback.py").write_text(CALLBACK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = experiment(Path(), trainer__num_epochs=1, trainer__callbacks=["fail_with_seed_1"])
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "broken").touch()
    arguments: Any = (config, Path("runs"), "seed", 2, ["own_callback"], 2, True)
    with connected_ray():
        first, failed = sweep(*arguments)
        assert failed["error"] == "ValueError: the disk is full of cats"
        (tmp_path / "runs" / "broken").unlink()
        runs = sweep(*arguments)
    assert "seed_0: finished before" in capsys.readouterr().out
    assert runs[0] == first
    assert json.loads((tmp_path / "runs" / "sweep.json").read_text())["runs"] == runs
    here = sweep(config, Path("here"), "seed", 2, ["own_callback"])
    assert metrics_of(runs) == metrics_of(here)
    assert metrics_of(runs)[0] != metrics_of(runs)[1]

import json
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from allennlp.common import Params, Registrable
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.callbacks.wandb import WandBCallback as AllenNLPWandBCallback

from allencv.training.callbacks import WandBCallback
from allencv.training.callbacks import wandb as module

wandb = pytest.importorskip("wandb")

TRAINER = SimpleNamespace(model=torch.nn.Linear(2, 2), _total_batches_completed=1)


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    (tmp_path / "config.json").write_text(json.dumps({"model": {"type": "any"}}))
    (tmp_path / "out.log").write_text("")
    yield
    wandb.teardown()


def callback(folder):
    return TrainerCallback.from_params(Params({"type": "wandb"}), serialization_dir=str(folder))


def test_allennlps_own_class_still_fails(tmp_path):
    # Delete ours when this one can start.
    with pytest.raises(AttributeError, match="generate_id"):
        AllenNLPWandBCallback(str(tmp_path)).on_start(TRAINER)


def test_a_run_is_recorded_and_resumed_under_its_name(tmp_path):
    first = callback(tmp_path)
    assert isinstance(first, WandBCallback)
    first.on_start(TRAINER)
    first.log_scalars({"loss": 1.0}, log_prefix="train")
    first.on_end(TRAINER)
    run_id = first.state_dict()["run_id"]
    assert list(tmp_path.glob(f"wandb/offline-run-*/run-{run_id}.wandb"))

    second = callback(tmp_path)
    second.load_state_dict(first.state_dict())
    second.on_start(TRAINER)
    assert wandb.run.id == run_id
    second.on_end(TRAINER)


def test_only_the_primary_process_starts_a_run(tmp_path):
    other = callback(tmp_path)
    other.on_start(TRAINER, is_primary=False)
    other.on_end(TRAINER, is_primary=False)
    assert other.state_dict() == {"run_id": None}
    assert not list(tmp_path.glob("wandb"))


def test_importing_the_module_does_not_import_wandb(monkeypatch):
    registry = Registrable._registry[TrainerCallback]
    monkeypatch.setitem(registry, "wandb", registry["wandb"])
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it is an error now
    runpy.run_path(module.__file__)

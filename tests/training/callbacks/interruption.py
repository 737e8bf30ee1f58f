"""Training that is interrupted, and what it leaves."""

import json
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.models import Model
from allennlp.training import TrainerCallback

State = Dict[str, torch.Tensor]


class PowerCut(Exception):
    pass


@TrainerCallback.register("power_cut")
class CutPower(TrainerCallback):
    """Ends training without warning, after a step (of an epoch) of the training."""

    at: Optional[Tuple[int, int]] = None

    def on_batch(self, *args: Any, **kwargs: Any) -> None:
        if kwargs["is_training"] and (args[4], args[5]) == CutPower.at:
            raise PowerCut


def train(config: Dict[str, Any], folder: Path, recover: bool = False) -> Model:
    """Trains, without using up the config as AllenNLP does."""
    return train_model(Params(json.loads(json.dumps(config))), folder, recover=recover)


def metrics_of(folder: Path) -> Dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def train_interrupted(
    config: Dict[str, Any], folder: Path, at: Tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> Model:
    """Trains with an interruption after a step of an epoch, in a process that has then ended."""
    with monkeypatch.context() as patch:
        patch.setattr(CutPower, "at", at)
        with pytest.raises(PowerCut):
            train(config, folder)
    torch.manual_seed(999)  # a new process does not know what the old one would have drawn
    return train(config, folder, recover=True)


def weights(folder: Path, epoch: int) -> State:
    """The weights after so many epochs, with their moving averages if there are any."""
    state = torch.load(folder / f"model_state_e{epoch}_b0.th")
    training_state = torch.load(folder / f"training_state_e{epoch}_b0.th")
    for name, average in training_state.get("moving_average", {}).get("shadows", {}).items():
        state[f"average of {name}"] = average
    return state

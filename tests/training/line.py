"""The smallest model to train, and its data."""

from typing import Any, Dict, List

import torch


class Line(torch.nn.Module):
    """`weight * x`, with a loss that is easily differentiated by hand: the mean of it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        return {"loss": (self.weight * x).mean()}

    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        return {}

    def get_regularization_penalty(self) -> None:
        return None


class Batches(List[Any]):
    """A data loader."""

    def set_target_device(self, device: torch.device) -> None:
        pass

from typing import Any, Dict

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from torch.distributed import HashStore

from allencv.training.distributed.ranks import Rank
from allencv.training.distributed.settings import Distributed
from allencv.training.distributed.train_rank import device_of_rank

CPU = {"trainer": {"cuda_device": -1}}
BOTH: Dict[str, Any] = {"trainer": {}}


def rank(local_rank: int, world_size: int = 4) -> Rank:
    return Rank(local_rank, world_size, local_rank, world_size, HashStore())


@pytest.mark.parametrize(
    ("block", "config", "expected"),
    [
        ({}, BOTH, 1),
        ({}, CPU, -1),
        ({"cuda_devices": [3, 2, 1, 0]}, BOTH, 2),
        ({"cuda_devices": [1, 0], "num_nodes": 2}, BOTH, 0),
        ({"cuda_devices": [-1] * 4}, BOTH, -1),
    ],
)
def test_the_device(
    block: Dict[str, Any], config: Dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert device_of_rank(rank(1), Distributed(**block), config) == expected
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    if not block:
        assert device_of_rank(rank(1), Distributed(**block), config) == -1


@pytest.mark.parametrize(
    ("block", "local_rank", "message"),
    [
        (
            {"cuda_devices": [0, 1]},
            0,
            "distributed has 2 cuda_devices on each of 1 num_nodes, but WORLD_SIZE is 4; exp",
        ),
        (
            {"cuda_devices": [0, 1], "num_nodes": 2},
            2,
            "LOCAL_RANK is 2, but distributed.cuda_devices has only 2 devices; expected one for",
        ),
        (
            {"cuda_devices": [0, 1, 7, -1]},
            0,
            "distributed.cuda_devices has 7, but this machine has 2 GPUs, 0 to 1; expected",
        ),
        ({}, 2, "LOCAL_RANK is 2, but this machine has 2 GPUs; expected at most as many processes"),
    ],
)
def test_what_does_not_fit(
    block: Dict[str, Any], local_rank: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        device_of_rank(rank(local_rank), Distributed(**block), BOTH)

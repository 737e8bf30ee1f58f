import contextlib
from pathlib import Path
from typing import Any, Dict, Iterable, Tuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.nn.parallel import DdpAccelerator
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.functional import cross_entropy

from allencv.training.distributed import ImageDdpAccelerator

IMAGES = torch.randn(10, 3, 9, 9, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(10) % 2
PARTS = {0: (slice(0, 3), slice(3, 6)), 1: (slice(6, 8), slice(8, 10))}
"""The two batches of each rank."""
EXACT, IN_BF16 = 1e-6, 1e-2


def make_network(norm: bool) -> nn.Sequential:
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(8), BatchNormAct2d(8)] if norm else [nn.Identity(), nn.Identity()]
    convolutions = [nn.Conv2d(3, 8, 3), norms[0], nn.ReLU(), nn.Conv2d(8, 8, 3), norms[1]]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def steps(
    network: nn.Module, weights: Iterable[nn.Parameter], parts: Tuple[slice, ...], share: float
) -> None:
    """Make three steps, each with accumulated gradients."""
    optimizer = torch.optim.SGD(weights, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        for part in parts:
            waits = isinstance(network, nn.parallel.DistributedDataParallel) and part != parts[-1]
            with network.no_sync() if waits else contextlib.nullcontext():
                loss = cross_entropy(network(IMAGES[part]), LABELS[part], reduction="sum")
                (loss * share).backward()
        optimizer.step()


def train(rank: int, norm: bool, accumulates: bool, keys: Dict[str, Any], folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    network = make_network(norm)
    accelerator = ImageDdpAccelerator(local_rank=rank, world_size=2, **keys)
    _, wrapped = accelerator.wrap_model(network)  # type: ignore[arg-type]
    parts = PARTS[rank] if accumulates else (slice(PARTS[rank][0].start, PARTS[rank][1].stop),)
    steps(wrapped.model, network.parameters(), parts, 2 / len(IMAGES))
    network.eval()
    torch.save((network.state_dict(), network(IMAGES)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("keys", "norm", "accumulates", "tolerance"),
    [
        ({}, False, True, EXACT),
        ({"sync_batch_norm": True}, True, False, EXACT),
        ({"bf16_gradients": True, "sync_batch_norm": True}, True, False, IN_BF16),
        ({"static_graph": True}, False, False, EXACT),
        ({"find_unused_parameters": True}, False, True, EXACT),
    ],
)
def test_two_ranks_train_as_one(
    keys: Dict[str, Any], norm: bool, accumulates: bool, tolerance: float, tmp_path: Path
) -> None:
    arguments = (norm, accumulates, keys, str(tmp_path))
    mp.start_processes(train, arguments, 2, start_method="fork")
    alone = make_network(norm)
    steps(alone, alone.parameters(), (slice(0, 10),), 1 / len(IMAGES))
    alone.eval()
    for rank in range(2):
        state, outputs = torch.load(tmp_path / f"{rank}.pt")
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state[name], value, atol=tolerance, rtol=0)
        torch.testing.assert_close(outputs, alone(IMAGES), atol=3 * tolerance, rtol=0)


def test_bf16_gradients_are_less_exact(tmp_path: Path) -> None:
    """They are exchanged in other numbers than those of `test_two_ranks_train_as_one`."""
    states = []
    for name, keys in (("float32", {}), ("bf16", {"bf16_gradients": True})):
        folder = tmp_path / name
        folder.mkdir()
        mp.start_processes(train, (False, False, keys, str(folder)), 2, start_method="fork")
        states.append(torch.load(folder / "0.pt")[0]["0.weight"])
    assert 0 < float((states[0] - states[1]).abs().max()) < IN_BF16


def test_from_params() -> None:
    keys = {"type": "torch", "sync_batch_norm": True, "bf16_gradients": True}
    extras = {"local_rank": 0, "world_size": 2, "cuda_device": -1}
    accelerator = DdpAccelerator.from_params(Params(keys), **extras)
    assert isinstance(accelerator, ImageDdpAccelerator)


def test_keys_that_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="both find_unused_parameters and static_graph"):
        ImageDdpAccelerator(
            find_unused_parameters=True, static_graph=True, local_rank=0, world_size=2
        )

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterable, Tuple

import pytest
import torch
import torch.distributed as dist
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.nn.parallel import DdpAccelerator
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.functional import cross_entropy

from allencv.training.distributed import ImageDdpAccelerator
from allencv.training.distributed.sync_batch_norm import kept_apart, sync_batch_norm
from tests.ranks import on_ranks
from tests.training.distributed.pairs import run_pairs

pytestmark = pytest.mark.slow

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


def train(
    rank: int, norm: bool, accumulates: bool, keys: Dict[str, Any], port: int, folder: str
) -> None:
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", address, rank=rank, world_size=2)
    network = make_network(norm)
    accelerator = ImageDdpAccelerator(local_rank=rank, world_size=2, **keys)
    _, wrapped = accelerator.wrap_model(network)  # type: ignore[arg-type]
    parts = PARTS[rank] if accumulates else (slice(PARTS[rank][0].start, PARTS[rank][1].stop),)
    steps(wrapped.model, network.parameters(), parts, 2 / len(IMAGES))
    network.eval()
    torch.save((network.state_dict(), network(IMAGES)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


CASES: Dict[str, Tuple[bool, bool, Dict[str, Any]]] = {
    "accumulated": (False, True, {}),
    "sync_batch_norm": (True, False, {"sync_batch_norm": True}),
    "bf16_gradients": (True, False, {"bf16_gradients": True, "sync_batch_norm": True}),
    "bf16_accumulated": (False, True, {"bf16_gradients": True}),
    "static_graph": (False, False, {"static_graph": True}),
    "find_unused_parameters": (False, True, {"find_unused_parameters": True}),
}
"""For each: whether there is batch normalisation, whether gradients are accumulated, the keys."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    return run_pairs(train, CASES, tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_as_one(case: str, folders: Dict[str, Path]) -> None:
    norm, _, keys = CASES[case]
    tolerance = IN_BF16 if "bf16_gradients" in keys else EXACT
    alone = make_network(norm)
    steps(alone, alone.parameters(), (slice(0, 10),), 1 / len(IMAGES))
    alone.eval()
    for rank in range(2):
        state, outputs = torch.load(folders[case] / f"{rank}.pt")
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state[name], value, atol=tolerance, rtol=0)
        torch.testing.assert_close(outputs, alone(IMAGES), atol=3 * tolerance, rtol=0)


def test_bf16_gradients_are_less_exact(folders: Dict[str, Path]) -> None:
    names = ("bf16_gradients", "sync_batch_norm")
    rounded, exact = (torch.load(folders[name] / "0.pt")[0]["0.weight"] for name in names)
    assert 10 * EXACT < float((rounded - exact).abs().max()) < IN_BF16


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


def statistics_of(images: int) -> "list[torch.Tensor]":
    """The running statistics after a batch of the first of two ranks; the second has no image."""
    norm = nn.BatchNorm1d(2)
    sync_batch_norm(norm, torch.device("cpu"))
    with contextlib.nullcontext() if dist.get_rank() == 0 else kept_apart(norm):
        norm(torch.tensor([[1.0, 5.0], [3.0, 5.0]])[:images])
    return [norm.running_mean, norm.running_var]


@pytest.mark.parametrize(
    ("images", "mean", "variance"), [(1, [0.1, 0.5], [0.9, 0.9]), (2, [0.2, 0.5], [1.1, 0.9])]
)
def test_running_statistics_of_few_images(
    images: int, mean: "list[float]", variance: "list[float]"
) -> None:
    for found in on_ranks(2, statistics_of, images):
        torch.testing.assert_close(found, [torch.tensor(mean), torch.tensor(variance)])

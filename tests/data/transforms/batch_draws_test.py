from typing import Any, List

import numpy as np
import pytest
import torch

from allencv.data.transforms import batch_draws
from allencv.data.transforms.batch_draws import BatchDraws, draws_like_torch

SEEDS = [0, 1, -1, 2**63 - 1, -(2**63), *range(1000, 1200)]


def generators() -> List[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


def test_all_draws_are_those_of_torch_in_the_same_order() -> None:
    draws = BatchDraws(SEEDS)
    ours = (draws.shares(), draws.below(11), draws.uniform(-0.7, 1.9), draws.orders(5))
    last = draws.shares()
    for image, generator in enumerate(generators()):
        theirs: List[Any] = [
            torch.rand(1, generator=generator),
            torch.randint(11, (), generator=generator),
            torch.empty(1).uniform_(-0.7, 1.9, generator=generator),
            torch.randperm(5, generator=generator),
        ]
        for one, other in zip(ours, theirs):
            assert np.array_equal(one[image], other.numpy().squeeze())
        assert last[image] == torch.rand(1, generator=generator).item()


def test_more_draws_than_made_at_first() -> None:
    draws = BatchDraws(SEEDS)
    drawn = np.stack([draws.shares() for _ in range(2000)], axis=-1)
    for row, generator in zip(drawn, generators()):
        assert np.array_equal(row, torch.rand(2000, generator=generator).numpy())


def test_some_images_draw_and_a_generator_continues() -> None:
    draws = BatchDraws(SEEDS)
    some = np.array([1, 4])
    draws.shares()
    found = draws.below(1000, some)
    for image, generator in enumerate(generators()[:6]):
        torch.rand(1, generator=generator)
        if image in some:
            (place,) = np.flatnonzero(some == image)
            assert found[place] == torch.randint(1000, (), generator=generator).item()
        continued = draws.generator(image)
        assert torch.equal(
            torch.randn(20, generator=continued), torch.randn(20, generator=generator)
        )


def test_another_way_to_draw_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert draws_like_torch()
    monkeypatch.setattr(batch_draws, "SHARE_BITS", 23)
    assert not draws_like_torch.__wrapped__()

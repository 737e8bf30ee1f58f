import contextlib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Callable, Dict

import pytest
import torch

from allencv.data.transforms import random_source
from allencv.data.transforms.random_source import draw_below, draw_share

# Each draws once. `x` has the strides of a decoded image, as what is drawn depends on them.
x = torch.full((5, 4, 3), 0.5).permute(2, 0, 1)
DRAWS: Dict[str, Callable[[], torch.Tensor]] = {
    "bernoulli": lambda: torch.bernoulli(x),
    "bernoulli with p": lambda: torch.bernoulli(x, 0.3),
    "binomial": lambda: torch.binomial(x * 20, x),
    "multinomial": lambda: torch.multinomial(x[0], 2),
    "normal of tensors": lambda: torch.normal(x, x),
    "normal of a size": lambda: torch.normal(0.0, 1.0, (3, 4)),
    "poisson": lambda: torch.poisson(x * 10),
    "rand": lambda: torch.rand(3, 4),
    "rand, no generator": lambda: torch.rand(3, generator=None),
    "randint": lambda: torch.randint(100, (3, 4)),
    "randint of keywords": lambda: torch.randint(low=1, high=100, size=(3,)),
    "randn": lambda: torch.randn((3, 4), dtype=torch.float64),
    "randperm": lambda: torch.randperm(50),
    "dirichlet": lambda: torch._sample_dirichlet(x),
    "gamma": lambda: torch._standard_gamma(x),
    "rand_like": lambda: torch.rand_like(x),
    "randn_like": lambda: torch.randn_like(x, dtype=torch.float64),
    "randn_like of integers": lambda: torch.randn_like(x.to(torch.uint8), dtype=torch.float32),
    "randint_like": lambda: torch.randint_like(x, 100),
    "randint_like with low": lambda: torch.randint_like(x, 50, 100, dtype=torch.int64),
    "randint_like of keywords": lambda: torch.randint_like(x, low=50, high=100),
    "Tensor.bernoulli": lambda: x.bernoulli(),
    "Tensor.bernoulli_": lambda: x.clone().bernoulli_(0.3),
    "Tensor.cauchy_": lambda: x.clone().cauchy_(),
    "Tensor.exponential_": lambda: x.clone().exponential_(),
    "Tensor.geometric_": lambda: x.clone().geometric_(0.1),
    "Tensor.log_normal_": lambda: x.clone().log_normal_(),
    "Tensor.multinomial": lambda: x[0].multinomial(2),
    "Tensor.normal_": lambda: x.clone().normal_(1.0, 2.0),
    "Tensor.random_": lambda: x.clone().random_(100),
    "Tensor.uniform_": lambda: x.clone().uniform_(-1, 1),
    "Beta": lambda: torch.distributions.Beta(x, x).sample(),
    "Binomial": lambda: torch.distributions.Binomial(10, x).sample(),
    "Categorical": lambda: torch.distributions.Categorical(x).sample(),
    "Exponential": lambda: torch.distributions.Exponential(x).rsample(),
    "Gamma": lambda: torch.distributions.Gamma(x, x).rsample(),
    "Laplace": lambda: torch.distributions.Laplace(x, x).rsample(),
    "Normal": lambda: torch.distributions.Normal(x, x).rsample(),
    "Uniform": lambda: torch.distributions.Uniform(x, x + 1).rsample(),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_what_the_global_generator_would_and_leaves_that_alone(name: str) -> None:
    draw = DRAWS[name]
    torch.manual_seed(7)
    expected = [draw(), draw()]
    torch.manual_seed(8)
    global_state = torch.get_rng_state()
    with random_source(seeded(7)):
        drawn = [draw(), draw()]
    assert torch.equal(torch.get_rng_state(), global_state)
    assert torch.equal(drawn[0], expected[0])
    assert torch.equal(drawn[1], expected[1])
    assert drawn[0].stride() == expected[0].stride()


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator: torch.rand(5, generator=generator),
        lambda generator: torch.empty(5).uniform_(generator=generator),
        lambda generator: torch.poisson(x * 10, generator),
        lambda generator: torch.binomial(x * 20, x, generator),
    ],
)
def test_a_call_with_a_generator_of_its_own_keeps_it(draw) -> None:
    source = seeded(1)
    state = source.get_state()
    with random_source(source):
        drawn = draw(seeded(2))
    assert torch.equal(source.get_state(), state)
    assert torch.equal(drawn, draw(seeded(2)))


def test_the_innermost_source_is_the_one() -> None:
    with random_source(seeded(1)):
        first = torch.rand(2)
        with random_source(seeded(2)):
            inner = torch.rand(2)
        second = torch.rand(2)
    assert torch.equal(torch.cat([first, second]), torch.rand(4, generator=seeded(1)))
    assert torch.equal(inner, torch.rand(2, generator=seeded(2)))


def test_it_ends_with_its_block_also_after_an_error() -> None:
    with pytest.raises(KeyError), random_source(seeded(1)):
        raise KeyError
    torch.manual_seed(3)
    drawn = torch.rand(4)
    assert torch.equal(drawn, torch.rand(4, generator=seeded(3)))


def test_each_thread_has_its_own() -> None:
    def draw_one_by_one(seed: int) -> torch.Tensor:
        generator = seeded(seed)
        return torch.cat([torch.rand(1, generator=generator) for _ in range(50)])

    count = 4
    together = Barrier(count + 1)

    def draw(seed: int) -> torch.Tensor:
        with random_source(seeded(seed)):
            drawn = []
            for _ in range(50):
                together.wait()
                drawn.append(torch.rand(1))
            return torch.cat(drawn)

    torch.manual_seed(99)
    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(draw, seed) for seed in range(count)]
        drawn_outside = []
        for _ in range(50):
            together.wait()
            drawn_outside.append(torch.rand(1))
    for seed, future in enumerate(futures):
        assert torch.equal(future.result(), draw_one_by_one(seed))
    assert torch.equal(torch.cat(drawn_outside), draw_one_by_one(99))


def test_what_does_not_draw_is_as_ever() -> None:
    with random_source(seeded(1)):
        assert torch.equal(torch.stack([x, x]).sum(dim=0), x + x)
        assert torch.nn.functional.pad(x, (1, 1)).shape == (3, 5, 6)


def test_the_quick_draws_are_those_of_torch() -> None:
    for outer in (None, 5):
        with random_source(torch.Generator().manual_seed(5)) if outer else contextlib.nullcontext():
            torch.manual_seed(3)
            for seed in (1, 2):
                with random_source(torch.Generator().manual_seed(seed)):
                    drawn = draw_share(), draw_below(10), draw_share()
                generator = torch.Generator().manual_seed(seed)
                assert drawn == (
                    torch.rand(1, generator=generator).item(),
                    torch.randint(10, (), generator=generator).item(),
                    torch.rand(1, generator=generator).item(),
                )
            drawn_outside = draw_share()
        generator = torch.Generator().manual_seed(outer or 3)
        assert drawn_outside == torch.rand(1, generator=generator).item()

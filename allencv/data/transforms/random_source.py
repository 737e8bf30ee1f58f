import threading
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from torch.overrides import TorchFunctionMode


def _rand_like(like: torch.Tensor, *, generator: torch.Generator, **options: Any) -> torch.Tensor:
    return torch.empty_like(like, **options).uniform_(generator=generator)


def _randn_like(like: torch.Tensor, *, generator: torch.Generator, **options: Any) -> torch.Tensor:
    return torch.empty_like(like, **options).normal_(generator=generator)


def _randint_like(
    like: torch.Tensor,
    low: int = 0,
    high: Optional[int] = None,
    *,
    generator: torch.Generator,
    **options: Any,
) -> torch.Tensor:
    low, high = (0, low) if high is None else (low, high)
    return torch.empty_like(like, **options).random_(low, high, generator=generator)


# The functions that draw, each with a version that takes a generator.
_DRAWING: Dict[Callable[..., Any], Callable[..., Any]] = {
    function: function
    for function in (
        torch.bernoulli,
        torch.binomial,
        torch.multinomial,
        torch.normal,
        torch.poisson,
        torch.rand,
        torch.randint,
        torch.randn,
        torch.randperm,
        torch._sample_dirichlet,
        torch._standard_gamma,
        torch.Tensor.bernoulli,
        torch.Tensor.bernoulli_,
        torch.Tensor.cauchy_,
        torch.Tensor.exponential_,
        torch.Tensor.geometric_,
        torch.Tensor.log_normal_,
        torch.Tensor.multinomial,
        torch.Tensor.normal_,
        torch.Tensor.random_,
        torch.Tensor.uniform_,
    )
}
# In some versions of torch these take no generator; these functions do the same.
_DRAWING[torch.rand_like] = _rand_like
_DRAWING[torch.randn_like] = _randn_like
_DRAWING[torch.randint_like] = _randint_like


class _Current(threading.local):
    """The generator of the innermost `random_source` of this thread."""

    generator: Optional[torch.Generator] = None


_current = _Current()


def draw_share() -> float:
    """Return what `torch.rand(1)` draws here, in less time."""
    with torch._C.DisableTorchFunction():
        return torch.rand(1, generator=_current.generator).item()


def draw_below(bound: int) -> int:
    """Return what `torch.randint(bound, ())` draws here, in less time."""
    with torch._C.DisableTorchFunction():
        return int(torch.randint(bound, (), generator=_current.generator).item())


class random_source(TorchFunctionMode):
    """
    A context in which torch draws all random numbers of this thread from `generator`:

        with random_source(torch.Generator().manual_seed(7)):
            image = transform(image)

    torchvision's transforms draw from torch's global generator, which all threads share. So the
    draws of one thread depend on the others. In this context the global generator is not used; the
    numbers are those that it would give with the same seed.

    This covers the functions of `torch`, the methods of `Tensor`, and everything that draws through
    them, such as `torch.distributions`. A call with its own generator keeps it. Not covered are
    functions of `torch.nn.functional` that draw inside, such as `dropout`: they take no generator.

    # Parameters

    generator : `torch.Generator`, required
        The generator to draw from. Only one thread may use it at a time.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator
        self._outer: Optional[torch.Generator] = None

    def __enter__(self) -> "random_source":
        self._outer, _current.generator = _current.generator, self.generator
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _current.generator = self._outer

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Tuple[type, ...],
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        # Each call of torch passes here (about a microsecond), so calls that do not draw come
        # first.
        draw = _DRAWING.get(func)
        if draw is None:
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        given = kwargs.get("generator") or (args[-1] if args else None)
        if isinstance(given, torch.Generator):
            return func(*args, **kwargs)
        return draw(*args, **{**kwargs, "generator": self.generator})

"""Let cuDNN measure which of its algorithms are the fastest for the convolutions of a network."""

import contextlib
from typing import ContextManager, Iterator, Optional, Tuple

import torch
from allennlp.data import TensorDict


class CudnnAutotuning:
    """
    Turns on `torch.backends.cudnn.benchmark` for each batch that has the shape of the one before:
    cuDNN then measures its algorithms, once for each shape. Images of varying sizes, and the small
    last batch of an epoch, cause no measurement.

    # Parameters

    device : `torch.device`, required
        Of the network. Only a GPU of NVIDIA has cuDNN.
    wanted : `bool`, optional (default = `None`)
        The trainer's `cudnn_benchmark`. `None` is true, unless the user has turned on
        `torch.backends.cudnn.deterministic` or `torch.use_deterministic_algorithms`. With false,
        and outside the batches, the flag of torch stays as it is.
    """

    def __init__(self, device: torch.device, wanted: Optional[bool]) -> None:
        if wanted is None:
            is_repeatable = torch.are_deterministic_algorithms_enabled()
            wanted = not (is_repeatable or torch.backends.cudnn.deterministic)
        self._is_on = wanted and device.type == "cuda"
        self._last: Tuple[int, ...] = ()

    def __call__(self, batch: TensorDict) -> ContextManager[None]:
        """Return the context for the passes of a network forward and backward with a batch."""
        if not self._is_on:
            return contextlib.nullcontext()
        shape = next(tuple(each.shape) for each in batch.values() if isinstance(each, torch.Tensor))
        repeats, self._last = shape == self._last, shape
        return _measuring() if repeats else contextlib.nullcontext()


@contextlib.contextmanager
def _measuring() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before

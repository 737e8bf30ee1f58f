"""Copy batches to a GPU while it computes."""

from collections import deque
from itertools import islice
from typing import Any, Deque, Iterator, List, Tuple, TypeVar

import torch
from allennlp.nn import util as nn_util

from allencv.data.data_loaders.pinned_batches import mapped

Key = TypeVar("Key")


class CopyStream:
    """
    Copies batches to a GPU on a CUDA stream of its own, one ahead of the batch in use. Tensors in
    pinned memory are copied while the GPU and the calling thread do other work.

    # Parameters

    device : `torch.device`, required
        A GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def one_ahead(self, batches: Iterator[Tuple[Key, Any]]) -> Iterator[Tuple[Key, Any]]:
        """Yield the batches on the GPU, each with what came with it."""
        copies = ((key, *self._copied(batch)) for key, batch in batches)
        begun: Deque[Tuple[Key, Any, torch.cuda.Event]] = deque(islice(copies, 1))
        while begun:
            begun.extend(islice(copies, 1))
            key, batch, is_copied = begun.popleft()
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(is_copied)
            for tensor in tensors(batch):
                tensor.record_stream(stream)  # its memory is used again only after this stream
            yield key, batch
            del batch

    def _copied(self, batch: Any) -> Tuple[Any, torch.cuda.Event]:
        """Begin to copy a batch. Return it, and the event that ends the copy."""
        with torch.cuda.stream(self._stream):
            return mapped(batch, self._moved), self._stream.record_event()

    def _moved(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(self._device, non_blocking=True)
        return nn_util.move_to_device(value, self._device)


def tensors(batch: Any) -> List[torch.Tensor]:
    """Return the tensors of a batch, also those in dictionaries in it."""
    found: List[torch.Tensor] = []
    mapped(batch, lambda value: found.append(value) if isinstance(value, torch.Tensor) else None)
    return found

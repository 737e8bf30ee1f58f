"""Batches in pinned memory, from which a GPU copies while the processor goes on."""

from typing import Any, Callable, Sequence

import torch


def pinned_memory(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """
    Return an uninitialised tensor in pinned memory. torch uses freed pinned memory again once the
    GPU has copied it.
    """
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)


def pinned(batch: Any) -> Any:
    """
    Return a batch with its tensors in pinned memory; those that are there, or on a GPU, are not
    copied.
    """
    return mapped(batch, _pinned)


def _pinned(value: Any) -> Any:
    is_here = isinstance(value, torch.Tensor) and value.device.type == "cpu"
    return value.pin_memory() if is_here else value


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a function to all values of a batch, which may be a dictionary of dictionaries."""
    if isinstance(value, dict):
        return {key: mapped(each, change) for key, each in value.items()}
    return change(value)

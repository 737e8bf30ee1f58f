"""Batch normalisation over the images of all ranks. torch's works on GPUs only."""

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Iterator
from unittest.mock import patch

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch.nn.modules.batchnorm import _BatchNorm


def sync_batch_norm(model: torch.nn.Module, device: torch.device) -> None:
    """Make the batch normalisation of a model use the images of all ranks."""
    if device.type != "cpu":
        convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if isinstance(module, BatchNormAct2d):
            module.__class__ = CpuSyncBatchNormAct
        elif isinstance(module, _BatchNorm):
            module.__class__ = CpuSyncBatchNorm


def is_synchronized(module: torch.nn.Module) -> bool:
    """Return whether a module normalises with the images of all ranks."""
    return isinstance(module, (CpuSyncBatchNorm, CpuSyncBatchNormAct, torch.nn.SyncBatchNorm))


@contextmanager
def kept_apart(model: torch.nn.Module) -> Iterator[None]:
    """
    Keep the images of this rank in the block out of the statistics of all ranks. The model must
    still be called: the layers of the other ranks wait for those of this one, which count the
    images of the others.
    """
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, _BatchNorm) and is_synchronized(module):
                stack.enter_context(patch.object(module, "forward", partial(_apart, module)))
        yield


def _apart(norm: _BatchNorm, input: torch.Tensor) -> torch.Tensor:
    """Add no image to the sums of all ranks, and normalise the input with its own statistics."""
    nothing = type(norm).forward(norm, input[:0])
    dims = [0, *range(2, input.dim())]
    variance, mean = torch.var_mean(input, dims, correction=0, keepdim=True)
    # Backwards, too, the other ranks wait: the sum of nothing is 0, and takes part.
    return (input - mean) * (variance + norm.eps).rsqrt() + nothing.sum()


class CpuSyncBatchNorm(_BatchNorm):
    """Batch normalisation over the images of all ranks, on a CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return normalized(self, input) if self.training else super().forward(input)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Take images and vectors."""


class CpuSyncBatchNormAct(BatchNormAct2d):
    """The same with an activation behind it, as in many of timm's networks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(normalized(self, x))) if self.training else super().forward(x)


def normalized(norm: _BatchNorm, input: torch.Tensor) -> torch.Tensor:
    """Normalise a batch in training, and count it in the running statistics."""
    values = input.float()
    dims = [0, *range(2, input.dim())]
    shape = [1, -1] + [1] * (input.dim() - 2)
    sums = torch.cat([values.sum(dims), values.new_tensor([values.numel() / values.size(1)])])
    sums = _SumOfRanks.apply(sums)
    mean, count = sums[:-1] / sums[-1], sums[-1].detach()
    centered = values - mean.view(shape)
    variance = _SumOfRanks.apply(centered.square().sum(dims)) / count
    # A single value has the variance 0, not 0 / 0: it may be the only image of a last batch.
    _count(norm, mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
    output = centered * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        output = output * norm.weight.view(shape) + norm.bias.view(shape)
    return output.to(input.dtype)


def _count(norm: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Move the running statistics towards those of a batch."""
    if norm.running_mean is None or norm.running_var is None:
        return
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    share = norm.momentum
    if share is None:
        share = 1 / float(norm.num_batches_tracked or 1)
    with torch.no_grad():
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance, share)


class _SumOfRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks. So is its gradient."""

    @staticmethod
    def forward(context: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOfRanks.forward(context, gradient)

"""Batch normalisation over the images of all ranks. torch's works on GPUs only."""

from typing import Any

import torch
import torch.distributed as dist
from timm.layers import SyncBatchNormAct, convert_sync_batchnorm
from torch.nn import SyncBatchNorm


def sync_batch_norm(model: torch.nn.Module, device: torch.device) -> None:
    """Make the batch normalisation of a model use the images of all ranks."""
    convert_sync_batchnorm(model)
    for module in model.modules() if device.type == "cpu" else ():
        if isinstance(module, SyncBatchNormAct):
            module.__class__ = CpuSyncBatchNormAct
        elif isinstance(module, SyncBatchNorm):
            module.__class__ = CpuSyncBatchNorm


class CpuSyncBatchNorm(SyncBatchNorm):
    """torch's `SyncBatchNorm`, for a CPU. In evaluation, torch's works there too."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        values = input.float()
        dims = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        count = values.new_tensor([values.numel() / values.size(1)])
        sums = _SumOfRanks.apply(torch.cat([values.sum(dims), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centered = values - mean.view(shape)
        variance = _SumOfRanks.apply(centered.square().sum(dims)) / count
        self._update(mean.detach(), (variance * count / (count - 1)).detach())
        output = centered * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)

    def _update(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1 / float(self.num_batches_tracked or 1)
        with torch.no_grad():
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)


class CpuSyncBatchNormAct(SyncBatchNormAct, CpuSyncBatchNorm):
    """The same with an activation behind it, as in many of timm's networks."""


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

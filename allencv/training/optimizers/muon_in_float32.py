"""
Let timm's Muon compute in float32 on processors without bfloat16.

timm 1.0 orthogonalises gradients in bfloat16 (timm/optim/muon.py, `zeropower_via_newtonschulz`). On
a processor with AVX2 only, torch takes 11 to 13 times as long for this as in float32, and with
AVX-512 but no BF16 about 4 times.
"""

from typing import Any

import timm.optim.muon
import torch

from allencv.training.acceleration import computes_in_bfloat16

_orthogonalized = timm.optim.muon.zeropower_via_newtonschulz


def orthogonalized(gradient: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Return what timm's function returns, computed in the type that is fast on the device."""
    device = gradient.device
    if device.type == "cpu" and not computes_in_bfloat16(device):
        kwargs.setdefault("dtype", torch.float32)
    return _orthogonalized(gradient, *args, **kwargs)


timm.optim.muon.zeropower_via_newtonschulz = orthogonalized  # type: ignore[assignment]

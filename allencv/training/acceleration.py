"""
Make a network fast on its device: half precision, and the memory order of its weights.
docs/devices.md has the figures that the defaults come from.
"""

import threading
from contextlib import nullcontext
from typing import Any, ContextManager, Dict, Optional, Tuple

import torch
from allennlp.common.checks import ConfigurationError

from allencv.common.nearest_names import not_one_of

SMALL_MAP = 8
"""In pixels, the shorter side."""
AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16 itself, and so faster than in float32."""
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def has_dense_convolutions(model: torch.nn.Module) -> bool:
    """
    Return whether a network computes at most a quarter of its channels by linear layers, and at
    most a fifth by depthwise convolutions, as ResNet, RegNet and small ConvNeXts do. In MobileNet
    and EfficientNet a quarter or more is depthwise; transformers and large ConvNeXts have mostly
    linear layers.
    """
    dense = depthwise = linear = 0
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            linear += module.out_features
        elif isinstance(module, torch.nn.Conv2d):
            if module.groups == module.in_channels > 1:
                depthwise += module.out_channels
            else:
                dense += module.out_channels
    channels = dense + depthwise + linear
    return dense > 0 and linear <= channels / 4 and depthwise <= channels / 5


def choose_amp_dtype(
    model: torch.nn.Module, device: torch.device, use_amp: Optional[bool], name: Optional[str]
) -> Optional[torch.dtype]:
    """
    Return the type to train a network in, `None` for float32. `use_amp` and `name` are the
    trainer's `use_amp` and `amp_dtype`. Raise `ConfigurationError` for a type that the device
    lacks.
    """
    choices = ["bfloat16"] if device.type == "cpu" else list(AMP_DTYPES)
    if name is not None and name not in choices:
        raise not_one_of(f"trainer.amp_dtype on a {device.type}", name, choices)
    if use_amp is None:
        # On a CPU, gradients of depthwise convolutions and of attention are slower in bfloat16.
        is_faster = device.type != "cpu" or has_dense_convolutions(model)
        use_amp = is_faster and computes_in_bfloat16(device)
    if not use_amp:
        return None
    if name is None:
        has_bfloat16 = device.type == "cpu" or computes_in_bfloat16(device)
        name = "bfloat16" if has_bfloat16 else "float16"
    return AMP_DTYPES[name]


class SmallMapsInFloat32:
    """
    Computes convolutions with a stride in float32 where their feature maps are small, while the
    rest of a network computes in half precision on a CPU. Several threads may use the network.

    torch 2.15 reads memory that nothing was written to in such convolutions: in bfloat16 on a
    processor with AMX, `Conv2d(64, 64, 3, 2, 1)` of 2 by 1 pixels gave NaN in its gradient, and of
    4 by 1 pixels in its output. Small maps take little time in float32.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._contexts: Dict[int, ContextManager[Any]] = {}  # of each thread
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d) and max(module.stride) > 1:
                module.register_forward_pre_hook(self._before)
                module.register_forward_hook(self._after, always_call=True)

    def _before(self, module: torch.nn.Module, inputs: Tuple[Any, ...]) -> Optional[Tuple[Any]]:
        (images,) = inputs
        is_small = min(images.shape[-2:]) <= SMALL_MAP and torch.is_autocast_enabled("cpu")
        context = torch.autocast("cpu", enabled=False) if is_small else nullcontext()
        context.__enter__()
        self._contexts[threading.get_ident()] = context
        return (images.float(),) if is_small else None

    def _after(self, module: torch.nn.Module, inputs: Tuple[Any, ...], output: Any) -> None:
        self._contexts.pop(threading.get_ident()).__exit__(None, None, None)


def set_memory_format(
    model: torch.nn.Module, channels_last: Optional[bool], device: torch.device
) -> None:
    """
    Put the weights of convolutions into the fastest order for the device. `channels_last` is the
    trainer's. Raise `ConfigurationError` if it is true for a network on which torch crashes.
    """
    crashes = device.type == "cpu" and _has_narrow_projection(model)
    if channels_last is None:
        channels_last = device.type in ("cpu", "cuda") and not crashes
    elif channels_last and crashes:
        raise ConfigurationError(
            "trainer.channels_last is true; expected false or null, as on a CPU torch crashes with "
            "this network, which has a convolution of 1 by 1 with a stride and under 16 channels"
        )
    if channels_last:
        model.to(memory_format=torch.channels_last)


def _has_narrow_projection(model: torch.nn.Module) -> bool:
    """
    Return whether the model has a convolution for which torch 2.15 writes outside the memory of its
    gradient, on a CPU with images in channels-last order. Seen with 8 and 12 channels, in float32
    and in bfloat16; `Conv2d(8, 16, 1, 2)` and images of `(24, 8, 112, 112)` show it.
    """
    return any(
        isinstance(module, torch.nn.Conv2d)
        and max(module.kernel_size) == 1
        and max(module.stride) > 1
        and module.in_channels < 16
        for module in model.modules()
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a CPU or a GPU is out of memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )

from typing import Any, Tuple

import torch
from allennlp.common.checks import ConfigurationError


def check_input_channels(encoder: Any, inputs: Tuple[Any, ...]) -> None:
    """
    A forward pre-hook that both encoder bases register: the images given to `encoder` must have
    shape `(batch, channels, height, width)` with the channels that `encoder.get_input_channels()`
    declares. Only shapes are read, so nothing waits for a device. Raises `ConfigurationError`.
    """
    if not inputs:  # called with keywords only: forward itself says what is wrong
        return
    shape, channels = tuple(inputs[0].shape), encoder.get_input_channels()
    if len(shape) != 4 or shape[1] != channels:
        raise ConfigurationError(
            f"{type(encoder).__name__} expects images of shape (batch, {channels}, height, width), "
            f"got {shape}: change its input_channels or the part before it"
        )


def check_output(key: str, encoder: Any, output: Any, dtype: torch.dtype) -> None:
    """
    Check what the encoder under a `key` of `model` gave: a tensor in the precision of the model.

    # Raises

    `ConfigurationError` if it is something else. Under autocast any precision will do.
    """
    place = f"model.{key}: forward of {type(encoder).__name__} returned"
    if not isinstance(output, torch.Tensor):
        raise ConfigurationError(f"{place} {type(output).__name__}; expected a tensor")
    if output.dtype != dtype and not torch.is_autocast_enabled(output.device.type):
        raise ConfigurationError(
            f"{place} {output.dtype}; expected {dtype}, as the images and the last layer are"
        )

from typing import Any, Tuple

import torch
from allennlp.common.checks import ConfigurationError


def check_input_channels(encoder: Any, inputs: Tuple[Any, ...]) -> None:
    """
    Check the images given to `encoder`: shape `(batch, channels, height, width)`, with
    `encoder.get_input_channels()` channels. Both encoder bases register this forward pre-hook. It
    reads only shapes, so nothing waits for a device. Raises `ConfigurationError`.
    """
    if not inputs:  # only keywords were given: forward reports what is wrong
        return
    shape, channels = tuple(inputs[0].shape), encoder.get_input_channels()
    if len(shape) != 4 or shape[1] != channels:
        raise ConfigurationError(
            f"{type(encoder).__name__} expects images of shape (batch, {channels}, height, width), "
            f"got {shape}: change its input_channels or the part before it"
        )


def check_output(key: str, encoder: torch.nn.Module, output: object, dtype: torch.dtype) -> None:
    """
    Check the output of the encoder under a `key` of `model`: a tensor in the model's precision.

    # Raises

    `ConfigurationError` for anything else. Under autocast any precision is accepted.
    """
    returned: object = type(output).__name__
    expected = "a tensor"
    if isinstance(output, torch.Tensor):
        if output.dtype == dtype or torch.is_autocast_enabled(output.device.type):
            return
        returned, expected = output.dtype, f"{dtype}, as the images and the last layer are"
    raise ConfigurationError(
        f"model.{key}: forward of {type(encoder).__name__} returned {returned}; expected {expected}"
    )

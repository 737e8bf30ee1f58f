from typing import Any, Callable, List, Optional

import torch
from allennlp.common.checks import ConfigurationError

from allencv.common.memory import reused_memory
from allencv.runtime.plurals import numbered

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PixelNormalization(torch.nn.Module):
    """
    Turns `uint8` pixels into `(image / 255 - mean) / std`, channel by channel, on the device and in
    the memory format of the image. Floats are taken as normalised and left unchanged. There is no
    state: the numbers are in the config. Shapes: `(batch, channels, height, width)`.

    # Parameters

    mean, std : `List[float]`, optional (default = ImageNet's)
        One number for each channel, or one for all.
    """

    mean: torch.Tensor
    std: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self, mean: Optional[List[float]] = None, std: Optional[List[float]] = None
    ) -> None:
        super().__init__()
        numbers = {
            "mean": list(IMAGENET_MEAN) if mean is None else mean,
            "std": list(IMAGENET_STD) if std is None else std,
        }
        if not numbers["mean"] or not numbers["std"] or min(numbers["std"]) <= 0:
            raise ConfigurationError(
                f"model.pixel_mean and model.pixel_std are {numbers['mean']} and {numbers['std']}; "
                "expected one number or one for each channel, those of pixel_std above 0"
            )
        self._numbers = numbers
        self._set_buffers(torch.device("cpu"))

    def _set_buffers(self, device: torch.device) -> None:
        for name, values in self._numbers.items():
            buffer = torch.tensor(values, dtype=torch.float32, device=device)
            self.register_buffer(name, buffer.view(-1, 1, 1), False)
        self.register_buffer("scale", 1 / (255 * self.std), False)
        self.register_buffer("shift", -self.mean / self.std, False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Normalize in float32, so that images stay exact for a model in half precision."""
        super()._apply(fn, recurse)
        if self.mean.dtype != torch.float32:
            self._set_buffers(self.mean.device)
        return self

    def is_like(self, other: "PixelNormalization") -> bool:
        """Return whether both normalise alike, without reading from a device."""
        return self._numbers == other._numbers

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.is_floating_point():
            return image
        channels = image.shape[1]
        if len(self.mean) not in (1, channels) or len(self.std) not in (1, channels):
            raise ConfigurationError(
                f"model.pixel_mean and model.pixel_std have {len(self.mean)} and {len(self.std)} "
                f"numbers, but the images have {numbered(channels, 'channel')}"
            )
        # In place: a batch is tens of megabytes, and new memory is slow.
        if image.is_contiguous() or not image.is_contiguous(memory_format=torch.channels_last):
            return _as_floats(image).mul_(self.scale).add_(self.shift)
        # Row by row, which on a CPU takes a fifth of the time of pixel by pixel.
        pixels = _as_floats(image.permute(0, 2, 3, 1))
        scale, shift = (
            numbers.flatten().expand(channels).repeat(image.shape[3])
            for numbers in (self.scale, self.shift)
        )
        pixels.flatten(2).mul_(scale).add_(shift)
        return pixels.permute(0, 3, 1, 2)


def _as_floats(pixels: torch.Tensor) -> torch.Tensor:
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if is_traced or pixels.device.type != "cpu":
        return pixels.float()
    return reused_memory(pixels.shape, torch.float32).copy_(pixels)

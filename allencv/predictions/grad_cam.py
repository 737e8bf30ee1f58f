import math
from typing import Callable, Dict, Iterator, List, Optional, Protocol, Tuple

import torch
from torch.utils.hooks import RemovableHandle


class StagedEncoder(Protocol):
    """A `torch.nn.Module` with the methods of an `Im2ImEncoder` that `grad_cam` needs."""

    def get_stages(self) -> List[List[str]]: ...

    def get_output_channels(self) -> int: ...

    def modules(self) -> Iterator[torch.nn.Module]: ...

    def named_modules(self) -> Iterator[Tuple[str, torch.nn.Module]]: ...

    def register_forward_pre_hook(self, hook: Callable[..., object]) -> RemovableHandle: ...


def grad_cam(
    score: Callable[[], torch.Tensor], encoder: StagedEncoder, size: Tuple[int, int]
) -> Optional[torch.Tensor]:
    """
    Find which areas of an image support a score, with Grad-CAM (Selvaraju et al. 2017,
    arXiv:1610.02391). Grad-CAM adds up the channels of a feature map. The weight of a channel is
    the mean gradient of the score with respect to it. Negative values become 0.

    The feature map is the output of the encoder. If the encoder pools its output to one pixel,
    the last stage output that is an image and affects the score is used: the one before the
    pooling, or the patches of the block before the last in a transformer with a class token.

    # Parameters

    score : `Callable[[], torch.Tensor]`
        Calls the encoder with a batch of images and returns one score for each, `(batch,)`: the
        logit of a label. The network must be in evaluation mode, so that the score of an image
        does not depend on the others.
    encoder : `StagedEncoder`
        Is called by `score`.
    size : `Tuple[int, int]`
        Height and width of the images in pixels.

    # Returns

    `(batch, height, width)` of the feature map, from 0 to 1. The largest value of each image is
    1, or 0 if nothing supports the score. `None` if the network has no feature map of more than
    one pixel.
    """
    modules = dict(encoder.named_modules())
    names = [name for stage in encoder.get_stages() for name in stage if name in modules]
    outputs: Dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                outputs.setdefault(name, output)  # with several views, only the first

        return hook

    def follow(
        module: torch.nn.Module, inputs: Tuple[torch.Tensor, ...]
    ) -> Tuple[torch.Tensor, ...]:
        # Gradients are needed even if all weights are frozen.
        return (inputs[0].detach().requires_grad_(), *inputs[1:])

    hooks = [modules[name].register_forward_hook(keep(name)) for name in [*names, ""]]
    hooks.append(encoder.register_forward_pre_hook(follow))
    try:
        with torch.enable_grad():
            total = score().sum()
            # Shape of each: (batch, channels, height, width)
            as_image = _layout(size, encoder.get_output_channels(), _prefix_tokens(encoder))
            candidates = [outputs[name] for name in ["", *reversed(names)] if name in outputs]
            shown = [output for output in candidates if _is_larger_than_a_pixel(as_image(output))]
            gradients = torch.autograd.grad(total, shown, allow_unused=True) if shown else []
    finally:
        for hook in hooks:
            hook.remove()
    for output, gradient in zip(shown, gradients):
        features, by_features = as_image(output), None if gradient is None else as_image(gradient)
        if features is not None and by_features is not None and by_features.any():
            return _weighted(features, by_features).detach()
    return None


def _weighted(features: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    weights = gradient.float().mean((2, 3), keepdim=True)
    # Shape: (batch, height, width)
    maps = (weights * features.float()).sum(1).relu()
    largest = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(largest > 0, largest, 1)


def _is_larger_than_a_pixel(features: Optional[torch.Tensor]) -> bool:
    return features is not None and features.shape[2] * features.shape[3] > 1


def _prefix_tokens(encoder: StagedEncoder) -> Optional[int]:
    """Return the number of tokens that a timm transformer puts before the patches."""
    counts = (getattr(module, "num_prefix_tokens", None) for module in encoder.modules())
    return next((count for count in counts if isinstance(count, int)), None)


def _layout(
    size: Tuple[int, int], channels: int, prefix_tokens: Optional[int]
) -> Callable[[torch.Tensor], Optional[torch.Tensor]]:
    """Return a function that turns outputs into `(batch, channels, height, width)`."""

    def as_image(features: torch.Tensor) -> Optional[torch.Tensor]:
        if features.dim() == 4:
            # Swin and its like keep the channels last.
            is_last = features.shape[3] == channels != features.shape[1]
            return features.permute(0, 3, 1, 2) if is_last else features
        if features.dim() != 3:
            return None
        # Shape: (batch, tokens, channels)
        tokens = features.shape[1]
        for prefix in (0, 1, 2) if prefix_tokens is None else (prefix_tokens,):
            patches = tokens - prefix
            height = round(math.sqrt(max(patches, 0) * size[0] / size[1]))
            if height and patches % height == 0:
                return features[:, prefix:].transpose(1, 2).unflatten(2, (height, -1))
        return None

    return as_image

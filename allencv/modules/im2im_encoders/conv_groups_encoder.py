from typing import List, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.nn import Activation

from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder
from allencv.modules.stages import layer_stages


class ConvGroup(torch.nn.Module):
    """
    Some 3 by 3 convolutions, each with batch normalisation and an activation, and max pooling
    after the first, which halves the image. With three or more, those after the first add their
    output to that of the first.
    """

    def __init__(
        self,
        input_channels: int,
        channels: int,
        depth: int,
        activation: Activation,
        norm_momentum: float,
    ) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(channels if i else input_channels, channels, 3, padding=1, bias=False)
            for i in range(depth)
        )
        self.norms = torch.nn.ModuleList(
            torch.nn.BatchNorm2d(channels, momentum=norm_momentum) for _ in range(depth)
        )
        self.pool = torch.nn.MaxPool2d(2)
        self._activation = activation

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # Shape: (batch, channels, height // 2, width // 2), here and below
        first = self._activation(self.norms[0](self.pool(self.convs[0](images))))
        features = first
        for conv, norm in zip(self.convs[1:], self.norms[1:]):
            features = self._activation(norm(conv(features)))
        return features + first if len(self.convs) > 2 else features


@Im2ImEncoder.register("conv_groups")
class ConvGroupsEncoder(Im2ImEncoder):
    """
    A plain network for small images and fast training from scratch: groups of 3 by 3 convolutions,
    each with batch normalisation and an activation. Max pooling after the first convolution of a
    group halves the image. Used with "whitening" in front by Jordan (2024, arXiv:2404.00498), whose
    networks for CIFAR-10 are `widths: [64, 256, 256]` with a `depth` of 2, and
    `widths: [128, 512, 512]` with 3.

    Input shape: `(batch, input_channels, height, width)`; output shape:
    `(batch, widths[-1], height // stride, width // stride)`, where `stride` is `2 ** len(widths)`.

    Registered as an `Im2ImEncoder` with name "conv_groups".

    # Parameters

    widths : `List[int]`, optional (default = `[64, 256, 256]`)
        The channels of each group.
    depth : `int`, optional (default = `2`)
        The number of convolutions per group. From 3 on, a shortcut goes around all but the first.
    input_channels : `int`, optional (default = `3`)
        The channels of an input image.
    activation : `Activation`, optional (default = `gelu`)
        What follows each normalised convolution.
    norm_momentum : `float`, optional (default = `0.1`)
        How much a batch counts in the running statistics of batch normalisation, above 0 and at
        most 1. Short training needs more than the default.
    """

    def __init__(
        self,
        widths: Optional[List[int]] = None,
        depth: int = 2,
        input_channels: int = 3,
        activation: Optional[Activation] = None,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        widths = [64, 256, 256] if widths is None else widths
        if not widths or min(widths) < 1:
            raise ConfigurationError(f"widths is {widths}; expected numbers of 1 or more")
        if depth < 1:
            raise ConfigurationError(f"depth is {depth}; expected at least 1")
        if not 0 < norm_momentum <= 1:
            raise ConfigurationError(
                f"norm_momentum is {norm_momentum}; expected a number above 0 and at most 1"
            )
        activation = activation or Activation.by_name("gelu")()
        self._input_channels = input_channels
        self._output_channels = widths[-1]
        self._stride = 2 ** len(widths)
        self.groups = torch.nn.Sequential()
        for previous, channels in zip([input_channels, *widths], widths):
            self.groups.append(ConvGroup(previous, channels, depth, activation, norm_momentum))

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_channels(self) -> int:
        return self._output_channels

    def get_stride(self) -> int:
        return self._stride

    def get_stages(self) -> List[List[str]]:
        return layer_stages(self, containers=["groups"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.groups(images)

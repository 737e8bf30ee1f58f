from typing import List, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3

from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder
from allencv.modules.layer_lists import one_per_layer
from allencv.modules.stages import layer_stages


@Im2ImEncoder.register("small_resnet")
class SmallResnetEncoder(Im2ImEncoder):
    """
    The residual network of He et al. (2015, arXiv:1512.03385, section 4.2) for CIFAR-10: a 3 by 3
    convolution without max pooling, then stages of basic blocks; all stages but the first have
    stride 2. Use it for images of about 32 to 128 pixels and training from scratch. A shortcut that
    changes the shape is a 1 by 1 convolution (the paper's option B).

    Input shape: `(batch, input_channels, height, width)`; output shape: `(batch, widths[-1],
    ceil(height / stride), ceil(width / stride))`, where `stride` is
    `stem_stride * 2 ** (len(widths) - 1)`: 8 by default. The defaults have 77,392 parameters.

    Registered as an `Im2ImEncoder` with name "small_resnet".

    # Parameters

    widths : `Optional[List[int]]`, optional (default = `[16, 32, 64]`)
        The channels of each stage.
    blocks : `Union[int, List[int]]`, optional (default = `1`)
        The number of blocks per stage, each of two 3 by 3 convolutions. A single number applies to
        all stages; 3 is the paper's ResNet-20. Raises `ConfigurationError` if the length of a list
        differs from that of `widths`.
    input_channels : `int`, optional (default = `3`)
        The channels of an input image.
    stem_stride : `int`, optional (default = `2`)
        The stride of the first convolution in pixels; the paper uses 1.
    zero_init_residual : `bool`, optional (default = `True`)
        Whether the last batch normalisation of each block starts with weight 0, so that the block
        starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
    """

    def __init__(
        self,
        widths: Optional[List[int]] = None,
        blocks: Union[int, List[int]] = 1,
        input_channels: int = 3,
        stem_stride: int = 2,
        zero_init_residual: bool = True,
    ) -> None:
        super().__init__()
        widths = [16, 32, 64] if widths is None else widths
        blocks = one_per_layer("blocks", blocks, "the number of widths", len(widths))
        for key, values in (("widths", widths), ("blocks", blocks)):
            if not values or min(values) < 1:
                raise ConfigurationError(f"{key} is {values}; expected numbers of 1 or more")
        self._input_channels = input_channels
        self._output_channels = widths[-1]
        self._stride = stem_stride * 2 ** (len(widths) - 1)

        self.conv1 = conv3x3(input_channels, widths[0], stem_stride)
        self.bn1 = torch.nn.BatchNorm2d(widths[0])
        self.relu = torch.nn.ReLU(inplace=True)
        self.stages = torch.nn.Sequential(_make_stage(widths[0], widths[0], blocks[0], stride=1))
        for i in range(1, len(widths)):
            self.stages.append(_make_stage(widths[i - 1], widths[i], blocks[i], stride=2))

        for module in self.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_residual and isinstance(module, BasicBlock):
                torch.nn.init.zeros_(module.bn2.weight)

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_channels(self) -> int:
        return self._output_channels

    def get_stride(self) -> int:
        return self._stride

    def get_stages(self) -> List[List[str]]:
        return layer_stages(self, containers=["stages"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # Shape: (batch, widths[0], height / stem_stride, width / stem_stride)
        stem = self.relu(self.bn1(self.conv1(images)))
        return self.stages(stem)


def _make_stage(
    input_channels: int, channels: int, num_blocks: int, stride: int
) -> torch.nn.Sequential:
    """Make a stage whose first block takes `input_channels` and applies the stride."""
    shortcut = None
    if stride != 1 or input_channels != channels:
        shortcut = torch.nn.Sequential(
            conv1x1(input_channels, channels, stride), torch.nn.BatchNorm2d(channels)
        )
    first = BasicBlock(input_channels, channels, stride, shortcut)
    others = [BasicBlock(channels, channels) for _ in range(num_blocks - 1)]
    return torch.nn.Sequential(first, *others)

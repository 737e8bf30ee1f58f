import math
from typing import List, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.nn import Activation

from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder
from allencv.modules.layer_lists import one_per_layer
from allencv.modules.stages import layer_stages


@Im2ImEncoder.register("feedforward")
class FeedForwardEncoder(Im2ImEncoder):
    """
    A stack of convolutions: what AllenNLP's `FeedForward` is for vectors. Each layer is a
    convolution, batch normalisation, an activation and dropout. Use it for small networks trained
    from scratch. Input shape: `(batch, input_channels, height, width)`; output shape:
    `(batch, hidden_channels[-1], ceil(height / stride), ceil(width / stride))`, where `stride` is
    the product of `strides`.

    Registered as an `Im2ImEncoder` with name "feedforward".

    # Example

    ```jsonnet
    {
      type: "feedforward",
      input_channels: 3,
      num_layers: 3,
      hidden_channels: [16, 32, 64],
      activations: "relu",
      strides: 2,
    }
    ```

    # Parameters

    input_channels : `int`, required
        The channels of an input image.
    num_layers : `int`, required
        The number of convolutions, 1 or more.
    hidden_channels : `Union[int, List[int]]`, required
        The output channels of each convolution. A single `int` is used for all. The length of a
        `List[int]` must be `num_layers`; this holds for every list below.
    activations : `Union[Activation, List[Activation]]`, required
        The activation after each normalised convolution. A single one is shared by all layers.
    kernel_sizes : `Union[int, List[int]]`, optional (default = `3`)
        The height and width of each convolution in pixels. Odd numbers only: each side is padded by
        half of it, so a layer of stride 1 keeps the size of the image.
    strides : `Union[int, List[int]]`, optional (default = `1`)
        The step of each convolution in pixels.
    batch_norm : `bool`, optional (default = `True`)
        Whether to normalise each convolution's output over the batch (Ioffe and Szegedy 2015,
        arXiv:1502.03167). Without it, the convolutions have a bias.
    dropout : `Union[float, List[float]]`, optional (default = `0.0`)
        The probability, 0 to 1, that a whole channel of an image is set to zero in training
        (Tompson et al. 2015, arXiv:1411.4280).
    """

    def __init__(
        self,
        input_channels: int,
        num_layers: int,
        hidden_channels: Union[int, List[int]],
        activations: Union[Activation, List[Activation]],
        kernel_sizes: Union[int, List[int]] = 3,
        strides: Union[int, List[int]] = 1,
        batch_norm: bool = True,
        dropout: Union[float, List[float]] = 0.0,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ConfigurationError(f"num_layers is {num_layers}; expected 1 or more")
        channels = one_per_layer("hidden_channels", hidden_channels, "num_layers", num_layers)
        activations = one_per_layer("activations", activations, "num_layers", num_layers)
        kernel_sizes = one_per_layer("kernel_sizes", kernel_sizes, "num_layers", num_layers)
        strides = one_per_layer("strides", strides, "num_layers", num_layers)
        dropout = one_per_layer("dropout", dropout, "num_layers", num_layers)
        for kernel_size in kernel_sizes:
            if kernel_size % 2 == 0:
                raise ConfigurationError(f"kernel_sizes has {kernel_size}; expected odd numbers")

        self._input_channels = input_channels
        self._output_channels: int = channels[-1]
        self._stride = math.prod(strides)
        self.layers = torch.nn.Sequential()
        for i in range(num_layers):
            convolution = torch.nn.Conv2d(
                input_channels if i == 0 else channels[i - 1],
                channels[i],
                kernel_sizes[i],
                strides[i],
                padding=kernel_sizes[i] // 2,
                bias=not batch_norm,
            )
            layer = [convolution, activations[i], torch.nn.Dropout2d(dropout[i])]
            if batch_norm:
                layer.insert(1, torch.nn.BatchNorm2d(channels[i]))
            self.layers.append(torch.nn.Sequential(*layer))

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_channels(self) -> int:
        return self._output_channels

    def get_stride(self) -> int:
        return self._stride

    def get_stages(self) -> List[List[str]]:
        return layer_stages(self, containers=["layers"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)

from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules import FeedForward

from allencv.modules.im2vec_encoders.im2vec_encoder import Im2VecEncoder


@Im2VecEncoder.register("flatten")
class FlattenEncoder(Im2VecEncoder):
    """
    Flattens an image of a known size to one vector, and optionally applies a feed-forward network
    to it. Input shape: `(batch, input_channels, input_height, input_width)`; output shape:
    `(batch, input_channels * input_height * input_width)`, or the feed-forward network's output
    dimension. Images of another size raise a `ConfigurationError`; for varying sizes, use
    "pooling".

    Registered as an `Im2VecEncoder` with name "flatten".

    # Parameters

    input_channels : `int`, required
        The channels of an input image.
    input_height : `int`, required
        The height of an input image in pixels: 1 after an encoder that pools.
    input_width : `int`, required
        The width of an input image in pixels: 1 after an encoder that pools.
    feedforward : `Optional[FeedForward]`, optional (default = `None`)
        Applied to the flat vector. Raises `ConfigurationError` if its input dimension is not
        `input_channels * input_height * input_width`.
    """

    def __init__(
        self,
        input_channels: int,
        input_height: int,
        input_width: int,
        feedforward: Optional[FeedForward] = None,
    ) -> None:
        super().__init__()
        flat_dim = input_channels * input_height * input_width
        if feedforward is not None and feedforward.get_input_dim() != flat_dim:
            raise ConfigurationError(
                f"feedforward.input_dim is {feedforward.get_input_dim()}; expected input_channels "
                f"* input_height * input_width = {flat_dim}"
            )
        self._input_channels = input_channels
        self._input_size = (input_height, input_width)
        self._output_dim = feedforward.get_output_dim() if feedforward is not None else flat_dim
        self.feedforward = feedforward

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_dim(self) -> int:
        return self._output_dim

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        if (height, width) != self._input_size:
            raise ConfigurationError(
                f"FlattenEncoder expects images of {self._input_size[0]} by {self._input_size[1]} "
                f"pixels (height by width), got {height} by {width}: change its "
                "input_height and input_width, or the size of the images"
            )
        # Shape: (batch, input_channels * height * width)
        vectors = images.flatten(start_dim=1)
        return vectors if self.feedforward is None else self.feedforward(vectors)

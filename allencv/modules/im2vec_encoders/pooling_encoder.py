import math
from typing import Union

import torch
from allennlp.common.checks import ConfigurationError

from allencv.common.nearest_names import not_one_of
from allencv.modules.im2vec_encoders.im2vec_encoder import Im2VecEncoder

_POOLS = ("avg", "max", "avg_max", "gem", "attention")


def gem_pool(
    images: torch.Tensor, p: Union[float, torch.Tensor], eps: float = 1e-6
) -> torch.Tensor:
    """
    Apply generalised-mean pooling (Radenovic et al. 2018, arXiv:1711.02512, equation 3). For each
    channel: `(mean over positions of max(x, eps) ** p) ** (1 / p)`. This is the average for `p = 1`
    and approaches the maximum for large `p`. Values below `eps` count as `eps`, so it suits
    features after a ReLU.
    Input shape: `(batch, channels, height, width)`; output shape: `(batch, channels)`.
    """
    return images.clamp(min=eps).pow(p).mean(dim=(2, 3)).pow(1 / p)


def attention_pool(images: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """
    Return the average of the vectors `x_i` at all positions `i`, weighted by
    `softmax_i(x_i . query / sqrt(channels))`: the scaled dot-product attention of Vaswani et al.
    (2017, arXiv:1706.03762, equation 1) with one query; `x_i` are both keys and values. A learned
    query is the seed vector of Lee et al. (2019, arXiv:1810.00825, section 3.2).
    Input shapes: `(batch, channels, height, width)` and `(channels,)`; output shape:
    `(batch, channels)`.
    """
    # Shape: (batch, channels, height * width)
    positions = images.flatten(start_dim=2)
    # Shape: (batch, height * width)
    weights = torch.softmax(query @ positions / math.sqrt(len(query)), dim=-1)
    return (positions @ weights.unsqueeze(-1)).squeeze(-1)


@Im2VecEncoder.register("pooling")
class PoolingEncoder(Im2VecEncoder):
    """
    Pools each channel of an image of any size to one or two numbers. Input shape:
    `(batch, input_channels, height, width)`; output shape: `(batch, input_channels)`, or
    `(batch, 2 * input_channels)` for "avg_max".

    Registered as an `Im2VecEncoder` with name "pooling".

    # Parameters

    input_channels : `int`, required
        The channels of an input image.
    pool : `str`, optional (default = `"avg"`)
        How to pool over positions: "avg", "max", "avg_max" (the averages of all channels, then
        their maxima, as in the concat pooling of Howard and Ruder 2018, arXiv:1801.06146, section
        3.3), "gem" (see `gem_pool`; one learned `p` for all channels) or "attention" (see
        `attention_pool`; the learned query starts at zero, which is the average).
    gem_p : `float`, optional (default = `3.0`)
        The initial `p` above 0. Raises `ConfigurationError` if it is given for a `pool` other than
        "gem".
    """

    def __init__(self, input_channels: int, pool: str = "avg", gem_p: float = 3.0) -> None:
        super().__init__()
        if pool not in _POOLS:
            raise not_one_of("pool", pool, _POOLS)
        if gem_p <= 0:
            raise ConfigurationError(f"gem_p is {gem_p}; expected a number above 0")
        if gem_p != 3.0 and pool != "gem":
            raise ConfigurationError(f"gem_p is {gem_p}, but pool is {pool!r}; expected 'gem'")
        self._input_channels = input_channels
        self._pool = pool
        if pool == "gem":
            self.p = torch.nn.Parameter(torch.tensor(float(gem_p)))
        elif pool == "attention":
            self.query = torch.nn.Parameter(torch.zeros(input_channels))

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_dim(self) -> int:
        return self._input_channels * (2 if self._pool == "avg_max" else 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self._pool == "max":
            return images.amax(dim=(2, 3))
        if self._pool == "avg_max":
            return torch.cat([images.mean(dim=(2, 3)), images.amax(dim=(2, 3))], dim=1)
        if self._pool == "gem":
            return gem_pool(images, self.p)
        if self._pool == "attention":
            return attention_pool(images, self.query)
        return images.mean(dim=(2, 3))

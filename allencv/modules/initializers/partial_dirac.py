from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.nn import Initializer

from allencv.common.checks import CheckedFromParams


@Initializer.register("partial_dirac")
class PartialDirac(CheckedFromParams, Initializer):
    """
    Makes a convolution pass on its input: filter `i` becomes the identity of channel `i`. Filters
    beyond the number of input channels keep their random weights; AllenNLP's "dirac" makes them 0.
    Deep networks without shortcuts then start with a gradient that reaches their input (Zagoruyko
    and Komodakis 2017, arXiv:1706.00388; Jordan 2024, arXiv:2404.00498).

    For all convolutions of a "conv_groups" encoder: `initializer: { regexes: [["convs.*weight",
    "partial_dirac"]] }`, as a key of the model.

    Registered as an `Initializer` with name "partial_dirac".

    # Parameters

    groups : `int`, optional (default = `1`)
        The groups of the convolutions, which their weights do not tell. Each group then passes on
        its own channels. Give convolutions with other groups a regular expression of their own.

    # Raises

    `ConfigurationError` for a weight that is not of a convolution, or not of one with `groups`.
    """

    def __init__(self, groups: int = 1) -> None:
        if groups < 1:
            raise ConfigurationError(f"groups of 'partial_dirac' is {groups}; expected at least 1")
        self._groups = groups

    def __call__(self, tensor: torch.Tensor, **kwargs: Any) -> None:
        if not 3 <= tensor.dim() <= 5:
            raise ConfigurationError(
                f"model.initializer has 'partial_dirac' for {kwargs.get('parameter_name')}, whose "
                f"shape is {tuple(tensor.shape)}; expected a regular expression for weights of "
                "convolutions"
            )
        if len(tensor) % self._groups:
            raise ConfigurationError(
                f"model.initializer has 'partial_dirac' with groups {self._groups} for "
                f"{kwargs.get('parameter_name')}, which has {len(tensor)} filters; expected a "
                "divisor of this number"
            )
        with torch.no_grad():
            for filters in tensor.chunk(self._groups):
                torch.nn.init.dirac_(filters[: filters.size(1)])

import torch
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams


class ImageTransform(CheckedFromParams, Registrable):
    """
    Turns one decoded image into another: a crop, a flip, a change of colour.

    Input and output are `(channels, height, width)`. An image arrives as decoded, `uint8` from 0 to
    255, usually a view of a `(height, width, channels)` array, the layout where resizing is
    fastest. A transform may change the size, the number of channels, and the type to `float32`.

    One object serves many threads at once, so a transform keeps nothing from one call to the next.
    It draws its random numbers from torch (`torch.rand`, `torch.randint`, ...), never from `random`
    or `numpy`: the caller decides the generator with `random_source`, and the same seed gives the
    same image.
    """

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

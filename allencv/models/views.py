from functools import partial, reduce
from typing import Callable, Dict, List, Optional

import torch
from torch.nn import functional as F

from allencv.common.nearest_names import not_one_of

View = Callable[[torch.Tensor], torch.Tensor]

VIEWS: Dict[str, View] = {
    "horizontal_flip": lambda images: images.flip(-1),
    "vertical_flip": lambda images: images.flip(-2),
    "rotate_90": lambda images: images.rot90(1, (-2, -1)),
    "rotate_180": lambda images: images.rot90(2, (-2, -1)),
    "rotate_270": lambda images: images.rot90(3, (-2, -1)),
    "shift_up_left": lambda images: _with_edge(images)[..., 2:, 2:],
    "shift_down_right": lambda images: _with_edge(images)[..., :-2, :-2],
}
"""
The views of `test_time_augmentation`. Rotations are anticlockwise. Shifts are by one pixel and
repeat the edge.
"""


def _with_edge(images: torch.Tensor) -> torch.Tensor:
    return F.pad(images, (1, 1, 1, 1), mode="replicate")


def views_by_name(names: Optional[List[str]]) -> List[View]:
    """Return the views with these names. "a+b" is the view "b" of the view "a"."""
    return [_view_by_name(index, name) for index, name in enumerate(names or [])]


def _view_by_name(index: int, name: str) -> View:
    parts = [part.strip() for part in name.split("+")]
    for part in parts:
        if part not in VIEWS:
            raise not_one_of(f"model.test_time_augmentation.{index}", part, VIEWS)
    return partial(reduce, lambda images, part: VIEWS[part](images), parts)

from typing import Callable, Dict, List, Optional

import torch

from allencv.common.nearest_names import not_one_of

View = Callable[[torch.Tensor], torch.Tensor]

VIEWS: Dict[str, View] = {
    "horizontal_flip": lambda images: images.flip(-1),
    "vertical_flip": lambda images: images.flip(-2),
    "rotate_90": lambda images: images.rot90(1, (-2, -1)),
    "rotate_180": lambda images: images.rot90(2, (-2, -1)),
    "rotate_270": lambda images: images.rot90(3, (-2, -1)),
}
"""The views of `test_time_augmentation`. Rotations are anticlockwise."""


def views_by_name(names: Optional[List[str]]) -> List[View]:
    for index, name in enumerate(names or []):
        if name not in VIEWS:
            raise not_one_of(f"model.test_time_augmentation.{index}", name, VIEWS)
    return [VIEWS[name] for name in names or []]

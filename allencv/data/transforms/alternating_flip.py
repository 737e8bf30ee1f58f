import hashlib
from typing import Optional

import numpy as np
import torch

from allencv.data.transforms.batch_draws import BatchDraws
from allencv.data.transforms.batch_memory import picked, put_back
from allencv.data.transforms.image_transform import ImageTransform, OnBatch
from allencv.data.transforms.image_turn import ImageTurn, current_turn


@ImageTransform.register("alternating_flip")
class AlternatingFlip(ImageTransform):
    """
    Mirrors an image from left to right in every other epoch. Half of the images, drawn by the seed,
    are mirrored in the first. In two epochs the network sees both sides of each image, while a
    random flip shows half of the images twice from the same side. Use it for short training
    (Jordan 2024, arXiv:2404.00498).

    The data loader "image" tells which image and epoch it is. Other callers, which do not, get a
    flip at random, with a probability of 0.5. If an epoch has an image several times (`repeats`,
    `class_weighting`), all are alike.

    Input and output are `(channels, height, width)`.

    Registered as an `ImageTransform` with name "alternating_flip".
    """

    is_random = True

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        turn = current_turn()
        is_flipped = bool(torch.rand(1) < 0.5) if turn is None else _flips(turn)
        return image.flip(-1) if is_flipped else image

    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Optional[OnBatch]:
        turns = [turn for turn in draws.turns if turn is not None]
        if len(turns) < len(draws):
            return None
        which = np.flatnonzero([_flips(turn) for turn in turns])
        return lambda images: put_back(images, which, picked(images, which).flip(-1))


def _flips(turn: ImageTurn) -> bool:
    drawn = hashlib.blake2b(f"{turn.seed} {turn.image}".encode(), digest_size=1).digest()[0]
    return (drawn + turn.epoch) % 2 == 1

import hashlib
from typing import Tuple

from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.transforms.image_turn import ImageTurn


class DrawSeed(int):
    """The seed of the draws for an image at a place of an epoch. It knows whose turn it is."""

    turn: ImageTurn

    def __new__(cls, seed: int, turn: ImageTurn) -> "DrawSeed":
        self = super().__new__(cls, seed)
        self.turn = turn
        return self

    def __getnewargs__(self) -> Tuple[int, ImageTurn]:  # type: ignore[override] # for pickle
        return int(self), self.turn


def draw_seed(seed: int, epoch: int, place: int, image: object) -> DrawSeed:
    """
    Return the seed of the draws for an image.

    # Parameters

    seed : `int`
        That of the data loader.
    epoch, place : `int`
        The draws depend on the place, because an epoch may have an image several times.
    image : `object`
        The number of the image, or its `Sample` if it is streamed.
    """
    turn = ImageTurn(seed, epoch, image.image if isinstance(image, Sample) else image)
    return DrawSeed(mix(seed, epoch, place), turn)


def mix(*numbers: int) -> int:
    """Return a seed that depends on all numbers, the same in every process and on every machine."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)

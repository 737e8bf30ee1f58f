"""Random numbers for a whole batch of images, the same as each image draws alone."""

from functools import cache
from typing import Optional, Sequence, Union

import numpy as np
import torch

from allencv.data.transforms.image_turn import ImageTurn

FIRST_WORDS = 32
"""How many words to draw for each image at first: enough for the usual transforms."""
SHARE_BITS = 24
"""torch makes a number from 0 to 1 of so many bits."""


class BatchDraws:
    """
    Draws random numbers for the images of a batch at once. Each image gets the numbers that torch
    would draw with a generator of its own, in the same order. One draw of torch takes as long as
    drawing for hundreds of images here.

    Most methods take `which`, the numbers of the images to draw for, each once; by default all.

    # Parameters

    seeds : `Sequence[int]`, required
        The seed of each image's generator.
    turns : `Sequence[Optional[ImageTurn]]`, optional (default = `None`)
        What `current_turn` returns for each image.
    """

    def __init__(
        self, seeds: Sequence[int], turns: Optional[Sequence[Optional[ImageTurn]]] = None
    ) -> None:
        self.turns = [None] * len(seeds) if turns is None else turns
        self._seeds = seeds
        self._used = np.zeros(len(seeds), np.int64)
        self._words = _first_words(seeds, FIRST_WORDS)

    def __len__(self) -> int:
        return len(self._seeds)

    def words(self, which: Optional[np.ndarray] = None) -> np.ndarray:
        """Return the next 32 random bits of each image, as `int64`."""
        which = np.arange(len(self)) if which is None else which
        places = self._used[which]
        while places.max(initial=0) >= self._words.shape[1]:
            self._words = _first_words(self._seeds, 2 * self._words.shape[1])
        self._used[which] += 1
        return self._words[which, places]

    def shares(self, which: Optional[np.ndarray] = None) -> np.ndarray:
        """Return what `torch.rand(1)` draws for each image, as `float32`."""
        bits = self.words(which) & (2**SHARE_BITS - 1)
        return bits.astype(np.float32) * np.float32(2**-SHARE_BITS)

    def uniform(self, low: float, high: float, which: Optional[np.ndarray] = None) -> np.ndarray:
        """Return what `torch.empty(1).uniform_(low, high)` draws for each image, as `float32`."""
        start, span = np.float32(low), np.float32(high) - np.float32(low)
        # torch multiplies and adds with one rounding (FMA).
        exact = self.shares(which).astype(np.float64) * np.float64(span) + np.float64(start)
        return exact.astype(np.float32)

    def below(
        self, bound: Union[int, np.ndarray], which: Optional[np.ndarray] = None
    ) -> np.ndarray:
        """
        Return what `torch.randint(bound, ())` draws for each image, as `int64`. `bound` may differ
        for each image.
        """
        return self.words(which) % bound

    def orders(self, size: int) -> np.ndarray:
        """Return what `torch.randperm(size)` draws for each image: `(images, size)`."""
        orders = np.tile(np.arange(size), (len(self), 1))
        images = np.arange(len(self))
        for place in range(size - 1):
            other = place + self.below(size - place)
            moved = orders[images, other]
            orders[images, other] = orders[:, place]
            orders[:, place] = moved
        return orders

    def generator(self, image: int) -> torch.Generator:
        """Return a generator that continues the draws of an image."""
        generator = torch.Generator().manual_seed(self._seeds[image])
        torch.rand(int(self._used[image]), generator=generator)
        return generator


@cache
def draws_like_torch() -> bool:
    """
    Return whether `BatchDraws` draws what torch draws. Another version of torch, or a processor
    that rounds differently, may draw something else.
    """
    seeds = range(100)
    draws = BatchDraws(seeds)
    drawn = (draws.shares(), draws.below(7), draws.uniform(-0.3, 1.7), draws.orders(4))
    for image, ours in zip(seeds, zip(*drawn)):
        with torch._C.DisableTorchFunction():
            generator = torch.Generator().manual_seed(image)
            theirs = (
                torch.rand(1, generator=generator),
                torch.randint(7, (), generator=generator),
                torch.empty(1).uniform_(-0.3, 1.7, generator=generator),
                torch.randperm(4, generator=generator),
            )
        if not all(
            np.array_equal(one, other.numpy().squeeze()) for one, other in zip(ours, theirs)
        ):
            return False
    return True


def _first_words(seeds: Sequence[int], count: int) -> np.ndarray:
    """Return the first `count` words of 32 bits that a generator with each seed gives."""
    generator = torch.Generator()
    # Shape: (images, pairs of words)
    pairs = torch.empty(len(seeds), count // 2, dtype=torch.int64)
    with torch._C.DisableTorchFunction():
        for seed, row in zip(seeds, pairs.unbind()):
            generator.manual_seed(seed)
            row.random_(-(2**63), None, generator=generator)  # all 64 bits
    both = pairs.numpy().view(np.uint64)
    words = np.stack([both >> np.uint64(32), both & np.uint64(2**32 - 1)], axis=-1)
    return words.reshape(len(seeds), count).astype(np.int64)

import logging
from typing import Dict

import numpy as np
from allennlp.common.checks import ConfigurationError

from allencv.certainty.unknown_scores.unknown_score import KnownImages, UnknownScore
from allencv.runtime.certainty.unknown_rule import unit

logger = logging.getLogger(__name__)


@UnknownScore.register("nearest")
class Nearest(UnknownScore):
    """
    The distance of the vector to the k-th nearest of training images, all scaled to length 1 (Sun
    et al. 2022, arXiv:2204.06507).

    Registered as an `UnknownScore` with the name "nearest".

    # Parameters

    neighbour : `int`, optional (default = `10`)
        k. With fewer training images, it is their number.
    most_images : `int`, optional (default = `1000`)
        How many training images are kept, drawn at random. Their vectors make the archive and the
        bundle larger, by 2 bytes for each number.
    seed : `int`, optional (default = `0`)
        Of the draw.
    """

    kind = "nearest"

    def __init__(self, neighbour: int = 10, most_images: int = 1000, seed: int = 0) -> None:
        if not 1 <= neighbour <= most_images:
            raise ConfigurationError(
                f"neighbour is {neighbour} and most_images {most_images}; expected 1 or more, and "
                "at most most_images"
            )
        self._neighbour = neighbour
        self.most_images = most_images
        self._seed = seed

    def fit(self, known: KnownImages) -> Dict[str, np.ndarray]:
        if len(known.vectors) < self._neighbour:
            logger.warning(
                "neighbour of the unknown score 'nearest' is %d, and there are %d training images: "
                "the score is the distance to the farthest of them, which tells little",
                self._neighbour,
                len(known.vectors),
            )
        order = np.random.default_rng(self._seed).permutation(len(known.vectors))
        kept = unit(known.vectors[np.sort(order[: self.most_images])])
        return {
            "kept": kept.astype(np.float16),
            "neighbour": np.array(min(self._neighbour, len(kept))),
        }

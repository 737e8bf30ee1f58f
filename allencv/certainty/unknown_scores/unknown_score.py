from typing import Dict, NamedTuple

import numpy as np
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams


class KnownImages(NamedTuple):
    """
    What an `UnknownScore` may use.

    # Parameters

    vectors : `np.ndarray`
        `(images, vector_size)`, float32, of training images; empty for a score that does not need
        them.
    targets : `np.ndarray`
        `(images, labels)`, `bool`, the labels of these images.
    weight, bias : `np.ndarray`
        `(labels, vector_size)` and `(labels,)`, of the last layer.
    """

    vectors: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


class UnknownScore(CheckedFromParams, Registrable):
    """
    Measures how unlike the training data an image is: the higher, the less alike.

    A subclass prepares arrays for one of the scores in `allencv.runtime.certainty.unknown_rule`,
    which bundles compute with numpy alone.
    """

    kind: str
    """The score, a key of `allencv.runtime.certainty.unknown_rule.SCORES`."""
    most_images = 0
    """How many training images it uses at most; 0 for a score that needs none."""

    def chosen(self, is_frozen: bool) -> "UnknownScore":
        """Return the score to use for a network whose encoder is frozen, or was trained."""
        return self

    def fit(self, known: KnownImages) -> Dict[str, np.ndarray]:
        """Return the arrays that the score needs, by the names of its arguments."""
        raise NotImplementedError

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

from allencv.runtime.certainty.blocks import in_blocks

KINDS = ("lac", "aps", "raps", "missed")


@dataclass(frozen=True)
class LabelSets:
    """
    Sets of labels that hold the right one as often as was asked for.

    # Parameters

    kind : "lac" takes each label whose probability is high enough (Sadinle et al. 2019,
        arXiv:1609.00451); "aps" the most probable labels until their sum is large enough (Romano et
        al. 2020, arXiv:2006.02544); "raps" does so with a penalty for long sets (Angelopoulos et
        al. 2021, arXiv:2009.14193). "missed" is for several labels an image: it takes each label
        whose probability is high enough for a small share of missed labels (conformal risk control,
        Angelopoulos et al. 2024, arXiv:2208.02814).
    levels : the shares of images whose set holds the right label, in (0, 1); with "missed" the
        shares of their labels that are in the set.
    limits : for each level, one limit for all labels, or a limit for each of them. A limit is the
        largest score (1 - probability, or the sum of probabilities) with which a label is taken.
    penalty, free_ranks : of "raps": what each place after the first `free_ranks` adds to the sum.
    """

    kind: str
    levels: List[float]
    limits: List[List[float]]
    penalty: float = 0.0
    free_ranks: int = 0

    @property
    def by_class(self) -> bool:
        """Whether each label has limits of its own."""
        return len(self.limits[0]) > 1

    def members(self, probabilities: np.ndarray, place: int) -> np.ndarray:
        """
        Return the sets `(images, labels)`, `bool`, for the level at `place` in `levels`, from
        calibrated probabilities. Unless an image may have several labels, a set has at least the
        most probable label.
        """
        limits = np.array(self.limits[place])
        members = in_blocks(lambda rows: self.scores(rows) <= limits, probabilities)
        if self.kind == "lac":
            members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
        return members

    @property
    def sums(self) -> bool:
        """Whether the scores are sums of probabilities."""
        return self.kind in ("aps", "raps")

    def scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Return what `members` compares with the limits, `(images, labels)`, `float64`."""
        if self.sums:
            return sums_before(probabilities, self.penalty, self.free_ranks)
        return 1 - probabilities.astype(np.float64)


def ranked(probabilities: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """
    Return the labels of each image, the most probable first, and the sums of the probabilities
    through each of them; both `(images, labels)`.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    return order, np.cumsum(ordered, axis=1, dtype=np.float64)


def penalties(labels: int, penalty: float, free_ranks: int) -> np.ndarray:
    """Return what is added to the sums of `ranked`, `(labels,)`."""
    return penalty * np.maximum(np.arange(1, labels + 1) - free_ranks, 0)


def sums_before(probabilities: np.ndarray, penalty: float, free_ranks: int) -> np.ndarray:
    """
    Return for each label `(images, labels)`, `float64`, the sum of the probabilities of the labels
    before it, with the penalty of the last of these; 0 for the most probable label.
    """
    order, sums = ranked(probabilities)
    sums += penalties(probabilities.shape[1], penalty, free_ranks)
    before = np.zeros(probabilities.shape)
    np.put_along_axis(before, order[:, 1:], sums[:, :-1], axis=1)
    return before

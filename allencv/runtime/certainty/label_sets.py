from dataclasses import dataclass
from typing import List

import numpy as np

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
        members = self.scores(probabilities) <= limits
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


def ranks_of(probabilities: np.ndarray) -> np.ndarray:
    """Return the place `(images, labels)` of each label, 0 for the most probable."""
    return np.argsort(np.argsort(-probabilities, axis=1, kind="stable"), axis=1)


def sums_through(probabilities: np.ndarray, penalty: float, free_ranks: int) -> np.ndarray:
    """
    Return for each label `(images, labels)`, `float64`, the sum of the probabilities of the labels
    that are at least as probable, with the penalty of its place.
    """
    ranks = ranks_of(probabilities)
    order = np.argsort(ranks, axis=1)
    sums = np.cumsum(np.take_along_axis(probabilities.astype(np.float64), order, axis=1), axis=1)
    sums += penalty * np.maximum(np.arange(1, probabilities.shape[1] + 1) - free_ranks, 0)
    return np.take_along_axis(sums, ranks, axis=1)


def sums_before(probabilities: np.ndarray, penalty: float, free_ranks: int) -> np.ndarray:
    """
    Return `sums_through` of the label one place before each label; 0 for the most probable label.
    """
    ranks = ranks_of(probabilities)
    order = np.argsort(ranks, axis=1)
    sums = np.take_along_axis(sums_through(probabilities, penalty, free_ranks), order, axis=1)
    before = np.concatenate([np.zeros_like(sums[:, :1]), sums[:, :-1]], axis=1)
    return np.take_along_axis(before, ranks, axis=1)

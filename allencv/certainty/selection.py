"""Find the lowest confidence with which the answers are right often enough."""

import math
from typing import List, Optional, Tuple

import numpy as np

from allencv.runtime.certainty.selection import Selection

CERTAINTY = 0.95
FACTOR = 3
"""
The search begins from the fewest images, and again from each number that is larger by this factor,
each with an equal part of the allowed error. With one wrong label among the most confident images,
the first search ends at once; the others do not.
"""
STEP = 1.02
"""Each tried number of images is larger than the one before by this factor."""


def fit_selection(
    confidence: np.ndarray,
    is_right: np.ndarray,
    target_accuracy: float,
    certainty: float = CERTAINTY,
) -> Optional[Selection]:
    """
    Return the selection that answers most images, so that at least `target_accuracy` of the answers
    are right. This fails with a probability of at most 1 - `certainty`, over the draw of the images
    given. Return `None` if that cannot be shown for any number of images.

    The images are tried in groups of the most confident, from few to many, each by an exact
    binomial test, and the search ends with the first group that fails (fixed sequence testing, as
    in learn-then-test: Angelopoulos et al. 2021, arXiv:2110.01052, section 2.3).

    # Parameters

    confidence : `np.ndarray`
        `(images,)`, in [0, 1]. Below 0 an image is never answered.
    is_right : `np.ndarray`
        `(images,)`, whether the answer is right.
    """
    from scipy.stats import binom  # slow to import

    order = np.argsort(-confidence, kind="stable")
    ranked, errors = confidence[order], np.cumsum(~is_right[order].astype(bool))
    usable = int((ranked >= 0).sum())
    # Images of one confidence are answered together, so groups end only here.
    ends = np.append(np.nonzero(ranked[1:] != ranked[:-1])[0] + 1, len(ranked))
    begins = starts(usable, target_accuracy, certainty)
    allowed = (1 - certainty) / max(len(begins), 1)
    best: Optional[int] = None
    for start in begins:
        counts = np.array(tried(start, usable))
        counts = ends[np.searchsorted(ends, counts)]
        counts = counts[counts <= usable]
        chances = binom.cdf(errors[counts - 1], counts, 1 - target_accuracy)
        passed = counts[np.logical_and.accumulate(chances <= allowed)]
        if len(passed):
            best = max(int(passed[-1]), best or 0)
    if best is None:
        return None
    return Selection(
        target_accuracy,
        certainty,
        float(ranked[best - 1]),
        best / len(confidence),
        float(1 - errors[best - 1] / best),
    )


def starts(usable: int, target_accuracy: float, certainty: float) -> List[int]:
    """Return the numbers of images to begin with. The first can pass only without a fault."""
    fewest = fewest_images(target_accuracy, certainty)
    if fewest > usable:
        return []
    number = 1 + int(math.log(usable / fewest, FACTOR))
    first = fewest_images(target_accuracy, 1 - (1 - certainty) / number)
    return [first * FACTOR**place for place in range(number) if first * FACTOR**place <= usable]


def tried(start: int, usable: int) -> List[int]:
    """Return the numbers of images to try, in order."""
    counts, count = [], start
    while count <= usable:
        counts.append(count)
        count = max(count + 1, round(count * STEP))
    return [*counts, usable] if counts and counts[-1] != usable else counts


def fewest_images(target_accuracy: float, certainty: float = CERTAINTY) -> int:
    """Return the fewest images, all answered right, that show a target accuracy."""
    return math.ceil(math.log(1 - certainty) / math.log(target_accuracy))


def risk_and_coverage(
    confidence: np.ndarray, is_right: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """
    Return the shares of images that are answered, ascending, and the share of wrong answers among
    them, each `(images,)`, if the most confident images are answered first.
    """
    errors = ~is_right[np.argsort(-confidence, kind="stable")].astype(bool)
    counts = np.arange(1, len(errors) + 1)
    return counts / len(errors), np.cumsum(errors) / counts

"""Find the lowest confidence with which the answers are right often enough."""

import math
from typing import List, Optional, Tuple

import numpy as np

from allencv.runtime.certainty.selection import Selection

CERTAINTY = 0.95
WRONG = (0, 2, 8, 32, 128, 512, 2048)
"""
The search begins with the fewest images of which so many may be wrong, and with all images. A wrong
answer among the most confident images, such as a wrong label, ends a search that begins with 0; the
others go on. Of the starts that were tried, these find the largest share of answers in simulations.
"""
STEP = 1.02
"""Each tried number of images is larger than the one before by this factor."""
TARGET_STEP = 0.001
"""The resolution of `highest_selection`."""


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
    binomial test. The search has several starts, which share the allowed probability of an error. A
    test that passes hands its share on to the next one, and one that fails loses it (the fallback
    procedure: Wiens 2003, Pharmaceutical Statistics 2:211; as in learn-then-test: Angelopoulos et
    al. 2021, arXiv:2110.01052, section 2.3).

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
    begins = starts(usable, target_accuracy, certainty)
    if not begins:
        return None
    # Images of one confidence are answered together, so groups end only here.
    ends = np.append(np.nonzero(ranked[1:] != ranked[:-1])[0] + 1, len(ranked))

    def whole(counts: List[int]) -> np.ndarray:
        found = ends[np.searchsorted(ends, counts)]
        return found[found <= usable]

    counts = np.unique(whole([*begins, *tried(begins[0], usable)]))
    chances = binom.cdf(errors[counts - 1], counts, 1 - target_accuracy)
    shares = (counts[:, None] == whole(begins)).sum(axis=1) * (1 - certainty) / len(begins)
    best, allowed = 0, 0.0
    for count, chance, share in zip(counts.tolist(), chances, shares):
        allowed += share
        if 0 < allowed >= chance:
            best = count
        else:
            allowed = 0.0
    if not best:
        return None
    return Selection(
        target_accuracy,
        certainty,
        float(ranked[best - 1]),
        best / len(confidence),
        float(1 - errors[best - 1] / best),
    )


def starts(usable: int, target_accuracy: float, certainty: float) -> List[int]:
    """
    Return the numbers of images to begin with: as many of `WRONG` as the images allow, and with
    three or more of them all images too.
    """
    from scipy.stats import binom

    counts = np.arange(1, usable + 1)
    for number in range(len(WRONG), 0, -1):
        number_of_starts = number + (number >= 3)
        allowed = (1 - certainty) / number_of_starts
        if usable and binom.cdf(WRONG[number - 1], usable, 1 - target_accuracy) <= allowed:
            passing = (binom.cdf(n, counts, 1 - target_accuracy) <= allowed for n in WRONG[:number])
            found = {int(counts[each.argmax()]) for each in passing}
            return sorted(found | {usable} if number >= 3 else found)
    return []


def tried(start: int, usable: int) -> List[int]:
    """Return the numbers of images to try, in order."""
    counts, count = [], start
    while count <= usable:
        counts.append(count)
        count = max(count + 1, round(count * STEP))
    return [*counts, usable] if counts and counts[-1] != usable else counts


def highest_selection(
    confidence: np.ndarray, is_right: np.ndarray, below: float, certainty: float = CERTAINTY
) -> Optional[Selection]:
    """Return the selection with the highest target accuracy that can be shown, if there is one."""
    best, fails = None, math.ceil(below / TARGET_STEP - 1e-9)
    passes = 0
    while fails - passes > 1:
        middle = (passes + fails) // 2
        found = fit_selection(confidence, is_right, middle * TARGET_STEP, certainty)
        best, passes, fails = (best, passes, middle) if found is None else (found, middle, fails)
    return best


def images_needed(
    confidence: np.ndarray,
    is_right: np.ndarray,
    target_accuracy: float,
    certainty: float = CERTAINTY,
) -> Optional[int]:
    """
    Return about how many images like these it takes to show a target accuracy, if their shares of
    wrong answers stay the same. Return `None` if more images do not help.
    """
    from scipy.stats import binom

    usable = int((confidence >= 0).sum())
    _, risk = risk_and_coverage(confidence, is_right)
    counts = np.arange(max(1, usable // 10), usable + 1)  # fewer say little about the others
    for more in 1.05 ** np.arange(1, 150):
        scaled = np.floor(counts * more)
        chances = binom.cdf(scaled * risk[counts - 1], scaled, 1 - target_accuracy)
        if (chances <= (1 - certainty) / 10).any():  # 10, as the best of many risks is too low
            return math.ceil(len(confidence) * more)
    return None


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

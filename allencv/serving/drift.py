"""Notice when the images of a server stop looking like those of the calibration."""

import math
import threading
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import Deque, Dict, List, Optional, Tuple

import numpy as np

from allencv.runtime.certainty import Certainty

WINDOW = 250
"""The images of a window."""
SPANS = (1, 4, 16)
"""
Each window is tested alone, each 4 of them together, and each 16: a small drift needs many images.
"""
FALSE_ALARMS = 1 / 1000
"""Unchanged images raise at most this many alarms for each window, on average."""
BINS = 32
"""The scores of the calibration images are parted into so many bins of about equal counts."""
DRAWS = 20_000
"""Random divisions for an exact test; its smallest p-value is 1 / (draws + 1)."""
SUSPICIOUS = 0.05
"""Below this approximate p-value the exact test is done."""
EXCEEDED = 20
"""An exact test ends after so many divisions with as large a distance: its p-value is not small."""
DRAWS_AT_ONCE = 1000
MOST_LABELS = 64
"""
Of more labels, the most frequent are compared one by one, and the others together; with several
labels an image the others are not compared.
"""
TESTED = ("scores", "labels")


@dataclass(frozen=True)
class Window:
    """How many images of a window have a score in each bin, and how many have each label."""

    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """
    A comparison of the last images with those of the calibration.

    # Parameters

    windows : how many windows were compared together.
    of : "scores" or "labels".
    distance : from 0 to 1. Of scores, the largest difference between the shares of images below a
        score (Kolmogorov and Smirnov); of labels, half the sum of the differences of their shares,
        and with several labels an image the largest difference of the shares of images that have a
        label.
    p_value : how probable so large a distance is for unchanged images, or a bound of this.
    """

    windows: int
    of: str
    distance: float
    p_value: float

    @property
    def is_alarm(self) -> bool:
        # All comparisons share the allowed error; those of 16 windows are rarer.
        return self.p_value <= FALSE_ALARMS / (len(TESTED) * sum(1 / span for span in SPANS))


@dataclass
class DriftWatch:
    """
    Keeps counts of scores and labels, and no images, in windows, and compares each finished window
    with the calibration images. Several threads may add to it.

    # Parameters

    certainty : has the scores and the labels of the calibration images.
    multi_label : whether an image may have several labels.
    window : the images of a window.
    """

    certainty: Certainty
    multi_label: bool = False
    window: int = WINDOW
    windows: int = 0
    """Finished windows."""
    alarms: int = 0
    """Comparisons with an alarm."""
    last: Dict[Tuple[int, str], Comparison] = field(default_factory=dict)
    """The last comparison for each number of windows, and for scores and labels."""

    def __post_init__(self) -> None:
        known = self.certainty.known_scores
        edges = np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])
        self._edges: List[float] = np.unique(edges).tolist()
        bins = np.bincount(
            [self._bin(score) for score in known.tolist()], minlength=len(self._edges) + 1
        )
        self._expected = Window(bins, self.certainty.label_counts.astype(np.int64))
        self._kept: Deque[Window] = deque(maxlen=max(SPANS))
        self._random = np.random.default_rng(0)
        self._lock = threading.Lock()
        self._comparing = threading.Lock()
        self._begin()

    @property
    def pending(self) -> int:
        """The images since the last window."""
        return self._images

    @property
    def is_alarm(self) -> bool:
        """Whether one of the last comparisons had an alarm."""
        return any(each.is_alarm for each in self.last.values())

    def add(self, score: float, labels: List[int]) -> None:
        """Count an image with its score, as `Certainty.scores` gives it, and its labels."""
        with self._lock:
            self._scores[self._bin(score)] += 1
            self._labels[labels] += 1
            self._images += 1
            if self._images < self.window:
                return
            finished = Window(self._scores, self._labels)
            self._begin()
        # Meanwhile the other threads may count: exact tests take tenths of a second.
        with self._comparing:
            self._finish(finished)

    def counts(self) -> Dict[str, Tuple[List[int], List[int]]]:
        """
        Return for "scores" and "labels" the counts of the calibration images and those of the
        windows that are kept.
        """
        with self._lock:
            recent = self._merged(len(self._kept)) if self._kept else None
        found = {}
        for of in TESTED:
            expected = getattr(self._expected, of)
            given = np.zeros_like(expected) if recent is None else getattr(recent, of)
            found[of] = expected.tolist(), given.tolist()
        return found

    def _finish(self, window: Window) -> None:
        with self._lock:
            self._kept.append(window)
            self.windows += 1
        for span in SPANS:
            if self.windows % span == 0:
                found = self._compare(span)
                self.last = {**self.last, **{(span, each.of): each for each in found}}
                self.alarms += sum(each.is_alarm for each in found)

    def _begin(self) -> None:
        self._images = 0
        self._scores = np.zeros(len(self._expected.scores), np.int64)
        self._labels = np.zeros(len(self._expected.labels), np.int64)

    def _bin(self, score: float) -> int:
        # A score that is no number counts as the most unlike.
        return bisect_left(self._edges, math.inf if math.isnan(score) else score)

    def _merged(self, span: int) -> Window:
        some = list(self._kept)[-span:]
        return Window(
            np.sum([each.scores for each in some], axis=0),
            np.sum([each.labels for each in some], axis=0),
        )

    def _compare(self, span: int) -> List[Comparison]:
        merged = self._merged(span)
        found = []
        for of in TESTED:
            expected, given = getattr(self._expected, of), getattr(merged, of)
            if of == "labels" and self.multi_label:
                images = self.certainty.images, span * self.window
                found.append(Comparison(span, of, *compare_each_label(expected, given, *images)))
                continue
            expected, given = grouped(expected, given)
            if not expected.sum() or not given.sum():
                continue
            distance = float(distances(of, expected[None], given[None])[0])
            found.append(Comparison(span, of, distance, self._p_value(of, expected, given)))
        return found

    def _p_value(self, of: str, expected: np.ndarray, given: np.ndarray) -> float:
        approximate = approximate_p_value(of, expected, given)
        if approximate > SUSPICIOUS:
            return approximate
        return permutation_p_value(of, expected, given, self._random)


def grouped(expected: np.ndarray, given: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """
    Return counts of at most `MOST_LABELS`: those of the most frequent labels of both samples
    together, and the sum of the others. The choice is the same for each division of the images.
    """
    if len(expected) <= MOST_LABELS:
        return expected, given
    order = np.argsort(-(expected + given), kind="stable")
    own, others = order[: MOST_LABELS - 1], order[MOST_LABELS - 1 :]
    return (
        np.append(expected[own], expected[others].sum()),
        np.append(given[own], given[others].sum()),
    )


def compare_each_label(
    expected: np.ndarray, given: np.ndarray, images: int, given_images: int
) -> Tuple[float, float]:
    """
    Return the distance and the p-value for images with several labels (see `Comparison`). Labels of
    one image go together, so their counts are not those of independent draws. Each label is tested
    alone, by Fisher's exact test of the images with and without it, and the smallest p-value is
    multiplied by the number of labels (Bonferroni), which holds for dependent tests.

    # Parameters

    expected, given : `(labels,)`, how many of the calibration images and of the others have it.
    images, given_images : the numbers of these images.
    """
    frequent = np.argsort(-(expected + given), kind="stable")[:MOST_LABELS]
    expected, given = expected[frequent], given[frequent]
    distance = float(np.abs(expected / images - given / given_images).max())
    logarithms = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, images + given_images + 1)))])
    smallest = min(
        fisher_p_value(int(own), int(other), images, given_images, logarithms)
        for own, other in zip(expected, given)
    )
    return distance, min(1.0, smallest * len(frequent))


def fisher_p_value(
    expected: int, given: int, images: int, given_images: int, logarithms: np.ndarray
) -> float:
    """
    Return the p-value of Fisher's exact test, two-sided: twice that of the nearer side.

    # Parameters

    logarithms : those of the factorials of the numbers up to that of all images.
    """
    total = expected + given
    counts = np.arange(max(0, total - images), min(given_images, total) + 1)

    def ways(number: int, chosen: np.ndarray) -> np.ndarray:
        return logarithms[number] - logarithms[chosen] - logarithms[number - chosen]

    chances = ways(given_images, counts) + ways(images, total - counts)
    chances = np.exp(chances - chances.max())
    chances /= chances.sum()
    sides = chances[counts <= given].sum(), chances[counts >= given].sum()
    return float(min(1.0, 2 * min(sides)))


def approximate_p_value(of: str, expected: np.ndarray, given: np.ndarray) -> float:
    """
    Return about how probable it is that the distance of two samples of the same images is as large:
    for scores by the formula of Kolmogorov and Smirnov, for labels by the normal distribution of
    chi-square's cube root (Wilson and Hilferty 1931).
    """
    n, m = expected.sum(), given.sum()
    if of == "scores":
        distance = distances(of, expected[None], given[None])[0]
        return float(min(1.0, 2 * np.exp(-2 * distance**2 * n * m / (n + m))))
    pooled = (expected + given)[(expected + given) > 0] / (n + m)
    is_used = (expected + given) > 0
    degrees = max(len(pooled) - 1, 1)
    statistic = sum(
        ((counts[is_used] - total * pooled) ** 2 / (total * pooled)).sum()
        for counts, total in ((expected, n), (given, m))
    )
    z = ((statistic / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / np.sqrt(2 / (9 * degrees))
    return math.erfc(z / math.sqrt(2)) / 2


def permutation_p_value(
    of: str,
    expected: np.ndarray,
    given: np.ndarray,
    random: np.random.Generator,
    draws: Optional[int] = None,
) -> float:
    """
    Return the share of random divisions of all images in which the distance is as large, with one
    more for the division that there is: an exact test (Phipson and Smyth 2010, arXiv:1603.05766).
    It is so too if it ends early (Besag and Clifford 1991, "Sequential Monte Carlo p-values").
    """
    draws = DRAWS if draws is None else draws
    pooled, number = expected + given, int(given.sum())
    observed = distances(of, expected[None], given[None])[0]
    exceeded = 0
    for done in range(0, draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, draws - done)
        drawn = random.multivariate_hypergeometric(pooled, number, size=size)
        is_as_large = distances(of, pooled - drawn, drawn) >= observed - 1e-12
        counts = exceeded + np.cumsum(is_as_large)
        exceeded = int(counts[-1])
        if exceeded >= EXCEEDED:
            return EXCEEDED / (done + 1 + int(np.searchsorted(counts, EXCEEDED)))
    return (1 + exceeded) / (draws + 1)


def distances(of: str, expected: np.ndarray, given: np.ndarray) -> np.ndarray:
    """
    Return the distances `(rows,)` between rows of counts `(rows, bins)` (see `Comparison`).
    """
    differences = given / given.sum(axis=1, keepdims=True)
    differences = differences - expected / expected.sum(axis=1, keepdims=True)
    if of == "scores":
        return np.abs(np.cumsum(differences, axis=1)).max(axis=1)
    return np.abs(differences).sum(axis=1) / 2

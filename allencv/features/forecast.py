"""
Measures the accuracy with fractions of the training images, and forecasts it for more of them.
Labels are class indices.
"""

from dataclasses import dataclass
from typing import List, Optional

import numpy as np

from allencv.features.folds import SEED
from allencv.features.head_ranking import draw_by_class
from allencv.features.heads import choose_strength, fit_head
from allencv.features.logistic_regression import find_scale, fit_logistic_regressions
from allencv.features.vector_checks import check_labels, check_vectors
from allencv.runtime.errors import InputError

FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 1.0)
DRAWS = 5
RESAMPLES = 200
LEAST_PER_CLASS, LEAST_VALIDATION = 16, 50
"""
The minimum number of training images per class, in the mean, and of validation images. With fewer
there is no forecast.
"""
EXPONENTS = np.linspace(0.05, 1, 20)


@dataclass
class CurvePoint:
    """
    The result with a number of training images.

    # Parameters

    images : `int`
        The number of training images, in the mean over the draws.
    right : `np.ndarray`
        `(draws, validation images)`: whether the head of a draw is right about an image.
    """

    images: float
    right: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


@dataclass
class Forecast:
    """
    The expected accuracy with more training images of the same kind.

    # Parameters

    images : `int`
        That number of training images.
    accuracy, low, high : `float`
        The accuracy, and the ends of the 95 % interval of what would be measured on the same
        validation images.
    """

    images: int
    accuracy: float
    low: float
    high: float


@dataclass
class ClassGains:
    """
    What doubling the training images adds to the accuracy of each class, by a line through its
    accuracies against the logarithm of the number of images.

    # Parameters

    gains : `np.ndarray`
        `(classes,)`; NaN for a class without validation images.
    most : `int`, optional
        The class that gains most, if its gain is above 0 in 97.5 % of the bootstrap samples.
    """

    gains: np.ndarray
    most: Optional[int]


def learning_curve(
    vectors: np.ndarray,
    labels: np.ndarray,
    validation: np.ndarray,
    validation_labels: np.ndarray,
    classes: int,
    draws: int = DRAWS,
) -> List[CurvePoint]:
    """
    Measure the accuracy with 1/8, 1/4, 1/2 and all of the training images. Each fraction is drawn
    `draws` times by class, with at least one image of each, and a logistic regression is fitted
    roughly, which is enough to count what is right. Its scale and its strength are chosen once, on
    all images. The seeds are fixed.
    """
    vectors, validation = check_vectors(vectors), check_vectors(validation)
    check_labels(labels, len(vectors), classes, every_class=True)
    check_labels(validation_labels, len(validation), classes)
    scale = find_scale(vectors)
    vectors, validation = scale.apply(vectors), scale.apply(validation)
    strength = choose_strength("logistic_regression", vectors, labels, classes)
    points = []
    for fraction in FRACTIONS:
        images, right = [], []
        for draw in range(1 if fraction == 1 else draws):
            rows = draw_by_class(labels, fraction, SEED + draw)
            ((weight, bias),) = fit_logistic_regressions(
                vectors[rows], labels[rows], classes, [strength], exact=False
            )
            images.append(len(rows))
            right.append((validation @ weight.T + bias).argmax(1) == validation_labels)
        points.append(CurvePoint(float(np.mean(images)), np.stack(right)))
    return points


def forecast(points: List[CurvePoint], classes: int, factor: float = 2) -> Optional[Forecast]:
    """
    Forecast the accuracy with `factor` times all training images.

    The error follows a power law with a floor, floor + scale * images ** -exponent (Hestness et al.
    2017, arXiv:1712.00409), which is fitted to the mean errors of the points, with an exponent of
    at most 1. The interval comes
    from 200 bootstrap samples of the draws and the validation images, with a fixed seed, and from
    how much the draws differ.

    Returns `None` if there are fewer than 16 training images per class, in the mean, or fewer than
    50 validation images.
    """
    sizes = np.array([point.images for point in points])
    validation = points[-1].right.shape[1]
    if sizes[-1] < LEAST_PER_CLASS * classes or validation < LEAST_VALIDATION:
        return None
    relative = sizes / sizes[-1]
    ((now, then),) = _fit_errors(relative, 1 - _accuracies(points)[None], factor)
    # The training images of two draws overlap: half of all images have half of their variance.
    half = (
        points[-2].right.mean(1).var(ddof=1) / (1 - relative[-2])
        if len(points[-2].right) > 1
        else 0
    )
    noise = np.sqrt(half * relative[-2] * (1 + 1 / factor))
    random = np.random.default_rng(SEED)
    errors = np.stack([1 - _accuracies(points, random) for _ in range(RESAMPLES)])
    changes = np.diff(_fit_errors(relative, errors, factor))[:, 0]
    samples = 1 - now - changes + noise * random.standard_normal(RESAMPLES)
    low, high = np.clip(np.percentile(samples, [2.5, 97.5]), 0, 1)
    value = float(np.clip(1 - then, low, high))
    return Forecast(round(sizes[-1] * factor), value, float(low), float(high))


def _accuracies(
    points: List[CurvePoint], random: Optional[np.random.Generator] = None
) -> np.ndarray:
    """Return the accuracy of each point; with `random`, of a bootstrap sample."""
    if random is None:
        return np.array([point.accuracy for point in points])
    images = points[0].right.shape[1]
    columns = random.integers(0, images, images)  # the same images for all points
    return np.array(
        [
            point.right[random.integers(0, len(point.right), len(point.right))][:, columns].mean()
            for point in points
        ]
    )


def _fit_errors(relative: np.ndarray, errors: np.ndarray, factor: float) -> np.ndarray:
    """
    Fit the power law to errors `(samples, points)` by least squares, with floor and scale 0 or
    more. Return its errors `(samples, 2)` at a relative size of 1 and of `factor`.
    """
    best = np.full(len(errors), np.inf)
    found = np.zeros((len(errors), 2))
    for exponent in EXPONENTS:
        # Shape: (points, 2)
        terms = np.stack([np.ones_like(relative), relative**-exponent], axis=1)
        both = errors @ np.linalg.pinv(terms).T
        floor, scale = (errors @ terms / np.square(terms).sum(0)).T
        # If one of both would be negative, the best is on an edge.
        allowed = [
            np.where((both >= 0).all(1, keepdims=True), both, 0),
            np.stack([floor, 0 * floor], axis=1),
            np.stack([0 * scale, scale], axis=1),
        ]
        for law in allowed:
            misfit = np.square(law @ terms.T - errors).sum(1)
            # A larger exponent needs to be better by more than rounding.
            better = misfit < best - 1e-15
            best[better] = misfit[better]
            found[better] = law[better] @ np.array([[1, 1], [1, factor**-exponent]])
    return found


def class_gains(points: List[CurvePoint], labels: np.ndarray, classes: int) -> ClassGains:
    """
    Compute which class gains most from more training images, with `labels` those of the validation
    images.
    """
    doublings = np.log2([point.images for point in points])
    doublings = doublings - doublings.mean()
    # Shape: (points, images)
    right = np.stack([point.right.mean(0) for point in points])
    # What an image adds to the slope of its class. Shape: (images,)
    slopes = doublings @ right / max(np.square(doublings).sum(), 1e-12)

    def gains(rows: np.ndarray) -> np.ndarray:
        counts = np.bincount(labels[rows], minlength=classes)
        sums = np.bincount(labels[rows], slopes[rows], minlength=classes)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    found = gains(np.arange(len(labels)))
    most = int(np.nanargmax(found))
    random = np.random.default_rng(SEED)
    samples = [gains(random.integers(0, len(labels), len(labels)))[most] for _ in range(RESAMPLES)]
    return ClassGains(found, most if np.nanpercentile(samples, 2.5) > 0 else None)


@dataclass
class Backtest:
    """
    How forecasts came true.

    # Parameters

    forecasts : `List[Forecast]`
        One for each split, made with half of its training images.
    truths : `List[float]`
        The accuracy with all of them.
    """

    forecasts: List[Forecast]
    truths: List[float]

    @property
    def share_inside(self) -> float:
        """The share of truths that lie in the interval; NaN without forecasts."""
        inside = [
            each.low <= truth <= each.high for each, truth in zip(self.forecasts, self.truths)
        ]
        return float(np.mean(inside)) if inside else float("nan")

    @property
    def mean_width(self) -> float:
        """The mean width of the intervals."""
        widths = [each.high - each.low for each in self.forecasts]
        return float(np.mean(widths)) if widths else float("nan")


def backtest(
    vectors: np.ndarray,
    labels: np.ndarray,
    classes: int,
    splits: int = 10,
    validation_share: float = 0.3,
) -> Backtest:
    """
    Try the forecast on data at hand. Each of several random splits by class keeps
    `validation_share` of the images for validation. Half of the others make the forecast, and all
    of them the truth. Splits with too few images for a forecast are left out.

    Raises an `InputError` if a class has fewer than 2 images.
    """
    check_labels(labels, len(vectors), classes, every_class=True)
    counts = np.bincount(labels)
    if counts.min() < 2:
        raise InputError(
            f"class {int(counts.argmin())} has 1 image; expected 2 or more of each class, one of "
            "them for validation"
        )
    forecasts, truths = [], []
    for split in range(splits):
        rows = np.random.default_rng(SEED + split).permutation(len(labels))
        held_out = rows[draw_by_class(labels[rows], validation_share, SEED)]
        train = np.setdiff1d(rows, held_out)
        train = train[np.random.default_rng(SEED + split).permutation(len(train))]
        half = train[draw_by_class(labels[train], 0.5, SEED)]
        validation, truth = vectors[held_out], labels[held_out]
        points = learning_curve(vectors[half], labels[half], validation, truth, classes)
        found = forecast(points, classes)
        if found is not None:
            head = fit_head("logistic_regression", vectors[train], labels[train], classes)
            forecasts.append(found)
            truths.append(float((head.scores(validation).argmax(1) == truth).mean()))
    return Backtest(forecasts, truths)

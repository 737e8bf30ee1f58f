"""The numbers in a report, computed from predictions and true labels."""

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional

import numpy as np

from allencv.certainty.reliability import Bin, reliability
from allencv.common.wilson_interval import wilson_interval
from allencv.predictions.predictions_file import Predictions

RESAMPLES, LEAST_RESAMPLES, WORK = 1000, 100, 2e8
"""The number of bootstrap samples. It is reduced if they would hold more than `WORK` numbers."""
SEED = 0

SHARES = ("accuracy", "top-5 accuracy", "images without a mistake")
"""The scores that are shares of the images. Their intervals are Wilson's."""

Weights = np.ndarray
Statistics = Callable[[Weights], Dict[str, float]]


@dataclass
class Score:
    """A metric over all images, with the ends of its 95 % confidence interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass
class LabelScores:
    """How well one label is predicted. Scores are 0 where scikit-learn would divide by 0."""

    label: str
    images: int
    precision: float
    recall: float
    f1: float
    threshold: Optional[float] = None
    """`threshold` and `average_precision` are set if images have several labels."""
    average_precision: Optional[float] = None


def summary_scores(predictions: Predictions) -> List[Score]:
    """
    Compute the metrics of a split with 95 % confidence intervals: Wilson's for shares of the
    images, and percentiles of the bootstrap for the others (Efron and Tibshirani 1993, chapter 13),
    with a fixed seed.

    With one label per image: accuracy, balanced accuracy, macro F1 and log loss, and with more than
    ten labels top-5 accuracy. With several labels: mAP, micro and macro F1, and the fraction of
    images without a mistake. Means over labels leave out labels without images, as the metrics of a
    run do.
    """
    size = len(predictions.probs)
    statistics = (
        _multi_label_statistics(predictions)
        if predictions.multi_label
        else _single_label_statistics(predictions)
    )
    random = np.random.default_rng(SEED)
    samples = [
        statistics(np.bincount(random.integers(0, size, size), minlength=size).astype(float))
        for _ in range(count_resamples(predictions))
    ]
    scores = []
    for name, value in statistics(np.ones(size)).items():
        if name in SHARES:
            low, high = wilson_interval(round(value * size), size)
        else:
            low, high = np.percentile([sample[name] for sample in samples], [2.5, 97.5])
        scores.append(Score(name, value, float(low), float(high)))
    return scores


def count_resamples(predictions: Predictions) -> int:
    """Return the number of bootstrap samples for these predictions."""
    numbers = predictions.targets.size  # in each sample: images, or images times labels
    return int(np.clip(WORK / max(numbers, 1), LEAST_RESAMPLES, RESAMPLES))


def _single_label_statistics(predictions: Predictions) -> Statistics:
    probs, targets, given = predictions.probs, predictions.targets, predictions.given
    size, labels = probs.shape
    right = given == targets
    own = probs[np.arange(size), targets]
    losses = -np.log(np.maximum(own, np.finfo(np.float32).eps))
    in_top = (probs > own[:, None]).sum(1) < 5

    def statistics(weights: Weights) -> Dict[str, float]:
        there = np.bincount(targets, weights, minlength=labels)
        said = np.bincount(given, weights, minlength=labels)
        hits = np.bincount(targets[right], weights[right], minlength=labels)
        total = weights.sum()
        present = there > 0
        values = {
            "accuracy": hits.sum() / total,
            "balanced accuracy": (hits[present] / there[present]).mean(),
            "macro F1": _f1(hits[present], said[present], there[present]).mean(),
            "log loss": (weights * losses).sum() / total,
        }
        if labels > 10:
            values["top-5 accuracy"] = (weights * in_top).sum() / total
        return values

    return statistics


def _multi_label_statistics(predictions: Predictions) -> Statistics:
    targets, given = predictions.targets.astype(bool), predictions.given
    precisions = _average_precisions(predictions.probs, targets)
    exact = (given == targets).all(1)

    def statistics(weights: Weights) -> Dict[str, float]:
        there, said, hits = weights @ targets, weights @ given, weights @ (targets & given)
        present = there > 0
        return {
            "mAP": precisions(weights)[present].mean() if present.any() else 0.0,
            "macro F1": _f1(hits[present], said[present], there[present]).mean()
            if present.any()
            else 0.0,
            "micro F1": 2 * hits.sum() / max(there.sum() + said.sum(), 1),
            "images without a mistake": (weights * exact).sum() / weights.sum(),
        }

    return statistics


def _f1(hits: np.ndarray, said: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Compute the F1 of labels that have images."""
    return 2 * hits / (said + there)


def _average_precisions(probs: np.ndarray, targets: np.ndarray) -> Callable[[Weights], np.ndarray]:
    """
    Return a function from the images' weights to the average precision of each label `(labels,)`,
    as scikit-learn defines it. The images are sorted only once: 1,000 bootstrap samples of 1,000
    images with 20 labels take 1 s here and 50 s with scikit-learn's `average_precision_score`.
    It is NaN for a label with a probability that is NaN.
    """
    has_order = ~np.isnan(probs).any(axis=0)
    order = np.argsort(-probs, axis=0, kind="stable")
    ranked = np.take_along_axis(-probs, order, axis=0)
    there = np.take_along_axis(targets, order, axis=0)
    # Images with equal probability share a rank: the precision counts all of them.
    last = np.stack(
        [np.searchsorted(column, column, side="right") - 1 for column in ranked.T], axis=1
    )

    def average_precisions(weights: Weights) -> np.ndarray:
        ranked_weights = weights[order]
        gains = ranked_weights * there
        seen = np.maximum(ranked_weights.cumsum(0), 1e-12)
        precision = np.take_along_axis(gains.cumsum(0) / seen, last, axis=0)
        found = (gains * precision).sum(0) / np.maximum(gains.sum(0), 1e-12)
        return np.where(has_order, found, np.nan)

    return average_precisions


def label_scores(predictions: Predictions) -> List[LabelScores]:
    """Compute the scores of each label, in the order of the labels."""
    from sklearn.metrics import precision_recall_fscore_support

    labels = range(len(predictions.labels))
    columns = precision_recall_fscore_support(
        predictions.targets, predictions.given, labels=list(labels), zero_division=0
    )
    scores = [
        LabelScores(label, int(images), float(precision), float(recall), float(f1))
        for label, precision, recall, f1, images in zip(predictions.labels, *columns)
    ]
    if predictions.thresholds is not None:
        precisions = _average_precisions(predictions.probs, predictions.targets.astype(bool))
        equal_weights = np.ones(len(predictions.probs))
        for score, threshold, average in zip(
            scores, predictions.thresholds, precisions(equal_weights)
        ):
            score.threshold, score.average_precision = float(threshold), float(average)
    return scores


def confusions(predictions: Predictions) -> np.ndarray:
    """Count the images `(labels, labels)` by true label (row) and predicted label (column)."""
    from sklearn.metrics import confusion_matrix

    labels = range(len(predictions.labels))
    return confusion_matrix(predictions.targets, predictions.given, labels=list(labels))


def calibration(predictions: Predictions) -> List[Bin]:
    """
    Sort the predictions by their probability into bins of equal width, and leaves out empty bins.
    If images have several labels, each probability is a prediction, and it is right if the image
    has the label.
    """
    if predictions.multi_label:
        confidence, right = predictions.probs.ravel(), predictions.targets.ravel()
    else:
        confidence = predictions.probs.max(1)
        right = predictions.given == predictions.targets
    return reliability(confidence, right)

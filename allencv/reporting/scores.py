"""The numbers of a report, from the predictions of a model and what is true."""

from dataclasses import dataclass
from typing import Callable, Dict, List

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
)

from allencv.predictions.predictions_file import Predictions

RESAMPLES, LEAST_RESAMPLES, WORK = 1000, 100, 2e8
"""How many bootstrap samples; fewer where all together would have more numbers than `WORK`."""
SEED = 0
BINS = 10

Weights = np.ndarray
Statistics = Callable[[Weights], Dict[str, float]]


@dataclass
class Score:
    """A metric of all images, and between which two numbers it is with 95 % confidence."""

    name: str
    value: float
    low: float
    high: float


@dataclass
class Bin:
    """Those predictions whose confidence is above `lower` and not above `upper`."""

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def summary_scores(predictions: Predictions) -> List[Score]:
    """
    The metrics of a split with 95 % confidence intervals: percentiles of the bootstrap (Efron and
    Tibshirani 1993, chapter 13), which draws as many images with replacement, always the same ones.

    Of one label an image: accuracy, balanced accuracy, macro F1, log loss, and with more than ten
    labels whether the right one is among the five most probable. Of several labels: mAP, micro and
    macro F1, and the share of images without any mistake. Means over labels are over those that
    images have, as in the metrics of a run.
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
        low, high = np.percentile([sample[name] for sample in samples], [2.5, 97.5])
        scores.append(Score(name, value, float(low), float(high)))
    return scores


def count_resamples(predictions: Predictions) -> int:
    numbers = predictions.targets.size  # of each sample: images, or images times labels
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
    """Of labels that are there."""
    return 2 * hits / (said + there)


def _average_precisions(probs: np.ndarray, targets: np.ndarray) -> Callable[[Weights], np.ndarray]:
    """
    A function of the images' weights that gives the average precision of each label `(labels,)`, as
    scikit-learn defines it. The images are sorted but once.
    """
    order = np.argsort(-probs, axis=0, kind="stable")
    ranked = np.take_along_axis(-probs, order, axis=0)
    there = np.take_along_axis(targets, order, axis=0)
    # Images of equal probability cannot be told apart: the precision is that with all of them.
    last = np.stack(
        [np.searchsorted(column, column, side="right") - 1 for column in ranked.T], axis=1
    )

    def average_precisions(weights: Weights) -> np.ndarray:
        ranked_weights = weights[order]
        gains = ranked_weights * there
        seen = np.maximum(ranked_weights.cumsum(0), 1e-12)
        precision = np.take_along_axis(gains.cumsum(0) / seen, last, axis=0)
        return (gains * precision).sum(0) / np.maximum(gains.sum(0), 1e-12)

    return average_precisions


def label_rows(predictions: Predictions) -> List[Dict[str, float]]:
    """
    For each label its `precision`, `recall`, `f1` and `support`, and where images have several also
    `average_precision` and `threshold`: the numbers of scikit-learn, 0 where it divides by 0.
    """
    labels = range(len(predictions.labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        predictions.targets, predictions.given, labels=list(labels), zero_division=0
    )
    rows = [
        {
            "precision": float(precision[label]),
            "recall": float(recall[label]),
            "f1": float(f1[label]),
            "support": int(support[label]),
        }
        for label in labels
    ]
    if predictions.thresholds is not None:
        for label, row in enumerate(rows):
            there = predictions.targets[:, label]
            row["threshold"] = float(predictions.thresholds[label])
            row["average_precision"] = (
                float(average_precision_score(there, predictions.probs[:, label]))
                if there.any()
                else 0.0
            )
    return rows


def confusions(predictions: Predictions) -> np.ndarray:
    """`(labels, labels)`: how many images of a label (row) were given which one (column)."""
    labels = range(len(predictions.labels))
    return confusion_matrix(predictions.targets, predictions.given, labels=list(labels))


def calibration(predictions: Predictions) -> List[Bin]:
    """
    How often the model is right when it says that it is sure to some extent: its predictions by
    their probability, in bins of equal width, the empty ones left out. Where images have several
    labels, these are all probabilities, and how often the label is there.
    """
    if predictions.multi_label:
        confidence, right = predictions.probs.ravel(), predictions.targets.ravel()
    else:
        confidence = predictions.probs.max(1)
        right = predictions.given == predictions.targets
    edges = np.linspace(0, 1, BINS + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    bins = []
    for place in np.unique(places).tolist():
        inside = places == place
        bins.append(
            Bin(
                float(edges[place]),
                float(edges[place + 1]),
                int(inside.sum()),
                float(confidence[inside].mean(dtype=np.float64)),
                float(right[inside].mean()),
            )
        )
    return bins


def calibration_error(bins: List[Bin]) -> float:
    """
    The expected calibration error (Naeini et al. 2015): the mean distance between confidence and
    accuracy over the bins, each weighted with its predictions.
    """
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / total

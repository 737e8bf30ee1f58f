"""Measure what a calibration promises on images that did not take part in it: cross-validation."""

from dataclasses import dataclass
from typing import List, Optional

import numpy as np

from allencv.certainty.fit_certainty import LabelledOutputs, Wanted, fit_sets, right_answers
from allencv.certainty.reliability import calibration_error, reliability
from allencv.runtime.certainty import Certainty

FOLDS = 5
MOST_IMAGES = 20_000
"""Of more images, so many are drawn: they measure a share of 0.95 to 0.003, and are quick."""


@dataclass(frozen=True)
class HeldOut:
    """
    What each fifth of the calibration images shows about a calibration on the others.

    # Parameters

    rows : `(images,)`, which of the calibration images these are, in ascending order.
    before, after : `(predictions,)`, the confidence of each answer, without and with calibration;
        for several labels an image the probability of each label, so images times labels.
    is_right : `(predictions,)`, `bool`, whether the answer is right, or the image has the label.
    error_before, error_after : the expected calibration errors.
    coverage : for each level, the share of images whose set holds the right label; for several
        labels an image the share of their labels, averaged over the images.
    sizes : for each level, the mean number of labels in a set.
    members : `(images, labels)`, the sets of the first level; `None` without sets.
    """

    rows: np.ndarray
    before: np.ndarray
    after: np.ndarray
    is_right: np.ndarray
    error_before: float
    error_after: float
    coverage: List[float]
    sizes: List[float]
    members: Optional[np.ndarray]


def held_out(
    known: LabelledOutputs,
    wanted: Wanted,
    thresholds: Optional[List[float]],
    most_images: int = MOST_IMAGES,
    seed: int = 0,
) -> HeldOut:
    """Return what is seen on images that are held out, each once."""
    multi_label = thresholds is not None
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(known.targets))[:most_images])
    known = known._replace(probabilities=known.probabilities[rows], targets=known.targets[rows])
    count, labels = known.probabilities.shape
    after = known.probabilities.copy()
    members = np.zeros((len(wanted.levels), count, labels), dtype=bool)
    fold_of = random.permutation(count) % min(FOLDS, count)
    for fold in range(min(FOLDS, count)):
        own, rest = fold_of == fold, fold_of != fold
        scaling = None
        if wanted.calibration is not None and rest.any():
            scaling = wanted.calibration.fit(known.probabilities[rest], known.targets[rest])
        fitted = Certainty(0, "", "float32", "", scaling=scaling)
        calibrated = fitted.calibrated(known.probabilities, multi_label)
        after[own] = calibrated[own]
        sets = fit_sets(calibrated[rest], known.targets[rest], wanted)
        for place in range(len(wanted.levels) if sets is not None else 0):
            assert sets is not None
            members[place, own] = sets.members(calibrated[own], place)
    before = confidence_of(known.probabilities, multi_label)
    sure = confidence_of(after, multi_label)
    is_right = (
        known.targets.ravel()
        if multi_label
        else right_answers(known.probabilities, known.targets, None)
    )
    has_sets = wanted.sets is not None
    return HeldOut(
        rows,
        before,
        sure,
        is_right,
        calibration_error(reliability(before, is_right)),
        calibration_error(reliability(sure, is_right)),
        [coverage(each, known.targets) for each in members] if has_sets else [],
        [float(each.sum(axis=1).mean()) for each in members] if has_sets else [],
        members[0] if has_sets else None,
    )


def confidence_of(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return the confidence of each prediction, as in `HeldOut`."""
    return probabilities.ravel() if multi_label else probabilities.max(axis=1)


def coverage(members: np.ndarray, targets: np.ndarray) -> float:
    """Return the share of images whose set holds the right label, as `HeldOut.coverage`."""
    if targets.ndim == 1:
        return float(members[np.arange(len(targets)), targets].mean())
    found = (members & targets).sum(axis=1) / np.maximum(targets.sum(axis=1), 1)
    return float(np.where(targets.any(axis=1), found, 1.0).mean())

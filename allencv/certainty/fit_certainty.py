"""Find out, from images with labels, what a model knows about its own answers."""

import math
from dataclasses import dataclass, field, replace
from typing import Dict, List, NamedTuple, Optional

import numpy as np

from allencv.certainty.calibrations import Calibration, PlattScaling, TemperatureScaling
from allencv.certainty.label_sets import (
    SINGLE_LABEL_KINDS,
    TUNED_SHARE,
    conformal_quantile,
    fewest_for,
    fit_label_sets,
    fit_missed_labels,
)
from allencv.certainty.selection import (
    CERTAINTY,
    fewest_images,
    fit_selection,
    highest_selection,
    images_needed,
)
from allencv.runtime.certainty import Certainty, LabelSets, UnknownRule
from allencv.runtime.certainty.certainty import confidence
from allencv.runtime.certainty.unknown_rule import scored
from allencv.runtime.errors import InputError

LEVEL, KNOWN_SHARE = 0.95, 0.95


class LabelledOutputs(NamedTuple):
    """
    What a network says about images with labels.

    # Parameters

    names : of the images.
    probabilities : `(images, labels)`, as the network gives them.
    vectors : `(images, vector_size)`, those before the last layer.
    targets : `(images,)`, the labels; or `(images, labels)`, `bool`, for several labels an image.
    errors : why other images are left out, by their names.
    """

    names: List[str]
    probabilities: np.ndarray
    vectors: np.ndarray
    targets: np.ndarray
    errors: Dict[str, str]


@dataclass(frozen=True)
class Wanted:
    """
    What to find out.

    # Parameters

    calibration : `None` leaves the probabilities as they are, unless `default_calibration` is set,
        which takes the usual one for the model.
    sets : the kind of sets of labels for one label an image; for several it is "missed". `None` for
        none.
    levels : the shares of images whose set is to hold the right label. An answer has the set of the
        first.
    by_class : whether the levels hold for the images of each label.
    target_accuracy : the share of answers that are to be right. `None` answers all known images.
    certainty : how certain that is.
    known_share : the share of known images that are to be taken as known.
    """

    calibration: Optional[Calibration] = None
    default_calibration: bool = True
    sets: Optional[str] = SINGLE_LABEL_KINDS[0]
    levels: List[float] = field(default_factory=lambda: [LEVEL])
    by_class: bool = False
    target_accuracy: Optional[float] = None
    certainty: float = CERTAINTY
    known_share: float = KNOWN_SHARE

    def for_model(self, multi_label: bool) -> "Wanted":
        """
        Return the same with the usual calibration for a model, if that is asked for. Raise
        `InputError` for what needs one label an image.
        """
        if multi_label and self.sets not in (None, SINGLE_LABEL_KINDS[0]):
            raise InputError(
                f"sets (--sets) is '{self.sets}', which needs one label an image, and this model "
                "gives several; leave it out"
            )
        if multi_label and self.by_class:
            raise InputError(
                "by_class (--by-class) needs one label an image, and this model gives several; "
                "leave it out"
            )
        if not multi_label and isinstance(self.calibration, PlattScaling):
            raise InputError(
                "probabilities (--probabilities) is 'platt', which is for models with several "
                "labels an image; expected 'temperature'"
            )
        if self.calibration is not None or not self.default_calibration:
            return self
        usual = PlattScaling() if multi_label else TemperatureScaling()
        return replace(self, calibration=usual)


def fit_certainty(
    known: LabelledOutputs,
    wanted: Wanted,
    thresholds: Optional[List[float]],
    unknown: Optional[UnknownRule],
    data: str,
    precision: str,
    model: str,
    overlap: Optional[int],
) -> Certainty:
    """
    Return what is found out from images with labels.

    # Parameters

    thresholds : `List[float]`, optional
        For several labels an image, those for the probabilities of the network.
    unknown : `UnknownRule`, optional
        A score of unlike images; its limit is found here.

    # Raises

    `InputError` if the images do not suffice.
    """
    count = len(known.targets)
    if count == 0:
        raise InputError(f"'{data}' has no image with a label that can be read; expected some")
    multi_label = thresholds is not None
    check_count(wanted, count, unknown is not None)
    scores = scored(unknown, known.probabilities, known.vectors, multi_label)
    if not np.isfinite(scores).all():
        raise InputError(
            f"the unknown score of {(~np.isfinite(scores)).sum()} of {count} images is not finite; "
            "expected another score, such as 'max_probability'"
        )
    if unknown is not None:
        limit = conformal_quantile(scores, wanted.known_share)
        unknown = UnknownRule(unknown.kind, limit, wanted.known_share, unknown.arrays)
    found = Certainty(
        images=count,
        data=data,
        precision=precision,
        model=model,
        overlap=overlap,
        scaling=wanted.calibration and wanted.calibration.fit(known.probabilities, known.targets),
        unknown=unknown,
    )
    calibrated = found.calibrated(known.probabilities, multi_label)
    decided = found.calibrated_thresholds(thresholds)
    is_right = right_answers(known.probabilities, known.targets, thresholds)
    parts = {**vars(found), "sets": fit_sets(calibrated, known.targets, wanted)}
    if wanted.target_accuracy is not None:
        sure = confidence(calibrated, decided)
        if unknown is not None:
            sure = np.where(scores <= unknown.limit, sure, -1.0)
        selection = fit_selection(sure, is_right, wanted.target_accuracy, wanted.certainty)
        if selection is None:
            raise InputError(_why_no_selection(wanted, sure, is_right))
        parts["selection"] = selection
    labels = known.probabilities.shape[1]
    given = given_labels(known.probabilities, thresholds)
    counts = given.sum(axis=0) if multi_label else np.bincount(given, minlength=labels)
    parts["label_counts"] = counts.astype(np.int64)
    parts["known_scores"] = np.sort(scores)
    return Certainty(**parts)


def fit_sets(calibrated: np.ndarray, targets: np.ndarray, wanted: Wanted) -> Optional[LabelSets]:
    """Return the sets of labels that are wanted, from calibrated probabilities."""
    if wanted.sets is None:
        return None
    if targets.ndim == 2:
        return fit_missed_labels(calibrated, targets, wanted.levels)
    return fit_label_sets(calibrated, targets, wanted.levels, wanted.sets, wanted.by_class)


def given_labels(probabilities: np.ndarray, thresholds: Optional[List[float]]) -> np.ndarray:
    """Return the labels that a model gives, in the form of targets."""
    if thresholds is None:
        return probabilities.argmax(axis=1)
    return probabilities > np.array(thresholds, dtype=probabilities.dtype)


def right_answers(
    probabilities: np.ndarray, targets: np.ndarray, thresholds: Optional[List[float]]
) -> np.ndarray:
    """Return whether the answer for each image is right: its label, or all of its labels."""
    is_right = given_labels(probabilities, thresholds) == targets
    return is_right if targets.ndim == 1 else is_right.all(axis=1)


def _why_no_selection(wanted: Wanted, sure: np.ndarray, is_right: np.ndarray) -> str:
    target = wanted.target_accuracy
    assert target is not None
    fewest, count = fewest_images(target, wanted.certainty), len(sure)
    best = highest_selection(sure, is_right, target, wanted.certainty)
    shown = "They show no accuracy"
    if best is not None:
        shown = f"They show at most {best.target_accuracy:.1%}, for {best.coverage:.0%} of them"
    key = f"target_accuracy (--target-accuracy) is {percent(target)}"
    if count < fewest:
        return (
            f"{key}, but {count} images are too few to show it. {shown}; expected at least "
            f"{fewest} images, more if answers are wrong"
        )
    needed = images_needed(sure, is_right, target, wanted.certainty)
    how = "a lower target, as more images like these would not show it"
    if needed is not None:
        digits = 10 ** max(len(str(needed)) - 2, 0)
        how = f"about {math.ceil(needed / digits) * digits} images like these, or a lower target"
    return f"{key}, but the {count} images do not show it. {shown}; expected {how}"


def check_count(wanted: Wanted, count: int, has_score: bool) -> None:
    """
    Raise `InputError` if so many images are too few: for a level, as every set would hold every
    label, or with a score for its limit.
    """
    used = int(count * (1 - TUNED_SHARE)) if wanted.sets == "raps" else count
    for level in wanted.levels:
        # By class, the summary names the labels.
        if wanted.sets is not None and not wanted.by_class and used < fewest_for(level):
            raise InputError(
                f"levels (--levels) has {percent(level)}, and {count} images are too few for it. "
                f"Every set would have all labels; expected at least {fewest_for(level)} images"
            )
    if has_score and count < fewest_for(wanted.known_share):
        raise InputError(
            f"known_share (--known-share) is {percent(wanted.known_share)}, and {count} images are "
            f"too few for it; expected at least {fewest_for(wanted.known_share)}"
        )


def percent(share: float) -> str:
    """Return a share that a user has chosen, with the digits that it has."""
    return f"{100 * share:.6g}%"

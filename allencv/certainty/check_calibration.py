"""Compare what a calibration promises with what other images with labels show."""

import os
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple, Union

import numpy as np
from allennlp.common.checks import ConfigurationError

from allencv.certainty.calibrate import DATA, reader_of, samples_in, step
from allencv.certainty.fit_certainty import LabelledOutputs, right_answers
from allencv.certainty.held_out import confidence_of, coverage
from allencv.certainty.labelled_outputs import labelled_outputs, one_hot
from allencv.certainty.overlap import count_trained
from allencv.certainty.reliability import calibration_error, reliability
from allencv.common.data_paths import data_of_text, data_text
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime.certainty import Certainty
from allencv.runtime.errors import InputError


@dataclass(frozen=True)
class SetsSeen:
    """
    The sets of one level.

    # Parameters

    coverage : the share of images whose set holds the right label; for several labels an image the
        share of their labels, averaged over the images.
    size : the mean number of labels in a set.
    worst : of the label that is in the sets of its images least often: its place, this share, and
        the number of its images. `None` if no image has a label.
    """

    coverage: float
    size: float
    worst: Optional[Tuple[int, float, int]]


@dataclass(frozen=True)
class Checked:
    """
    The result of `check_calibration`.

    # Parameters

    certainty : what is promised.
    data : where the images are.
    known : what the network says about the images.
    labels : of the model.
    accuracy : the share of images whose answer is right.
    error : the expected calibration error of the calibrated probabilities.
    sets : for each level.
    answered, answered_right : the share of images that are answered, and the share of right answers
        among these. `None` without a target accuracy, and the latter also if none is answered.
    unknown : the share of images that are called unknown; `None` without a score.
    trained : the number of images that also trained the model or chose its epoch; `None` if that
        is not known.
    calibrated : the number of images that also calibrated it, likewise.
    """

    certainty: Certainty
    data: str
    known: LabelledOutputs
    labels: List[str]
    accuracy: float
    error: float
    sets: List[SetsSeen]
    answered: Optional[float]
    answered_right: Optional[float]
    unknown: Optional[float]
    trained: Optional[int]
    calibrated: Optional[int]


def check_calibration(
    archive_file: Union[str, os.PathLike],
    data: Any,
    device: Optional[str] = None,
    trusted: bool = False,
    show_progress: bool = True,
) -> Checked:
    """
    Measure what the calibration of an archive promises on other images with labels. Nothing is
    written.

    # Parameters

    archive_file : `str`
        `model.tar.gz`, or the folder of a run.
    data : `Any`
        The images, as the archive's validation reader reads them.

    # Raises

    `InputError` for an archive that is not calibrated, and for images without labels.
    """
    classifier = ArchiveClassifier(os.fspath(archive_file), device, trusted)
    certainty = classifier.certainty
    if certainty is None:
        raise InputError(
            f"'{archive_file}' is not calibrated, so --check has nothing to check; expected an "
            "archive after 'allencv calibrate'"
        )
    with step("listing the images", show_progress):
        samples = samples_in(reader_of(classifier.config, classifier.reader, data), data, DATA)
    known = labelled_outputs(classifier, samples, f"'{data}' ({DATA})", show_progress)
    if not known.names:
        raise InputError(f"'{data}' ({DATA}) has no image that can be read; expected some")
    readers = {
        "train_data_path": classifier.training_reader,
        "validation_data_path": classifier.reader,
    }
    with step("comparing the images with those of training and calibration", show_progress):
        trained = count_trained(known.names, classifier.config, readers)
        calibrated = _count_calibrated(known.names, classifier, certainty)
    return _checked(classifier, certainty, data_text(data), known, trained, calibrated)


def _count_calibrated(
    names: List[str], classifier: ArchiveClassifier, certainty: Certainty
) -> Optional[int]:
    """Return how many of the images also calibrated the model; `None` if these are not here."""
    try:
        data = data_of_text(certainty.data)
        reader = reader_of(classifier.config, classifier.reader, data)
    except (ConfigurationError, ValueError):
        return None
    return count_trained(names, {"data": data}, {"data": reader})


def _checked(
    classifier: ArchiveClassifier,
    certainty: Certainty,
    data: str,
    known: LabelledOutputs,
    trained: Optional[int],
    calibrated: Optional[int],
) -> Checked:
    judgements = certainty.judge(known.probabilities, known.vectors, classifier.thresholds)
    probabilities = np.stack([each.probabilities for each in judgements])
    is_right = right_answers(known.probabilities, known.targets, classifier.network_thresholds)
    targets = one_hot(known.targets, len(classifier.labels))
    # For several labels an image, each label is a prediction of its own, as in `HeldOut`.
    predictions = known.targets.ravel() if classifier.multi_label else is_right
    answered = answered_right = unknown = None
    if certainty.selection is not None:
        is_answered = np.array([each.is_answered for each in judgements])
        answered = float(is_answered.mean())
        answered_right = float(is_right[is_answered].mean()) if is_answered.any() else None
    if certainty.unknown is not None:
        unknown = float(np.mean([bool(each.is_unknown) for each in judgements]))
    sets = []
    if certainty.sets is not None:
        for place in range(len(certainty.sets.levels)):
            members = certainty.sets.members(probabilities, place)
            size = float(members.sum(axis=1).mean())
            sets.append(SetsSeen(coverage(members, known.targets), size, _worst(members, targets)))
    return Checked(
        certainty,
        data,
        known,
        classifier.labels,
        float(is_right.mean()),
        calibration_error(
            reliability(confidence_of(probabilities, classifier.multi_label), predictions)
        ),
        sets,
        answered,
        answered_right,
        unknown,
        trained,
        calibrated,
    )


def _worst(members: np.ndarray, targets: np.ndarray) -> Optional[Tuple[int, float, int]]:
    """Return the label that is in the sets of its images least often, as `SetsSeen.worst`."""
    counts = targets.sum(axis=0)
    if not counts.any():
        return None
    shares = (members & targets).sum(axis=0) / np.maximum(counts, 1)
    place = int(np.where(counts > 0, shares, np.inf).argmin())
    return place, float(shares[place]), int(counts[place])

"""What each calibration image shows, kept in the folder of a run for its report."""

import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import List, Optional

import numpy as np

from allencv.certainty.fit_certainty import LabelledOutputs
from allencv.certainty.held_out import HeldOut
from allencv.runtime.certainty import Certainty
from allencv.runtime.certainty.certainty import confidence
from allencv.runtime.whole_files import whole_file

PLACE = "predictions/calibration.npz"


@dataclass(frozen=True)
class CalibrationRecord:
    """
    What each calibration image shows, of at most `held_out.MOST_IMAGES`.

    # Parameters

    model : `str`
        The SHA-256 of the weights, as in `Certainty`.
    labels : `np.ndarray`
        The names of the labels.
    names : `np.ndarray`
        `(images,)`, usually paths.
    targets : `np.ndarray`
        `(images, labels)`, `bool`.
    before, after : `np.ndarray`
        `(images,)`, the confidence of each answer without calibration, and with one from other
        images.
    confidence : `np.ndarray`
        `(images,)`, the confidence with the calibration in the archive.
    is_right : `np.ndarray`
        `(images,)`, `bool`, whether the answer is right.
    members : `np.ndarray`
        `(images, labels)`, `bool`, the set of each image with limits from other images; `(0, 0)`
        without sets.
    scores : `np.ndarray`
        `(images,)`, how unlike the training data each image is.
    other_scores : `np.ndarray`
        The scores of images of other things; empty if there were none.
    """

    model: str
    labels: np.ndarray
    names: np.ndarray
    targets: np.ndarray
    before: np.ndarray
    after: np.ndarray
    confidence: np.ndarray
    is_right: np.ndarray
    members: np.ndarray
    scores: np.ndarray
    other_scores: np.ndarray

    def write(self, folder: Path) -> Path:
        """Write `predictions/calibration.npz` in the folder of a run, and return its path."""
        file = folder / PLACE
        file.parent.mkdir(exist_ok=True)
        with whole_file(file) as temporary, open(temporary, "wb") as opened:
            np.savez_compressed(opened, **asdict(self))
        return file


def record_of(
    certainty: Certainty,
    known: LabelledOutputs,
    found: HeldOut,
    labels: List[str],
    thresholds: Optional[List[float]],
    other_scores: Optional[np.ndarray],
) -> CalibrationRecord:
    """Return the record of a calibration. `thresholds` are those of the network."""
    multi_label = thresholds is not None
    known = known._replace(
        names=[known.names[row] for row in found.rows],
        probabilities=known.probabilities[found.rows],
        vectors=known.vectors[found.rows],
        targets=known.targets[found.rows],
    )
    calibrated = certainty.calibrated(known.probabilities, multi_label)
    targets = known.targets if multi_label else np.eye(len(labels), dtype=bool)[known.targets]
    return CalibrationRecord(
        certainty.model,
        np.array(labels, dtype=str),
        np.array(known.names, dtype=str),
        targets,
        found.before,
        found.after,
        confidence(calibrated, certainty.calibrated_thresholds(thresholds)),
        found.is_right,
        np.zeros((0, 0), bool) if found.members is None else found.members,
        certainty.scores(known.probabilities, known.vectors, multi_label),
        np.zeros(0, np.float32) if other_scores is None else other_scores,
    )


def read_record(folder: Path, certainty: Certainty) -> Optional[CalibrationRecord]:
    """
    Read the record in the folder of a run. Return `None` if there is none of this calibration, or
    if it is damaged.
    """
    try:
        with np.load(folder / PLACE, allow_pickle=False) as opened:
            record = CalibrationRecord(
                **{field.name: opened[field.name] for field in fields(CalibrationRecord)}
            )
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return record if str(record.model) == certainty.model else None

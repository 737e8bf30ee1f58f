"""What each calibration image shows, kept in the folder of a run for its report."""

import io
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from allencv.certainty.fit_certainty import LabelledOutputs, right_answers
from allencv.certainty.held_out import HeldOut
from allencv.certainty.labelled_outputs import one_hot
from allencv.runtime.certainty import Certainty
from allencv.runtime.certainty.certainty import confidence
from allencv.runtime.errors import ImageError
from allencv.runtime.images import open_image
from allencv.runtime.whole_files import whole_file

PLACE = "predictions/calibration.npz"
MOST_PICTURES, SIDE = 12, 200
"""The number of pictures, and their longest side in pixels."""


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
    before, after, is_prediction_right : `np.ndarray`
        `(predictions,)`, of `HeldOut`: the confidence of each prediction without calibration, and
        with one from other images; and whether it is right.
    confidence, is_right : `np.ndarray`
        `(images,)`, the confidence of each answer with the calibration in the archive, and whether
        it is right.
    members : `np.ndarray`
        `(images, labels)`, `bool`, the set of each image with limits from other images; `(0, 0)`
        without sets.
    scores : `np.ndarray`
        `(images,)`, how unlike the training data each image is.
    other_scores : `np.ndarray`
        The scores of images of other things; empty if there were none.
    pictures : `Dict[int, bytes]`
        Small JPEG files of the images that are most unlike the training data, the most unlike
        first, by their places.
    """

    model: str
    labels: np.ndarray
    names: np.ndarray
    targets: np.ndarray
    before: np.ndarray
    after: np.ndarray
    is_prediction_right: np.ndarray
    confidence: np.ndarray
    is_right: np.ndarray
    members: np.ndarray
    scores: np.ndarray
    other_scores: np.ndarray
    pictures: Dict[int, bytes] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write `predictions/calibration.npz` in the folder of a run, and return its path."""
        file = folder / PLACE
        file.parent.mkdir(exist_ok=True)
        with whole_file(file) as temporary, open(temporary, "wb") as opened:
            arrays = {name: getattr(self, name) for name in ARRAYS}
            pictures: Dict[str, Any] = {
                f"picture_{place}": np.frombuffer(jpeg, np.uint8)
                for place, jpeg in self.pictures.items()
            }
            np.savez_compressed(opened, pictured=np.array([*self.pictures]), **arrays, **pictures)
        return file


ARRAYS = [each.name for each in fields(CalibrationRecord) if each.name != "pictures"]


def record_of(
    certainty: Certainty,
    known: LabelledOutputs,
    found: HeldOut,
    labels: List[str],
    thresholds: Optional[List[float]],
    other_scores: Optional[np.ndarray],
) -> CalibrationRecord:
    """
    Return the record of a calibration, with pictures of images that are files.

    # Parameters

    thresholds : `List[float]`, optional
        Those of the network, for several labels an image.
    """
    multi_label = thresholds is not None
    known = known._replace(
        names=[known.names[row] for row in found.rows],
        probabilities=known.probabilities[found.rows],
        vectors=known.vectors[found.rows],
        targets=known.targets[found.rows],
    )
    calibrated = certainty.calibrated(known.probabilities, multi_label)
    scores = certainty.scores(known.probabilities, known.vectors, multi_label)
    order = np.argsort(-scores, kind="stable")[:MOST_PICTURES].tolist()
    pictures = {place: _picture(known.names[place]) for place in order}
    return CalibrationRecord(
        certainty.model,
        np.array(labels, dtype=str),
        np.array(known.names, dtype=str),
        one_hot(known.targets, len(labels)),
        found.before,
        found.after,
        found.is_right,
        confidence(calibrated, certainty.calibrated_thresholds(thresholds)),
        right_answers(known.probabilities, known.targets, thresholds),
        np.zeros((0, 0), bool) if found.members is None else found.members,
        scores,
        np.zeros(0, np.float32) if other_scores is None else other_scores,
        {place: jpeg for place, jpeg in pictures.items() if jpeg is not None},
    )


def _picture(name: str) -> Optional[bytes]:
    """Return a small JPEG file of an image file, or `None` if there is none."""
    try:
        picture = open_image(name)
    except ImageError:
        return None
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=75)
    return file.getvalue()


def read_record(folder: Path) -> Optional[CalibrationRecord]:
    """
    Read the record in the folder of a run. Return `None` if there is none, or if it is damaged.
    """
    try:
        with np.load(folder / PLACE, allow_pickle=False) as opened:
            arrays = dict(opened)
        pictures = {
            int(place): arrays[f"picture_{place}"].tobytes() for place in arrays["pictured"]
        }
        return CalibrationRecord(**{name: arrays[name] for name in ARRAYS}, pictures=pictures)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None

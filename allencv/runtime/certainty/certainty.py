from dataclasses import dataclass, field
from typing import List, NamedTuple, Optional

import numpy as np

from allencv.runtime.certainty.blocks import in_blocks
from allencv.runtime.certainty.label_sets import LabelSets
from allencv.runtime.certainty.scaling import Scaling
from allencv.runtime.certainty.selection import Selection
from allencv.runtime.certainty.unknown_rule import UnknownRule, scored


class Judgement(NamedTuple):
    """
    What is known about the answer for one image.

    # Parameters

    probabilities : `(labels,)`, calibrated.
    members : `(labels,)`, `bool`: the set of labels; `None` without `Certainty.sets`.
    unknown_score : how unlike the training data it is, as `Certainty.scores` gives it; `None` of a
        model that is not calibrated.
    is_unknown : whether this score is above its limit; `None` without `Certainty.unknown`.
    is_answered : whether the answer counts for the target accuracy: the image is not unknown, and
        its confidence is high enough. `None` without `Certainty.selection`, as then no accuracy is
        promised.
    """

    probabilities: np.ndarray
    members: Optional[np.ndarray] = None
    unknown_score: Optional[float] = None
    is_unknown: Optional[bool] = None
    is_answered: Optional[bool] = None


@dataclass(frozen=True)
class Certainty:
    """
    What `allencv calibrate` has found out about a model, on images with labels.

    # Parameters

    images : the number of these images.
    data : where they are, as the command was told.
    precision : of the network whose probabilities were calibrated: "float32", "float16" or "int8".
    overlap : the number of these images that also trained the model or chose its epoch. With any,
        what is promised is too good. `None` if it is not known.
    model : the SHA-256 of the weights that were calibrated.
    scaling : calibrates the probabilities.
    sets : the sets of labels. An answer has the set of the first level.
    selection : which images to answer.
    unknown : which images are unlike the training data.
    known_scores : `(images,)`, the scores of `unknown` of the images, or without it 1 - the highest
        probability; in ascending order.
    label_counts : `(labels,)`, how many of the images got each label.
    """

    images: int
    data: str
    precision: str
    model: str
    overlap: Optional[int] = None
    scaling: Optional[Scaling] = None
    sets: Optional[LabelSets] = None
    selection: Optional[Selection] = None
    unknown: Optional[UnknownRule] = None
    known_scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    label_counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def calibrated(self, probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
        """Return the calibrated probabilities `(images, labels)` of those of the network."""
        if self.scaling is None:
            return probabilities
        return self.scaling(probabilities, multi_label)

    def calibrated_thresholds(self, thresholds: Optional[List[float]]) -> Optional[List[float]]:
        """
        Return the thresholds for calibrated probabilities that decide as `thresholds` do for those
        of the network. `None`, of a model with one label an image, stays.
        """
        if thresholds is None:
            return None
        return self.calibrated(np.array([thresholds], np.float32), True)[0].tolist()

    @property
    def needs_vectors(self) -> bool:
        """Whether `judge` uses the vectors."""
        return self.unknown is not None and self.unknown.needs_vectors

    def scores(
        self, probabilities: np.ndarray, vectors: np.ndarray, multi_label: bool
    ) -> np.ndarray:
        """Return the scores `(images,)` that `known_scores` has for the calibration images."""
        return scored(self.unknown, probabilities, vectors, multi_label)

    def judge(
        self,
        probabilities: np.ndarray,
        vectors: np.ndarray,
        thresholds: Optional[List[float]] = None,
    ) -> List[Judgement]:
        """
        Return what is known about each image.

        # Parameters

        probabilities : `(images, labels)`, as the network gives them.
        vectors : `(images, vector_size)`, those before the last layer.
        thresholds : for several labels an image, those for calibrated probabilities.
        """
        multi_label = thresholds is not None
        calibrated = self.calibrated(probabilities, multi_label)
        count = len(calibrated)
        members: List[Optional[np.ndarray]] = [None] * count
        if self.sets is not None:
            members = list(self.sets.members(calibrated, 0))
        found = self.scores(probabilities, vectors, multi_label)
        is_unknown: List[Optional[bool]] = [None] * count
        if self.unknown is not None:
            # Negated like this, as a comparison with nan is False.
            is_unknown = (~(found <= self.unknown.limit)).tolist()
        is_answered: List[Optional[bool]] = [None] * count
        if self.selection is not None:
            enough = confidence(calibrated, thresholds) >= self.selection.least_confidence
            is_answered = [bool(sure) and not odd for sure, odd in zip(enough, is_unknown)]
        rows = zip(calibrated, members, found.tolist(), is_unknown, is_answered)
        return [Judgement(*row) for row in rows]


def confidence(calibrated: np.ndarray, thresholds: Optional[List[float]]) -> np.ndarray:
    """
    Return how probable it is that the answer for each image is right, `(images,)`: the highest
    probability, or for several labels an image that of its least certain label.
    """
    if thresholds is None:
        return calibrated.max(axis=1)
    limits = np.array(thresholds, dtype=calibrated.dtype)
    return in_blocks(lambda rows: np.where(rows > limits, rows, 1 - rows).min(axis=1), calibrated)

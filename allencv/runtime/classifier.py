from typing import Dict, List, Literal, Mapping, Optional, Protocol, Tuple, TypedDict, Union

import numpy as np

from allencv.runtime.certainty import Certainty, Judgement
from allencv.runtime.defaults import TOP_K
from allencv.runtime.errors import ImageError
from allencv.runtime.images import ImageSource
from allencv.runtime.preprocessing import Preprocessing

NOT_FINITE = "the network's probabilities for it are not finite numbers"


class Classifier(Protocol):
    """
    A finished model, from a bundle or an archive: images in, probabilities out. `classify` and
    `serve` use only this interface.

    # Parameters

    name : the name of the bundle's folder, or of the archive.
    labels : in the order of the probabilities.
    multi_label : whether an image may have several labels, or none.
    thresholds : for `multi_label`, one for each label: an image has the labels whose probability is
        above their threshold. Otherwise `None`. They are for calibrated probabilities.
    certainty : what `allencv calibrate` has found out about it, if it has been calibrated.
    preprocessing : turns an image into pixels for the network.
    """

    name: str
    labels: List[str]
    multi_label: bool
    thresholds: Optional[List[float]]
    certainty: Optional[Certainty]
    preprocessing: Preprocessing

    def preprocess(self, source: ImageSource) -> np.ndarray:
        """
        Return the pixels `(height, width, channels)`, `uint8`, of an image. Raise `ImageError` if
        it cannot be read.
        """
        ...

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """
        Return the probabilities `(batch, labels)`, `float32`, for pixels `(batch, height, width,
        channels)`, `uint8`. Several threads may call it at once.
        """
        ...

    def outputs(self, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """
        Return the probabilities and the vectors before the last layer, `(batch, vector_size)`,
        `float32`, computed once.
        """
        ...


class HasLabels(Protocol):
    """What `readable` needs of a `Classifier`."""

    @property
    def labels(self) -> List[str]: ...

    @property
    def thresholds(self) -> Optional[List[float]]: ...


class RankedLabel(TypedDict):
    label: str
    probability: float


class Answer(TypedDict, total=False):
    """What a classifier says about an image."""

    label: str
    labels: List[str]
    """
    From a classifier with `multi_label`, in place of `label`. From one that is calibrated, the set
    that holds the right label as often as was asked for.
    """
    possible_labels: List[str]
    """From a classifier with `multi_label` that is calibrated: the set that misses few labels."""
    is_unknown: bool
    """Whether the image is unlike the training data."""
    is_answered: bool
    """Whether the label is to be relied on, of a model with a target accuracy."""
    top_k: List[RankedLabel]
    """The most probable labels, the most probable first."""


def judged(classifier: Classifier, images: np.ndarray) -> List[Judgement]:
    """
    Return the calibrated probabilities of images `(batch, height, width, channels)`, `uint8`, and
    what else is known about each answer.
    """
    certainty = classifier.certainty
    if certainty is None:
        return [Judgement(row) for row in classifier.probabilities(images)]
    if certainty.needs_vectors:
        probabilities, vectors = classifier.outputs(images)
    else:
        probabilities = classifier.probabilities(images)
        vectors = np.empty((len(probabilities), 0), np.float32)
    return certainty.judge(probabilities, vectors, classifier.thresholds)


def readable(classifier: HasLabels, judgement: Judgement, top_k: int = TOP_K) -> Answer:
    """
    Return the answer for one image, with `top_k` labels. Labels are sorted by probability; ties
    keep the order of the labels.
    """
    order = np.argsort(-judgement.probabilities, kind="stable").tolist()
    names, numbers = classifier.labels, judgement.probabilities.tolist()
    answer: Answer = {}
    if classifier.thresholds is None:
        answer["label"] = names[order[0]]
    else:
        answer["labels"] = [names[i] for i in order if numbers[i] > classifier.thresholds[i]]
    if judgement.members is not None:
        # A set always has the most probable label.
        is_member = [place == 0 or bool(judgement.members[i]) for place, i in enumerate(order)]
        key: Literal["labels", "possible_labels"] = (
            "labels" if classifier.thresholds is None else "possible_labels"
        )
        answer[key] = [names[i] for i, is_in in zip(order, is_member) if is_in]
    if judgement.is_unknown is not None:
        answer["is_unknown"] = judgement.is_unknown
    if judgement.is_answered is not None:
        answer["is_answered"] = judgement.is_answered
    answer["top_k"] = [{"label": names[i], "probability": numbers[i]} for i in order[:top_k]]
    return answer


def group_by_shape(images: Mapping[int, np.ndarray]) -> List[List[int]]:
    """Return the keys of images in groups of one shape, so that none needs padding."""
    groups: Dict[Tuple[int, ...], List[int]] = {}
    for key, pixels in images.items():
        groups.setdefault(pixels.shape, []).append(key)
    return list(groups.values())


def classify_pixels(
    classifier: Classifier, images: Mapping[int, np.ndarray]
) -> Dict[int, Union[Judgement, str]]:
    """
    Return what is known about each image, or the reason why there is nothing. Images of one shape
    are classified together.
    """
    outcomes: Dict[int, Union[Judgement, str]] = {}
    for keys in group_by_shape(images):
        try:
            rows = judged(classifier, np.stack([images[key] for key in keys]))
        except ImageError as error:
            outcomes |= dict.fromkeys(keys, str(error))
        else:
            for key, row in zip(keys, rows):
                is_finite = bool(np.isfinite(row.probabilities).all())
                outcomes[key] = row if is_finite else NOT_FINITE
    return outcomes


def compare(
    expected: np.ndarray, given: np.ndarray, thresholds: Optional[List[float]]
) -> Tuple[float, float]:
    """
    Compare two tables of probabilities `(images, labels)`. Return the share of images with the same
    label (with `thresholds`: the same set of labels), and the largest difference. Both are nan if
    `given` has a nan.
    """
    if np.isnan(given).any():
        return float("nan"), float("nan")
    if thresholds is None:
        same = expected.argmax(axis=1) == given.argmax(axis=1)
    else:
        same = ((expected > thresholds) == (given > thresholds)).all(axis=1)
    return float(same.mean()), float(np.abs(expected - given).max())

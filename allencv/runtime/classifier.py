from typing import Dict, List, Mapping, Optional, Protocol, Tuple, TypedDict, Union

import numpy as np

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
        above their threshold. Otherwise `None`.
    preprocessing : turns an image into pixels for the network.
    """

    name: str
    labels: List[str]
    multi_label: bool
    thresholds: Optional[List[float]]
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


class RankedLabel(TypedDict):
    label: str
    probability: float


class Answer(TypedDict, total=False):
    """What a classifier says about an image."""

    label: str
    labels: List[str]
    """In place of `label`, from a classifier with `multi_label`."""
    top_k: List[RankedLabel]
    """The most probable labels, the most probable first."""


def readable(classifier: Classifier, probabilities: np.ndarray, top_k: int = TOP_K) -> Answer:
    """
    Return the answer for one image from its `probabilities`, `(labels,)`, with `top_k` labels.
    Labels are sorted by probability; ties keep the order of the labels.
    """
    order = np.argsort(-probabilities, kind="stable").tolist()
    names, numbers = classifier.labels, probabilities.tolist()
    answer: Answer = {}
    if classifier.thresholds is None:
        answer["label"] = names[order[0]]
    else:
        answer["labels"] = [names[i] for i in order if numbers[i] > classifier.thresholds[i]]
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
) -> Dict[int, Union[np.ndarray, str]]:
    """
    Return the probabilities `(labels,)` of each image, or the reason why there are none. Images of
    one shape are classified together.
    """
    outcomes: Dict[int, Union[np.ndarray, str]] = {}
    for keys in group_by_shape(images):
        try:
            rows = classifier.probabilities(np.stack([images[key] for key in keys]))
        except ImageError as error:
            outcomes |= dict.fromkeys(keys, str(error))
        else:
            for key, row in zip(keys, rows):
                outcomes[key] = row if np.isfinite(row).all() else NOT_FINITE
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

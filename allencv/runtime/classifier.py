from typing import Any, Dict, List, Mapping, Optional, Protocol, Tuple

import numpy as np

from allencv.runtime.images import ImageSource
from allencv.runtime.preprocessing import Preprocessing

TOP_K = 5
"""How many labels an answer lists unless more or fewer are asked for."""
NOT_FINITE = "the network's probabilities for it are not finite numbers"


class Classifier(Protocol):
    """
    A finished model, whatever it is kept in: images in, probabilities out. Bundles and archives are
    opened as one of these, and what classifies files or answers requests knows nothing more.

    # Parameters

    name : what people call it: the name of the bundle's folder, or of the archive.
    labels : in the order of the probabilities.
    multi_label : whether an image may have several labels, or none.
    thresholds : for `multi_label`, one for each label: an image has the labels whose probability is
        above their threshold. Otherwise `None`.
    preprocessing : how an image becomes the pixels that the network sees.
    """

    name: str
    labels: List[str]
    multi_label: bool
    thresholds: Optional[List[float]]
    preprocessing: Preprocessing

    def preprocess(self, source: ImageSource) -> np.ndarray:
        """
        The pixels `(height, width, channels)`, `uint8`, of one image. Raises `ImageError` for one
        that cannot be read.
        """
        ...

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """
        For pixels `(batch, height, width, channels)`, `uint8`, the probabilities `(batch, labels)`,
        `float32`. Several threads may call it at once.
        """
        ...


def readable(
    classifier: Classifier, probabilities: np.ndarray, top_k: int = TOP_K
) -> Dict[str, Any]:
    """
    The answer for one image, whose `probabilities` are `(labels,)`: its `label`, or its `labels`
    from a classifier that gives any number of them; and `top_k`, that many labels with their
    `probability`. The most probable comes first, the earlier one of two that are equal.
    """
    order = np.argsort(-probabilities, kind="stable").tolist()
    names, numbers = classifier.labels, probabilities.tolist()
    answer: Dict[str, Any] = {}
    if classifier.thresholds is None:
        answer["label"] = names[order[0]]
    else:
        answer["labels"] = [names[i] for i in order if numbers[i] > classifier.thresholds[i]]
    answer["top_k"] = [{"label": names[i], "probability": numbers[i]} for i in order[:top_k]]
    return answer


def group_by_shape(images: Mapping[int, np.ndarray]) -> List[List[int]]:
    """Return the keys of images in groups of one shape, so that none is padded to another's."""
    groups: Dict[Tuple[int, ...], List[int]] = {}
    for key, pixels in images.items():
        groups.setdefault(pixels.shape, []).append(key)
    return list(groups.values())


def compare(
    expected: np.ndarray, given: np.ndarray, thresholds: Optional[List[float]]
) -> Tuple[float, float]:
    """
    How two tables of probabilities `(images, labels)` differ: the share of images that get the same
    label (with `thresholds`: the same set of labels), and the largest difference. Both are nan if
    there is a nan among `given`.
    """
    if np.isnan(given).any():
        return float("nan"), float("nan")
    if thresholds is None:
        same = expected.argmax(axis=1) == given.argmax(axis=1)
    else:
        same = ((expected > thresholds) == (given > thresholds)).all(axis=1)
    return float(same.mean()), float(np.abs(expected - given).max())

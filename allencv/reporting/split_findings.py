"""The findings about one split, computed from its predictions."""

from dataclasses import dataclass, field
from itertools import takewhile
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from allencv.certainty.reliability import Bin, calibration_error
from allencv.predictions.predictions_file import (
    Picture,
    Predictions,
    Shown,
    confident_mistakes,
    likely_label_errors,
    unsure_hits,
)
from allencv.reporting.scores import (
    LabelScores,
    Score,
    calibration,
    confusions,
    label_scores,
    summary_scores,
)

MOST_CONFUSED, MOST_LISTED = 20, 200
"""The most pairs of labels, and the most images of a list."""


class SimilarImage(NamedTuple):
    """
    A training image that is similar to another image.

    # Parameters

    name : its path, or another name from the reader.
    labels : of the image, none if it has none.
    similarity : the cosine of the vectors of both images, from -1 to 1.
    picture : `None` if the image cannot be read any more.
    """

    name: str
    labels: Sequence[str]
    similarity: float
    picture: Optional[Image.Image]


@dataclass
class ImageFinding:
    """An image, with a label that was predicted for it or is likely to be its true label."""

    name: str
    label: str
    probability: float
    is_true: bool
    """Whether the image is labelled `label`."""
    threshold: Optional[float] = None
    """Set if images have several labels: above it, the label is predicted."""
    other_label: str = ""
    """
    Set if images have one label: the true label or, if that is `label`, the second most probable.
    """
    other_probability: float = 0.0
    picture: Optional[Picture] = None
    similar: List[SimilarImage] = field(default_factory=list)
    """The most similar training images, if they were searched: the most similar first."""

    @property
    def is_predicted(self) -> bool:
        return self.threshold is None or self.probability > self.threshold


@dataclass
class ImageList:
    """How many images there are of a kind, and the first of them."""

    count: int
    images: List[ImageFinding]

    @property
    def pictured(self) -> List[ImageFinding]:
        return list(takewhile(lambda each: each.picture is not None, self.images))


@dataclass
class ConfusedPair:
    """Images of one label for which another one was predicted."""

    true_label: str
    predicted_label: str
    images: int
    fraction: float
    """Of the images with the true label."""


@dataclass
class SplitFindings:
    """Everything that a report says about one split."""

    name: str
    images: int
    multi_label: bool
    scores: List[Score]
    labels: List[LabelScores]
    """The lowest F1 first."""
    confusion_labels: List[str]
    """The labels in alphabetical order. Empty if images have several labels."""
    confusion: np.ndarray
    """`(labels, labels)`: images by true label (row) and predicted label (column)."""
    confused_pairs: List[ConfusedPair]
    """The pairs with the most images first."""
    bins: List[Bin]
    calibration_error: float
    mistakes: ImageList
    close_hits: ImageList
    label_errors: ImageList
    has_maps: bool
    """Whether some pictures have a map of where the network looked."""

    @property
    def decisions(self) -> int:
        """The number of predictions: one per image, or one per image and label."""
        return self.images * (len(self.labels) if self.multi_label else 1)


def split_findings(name: str, predictions: Predictions) -> SplitFindings:
    """Compute the findings about the split `name`."""
    bins = calibration(predictions)
    names, counts = _confusion(predictions)
    return SplitFindings(
        name=name,
        images=len(predictions.names),
        multi_label=predictions.multi_label,
        scores=summary_scores(predictions),
        labels=sorted(label_scores(predictions), key=lambda each: each.f1),
        confusion_labels=names,
        confusion=counts,
        confused_pairs=_confused_pairs(names, counts),
        bins=bins,
        calibration_error=calibration_error(bins),
        mistakes=_image_list(predictions, confident_mistakes(predictions)),
        close_hits=_image_list(predictions, unsure_hits(predictions)),
        label_errors=_image_list(predictions, likely_label_errors(predictions)),
        has_maps=any(each.heat is not None for each in predictions.pictures.values()),
    )


def _confusion(predictions: Predictions) -> Tuple[List[str], np.ndarray]:
    """Return the labels in alphabetical order, and the confusion matrix in that order."""
    if predictions.multi_label:
        return [], np.zeros((0, 0), dtype=int)
    order = sorted(range(len(predictions.labels)), key=predictions.labels.__getitem__)
    return [predictions.labels[index] for index in order], confusions(predictions)[
        np.ix_(order, order)
    ]


def _confused_pairs(labels: List[str], counts: np.ndarray) -> List[ConfusedPair]:
    totals = counts.sum(1)
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    most = np.argsort(-mistakes, axis=None, kind="stable")[:MOST_CONFUSED]
    return [
        ConfusedPair(labels[true], labels[given], int(count), float(count / totals[true]))
        for true, given in zip(*np.unravel_index(most, counts.shape))
        if (count := mistakes[true, given]) > 0
    ]


def _image_list(predictions: Predictions, found: Sequence[Shown]) -> ImageList:
    pictured = sum(1 for _ in takewhile(predictions.pictures.__contains__, found))
    first = found[: max(MOST_LISTED, pictured)]
    return ImageList(len(found), [_image_finding(predictions, each) for each in first])


def _image_finding(predictions: Predictions, shown: Shown) -> ImageFinding:
    image, label = shown
    probs, target = predictions.probs[image], predictions.targets[image]
    is_true = bool(target[label]) if predictions.multi_label else int(target) == label
    finding = ImageFinding(
        predictions.names[image],
        predictions.labels[label],
        float(probs[label]),
        is_true,
        picture=predictions.pictures.get(shown),
    )
    if predictions.thresholds is not None:
        finding.threshold = float(predictions.thresholds[label])
    else:
        # A model of one label has no second: then it is the label itself.
        other = int(probs.argsort()[-2:][0]) if is_true else int(target)
        finding.other_label = predictions.labels[other]
        finding.other_probability = float(probs[other])
    return finding

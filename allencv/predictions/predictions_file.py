import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from allencv.predictions.label_errors import confident_learning
from allencv.runtime.whole_files import whole_file

FOLDER = "predictions"
"""The subfolder of a run that holds its predictions."""

Shown = Tuple[int, int]
"""The indices of an image and of the label that a picture shows it for."""


@dataclass
class Picture:
    """An image as the network sees it, and the areas that support a label."""

    jpeg: bytes
    heat: Optional[np.ndarray] = None
    """`(height, width)` of the feature map, from 0 to 1: Grad-CAM of the label."""


@dataclass
class Predictions:
    """
    The predictions of a model for the images of a split, and the truth.

    # Parameters

    labels : `List[str]`
        The names of the labels in the order of the probabilities.
    names : `List[str]`
        The path of each image, or another name from the reader.
    probs : `np.ndarray`
        `(images, labels)`, float32, from 0 to 1.
    targets : `np.ndarray`
        `(images,)`, the index of each image's label; or, if images have several labels, `(images,
        labels)`, true where an image has a label.
    thresholds : `np.ndarray`, optional (default = `None`)
        `(labels,)`, if images have several labels: the probability above which each is given.
    pictures : `Dict[Shown, Picture]`, optional
        Pictures of some images, each for one label.
    """

    labels: List[str]
    names: List[str]
    probs: np.ndarray
    targets: np.ndarray
    thresholds: Optional[np.ndarray] = None
    pictures: Dict[Shown, Picture] = field(default_factory=dict)

    @property
    def multi_label(self) -> bool:
        return self.targets.ndim == 2

    @property
    def given(self) -> np.ndarray:
        """The predicted labels, in the form of `targets`."""
        if self.thresholds is None:
            return self.probs.argmax(1)
        return self.probs > self.thresholds

    def save(self, path: Union[str, Path]) -> None:
        """Write an `.npz` file of numpy, whole or not at all."""
        arrays: Dict[str, Any] = {
            "labels": np.array(self.labels),
            "names": np.array(self.names),
            "probs": self.probs.astype(np.float32),
            "targets": self.targets,
            "shown": np.array(list(self.pictures), dtype=np.int64).reshape(-1, 2),
        }
        if self.thresholds is not None:
            arrays["thresholds"] = self.thresholds
        for number, picture in enumerate(self.pictures.values()):
            arrays[f"picture_{number}"] = np.frombuffer(picture.jpeg, np.uint8)
            if picture.heat is not None:
                arrays[f"heat_{number}"] = picture.heat.astype(np.float16)
        with whole_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Union[str, Path]) -> "Predictions":
        """
        Read what `save` has written, without running code of it.

        # Raises

        `ValueError` if the file is missing, damaged or of another kind.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            pictures = {
                (int(image), int(label)): Picture(
                    arrays[f"picture_{number}"].tobytes(), arrays.get(f"heat_{number}")
                )
                for number, (image, label) in enumerate(arrays["shown"])
            }
            return cls(
                arrays["labels"].tolist(),
                arrays["names"].tolist(),
                arrays["probs"],
                arrays["targets"],
                arrays.get("thresholds"),
                pictures,
            )
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} does not hold predictions: {error}") from None


def confident_mistakes(predictions: Predictions) -> List[Shown]:
    """
    Return the wrong predictions, the most confident first: an image and the label that it was
    given, or with several labels the one that was wrongly given or wrongly left out.
    """
    probs, given = predictions.probs, predictions.given
    if predictions.multi_label:
        images, labels = np.nonzero(given != predictions.targets)
        chosen = probs[images, labels]
        return _ordered(images, labels, -np.where(given[images, labels], chosen, 1 - chosen))
    images = np.nonzero(given != predictions.targets)[0]
    return _ordered(images, given[images], -probs[images, given[images]])


def unsure_hits(predictions: Predictions) -> List[Shown]:
    """
    Return the correct labels, the least sure first: those of the lowest probability, or if images
    have several labels, those nearest to their threshold.
    """
    probs, given = predictions.probs, predictions.given
    if predictions.multi_label:
        images, labels = np.nonzero(given & predictions.targets)
        assert predictions.thresholds is not None
        return _ordered(images, labels, probs[images, labels] - predictions.thresholds[labels])
    images = np.nonzero(given == predictions.targets)[0]
    return _ordered(images, given[images], probs[images, given[images]])


def likely_label_errors(predictions: Predictions) -> List[Shown]:
    """
    Return the images whose label is likely wrong, each with the suggested label, by
    `confident_learning`. The image with the least probable label comes first.

    If images have several labels, each label is checked alone, as two classes. The second of a pair
    is then the label that is missing or wrong.
    """
    probs, targets = predictions.probs, predictions.targets
    if not predictions.multi_label:
        return confident_learning(probs, targets)
    found: List[Tuple[float, Shown]] = []
    for label in range(len(predictions.labels)):
        of_label = np.stack([1 - probs[:, label], probs[:, label]], axis=1)
        has_label = targets[:, label].astype(int)
        for image, _ in confident_learning(of_label, has_label):
            found.append((float(of_label[image, has_label[image]]), (image, label)))
    return [shown for _, shown in sorted(found)]


def _ordered(images: np.ndarray, labels: np.ndarray, keys: np.ndarray) -> List[Shown]:
    order = np.argsort(keys, kind="stable")
    return [(int(images[place]), int(labels[place])) for place in order]


def pictured(predictions: Predictions, count: int) -> List[Shown]:
    """Return what a report pictures: the first `count` of each kind, without repeats."""
    kinds = (confident_mistakes, unsure_hits, likely_label_errors)
    return list(dict.fromkeys(shown for kind in kinds for shown in kind(predictions)[:count]))

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from allencv.runtime.whole_files import whole_file

FOLDER = "predictions"
"""Where in the folder of a run its predictions are."""

Shown = Tuple[int, int]
"""An image and a label of it, by their indices: what a picture is shown for."""


@dataclass
class Picture:
    """An image as the network sees it, and where it sees a label in it."""

    jpeg: bytes
    heat: Optional[np.ndarray] = None
    """`(height, width)` of the feature image, from 0 to 1: Grad-CAM of the label."""


@dataclass
class Predictions:
    """
    What a model says about the images of a split, and what is true.

    # Parameters

    labels : `List[str]`
        The names of the labels in the order of the probabilities.
    names : `List[str]`
        Of each image its path, or what else the reader calls it.
    probs : `np.ndarray`
        `(images, labels)`, float32, from 0 to 1.
    targets : `np.ndarray`
        `(images,)`, the index of each image's label; or, if images have several labels, `(images,
        labels)`, true where an image has a label.
    thresholds : `np.ndarray`, optional (default = `None`)
        `(labels,)`, if images have several labels: above which probability one is given.
    pictures : `Dict[Shown, Picture]`, optional
        Some of the images, for an image and a label each.
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
        """What is predicted, in the form of `targets`."""
        if self.thresholds is None:
            return self.probs.argmax(1)
        return self.probs > self.thresholds

    def save(self, path: Union[str, Path]) -> None:
        """Writes a file of numpy's, `.npz`, whole or not at all."""
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
        Reads what `save` has written; runs no code of it.

        # Raises

        `ValueError` if the file is damaged, or no such file.
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
    The wrong predictions, the most confident first: an image and the label that it was given, or
    where images have several, the label that it was wrongly given or not given.
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
    The labels that were rightly given, the least sure first: those of the lowest probability, or
    where images have several labels, those nearest to their threshold.
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
    The images whose label is likely to be wrong, the most likely first, each with the label that it
    should rather have: those off the diagonal of the confident joint (Northcutt et al. 2021,
    arXiv:1911.00068, section 3.1), the least probable label first. An image counts for a label if
    the label's probability is at least its mean over the images that are labelled so; of several
    such labels it is for the most probable. If it is for another than its own, that is in doubt.

    Where images have several labels, each label is looked at by itself, as two classes: the second
    of a pair is the label that is missing, or too much.
    """
    probs, targets = predictions.probs, predictions.targets
    if not predictions.multi_label:
        images, labels = _off_diagonal(probs, targets)
        return _ordered(images, labels, probs[images, targets[images]])
    found: List[Tuple[float, Shown]] = []
    for label in range(len(predictions.labels)):
        of_label = np.stack([1 - probs[:, label], probs[:, label]], axis=1)
        has_label = targets[:, label].astype(int)
        for image in _off_diagonal(of_label, has_label)[0].tolist():
            found.append((float(of_label[image, has_label[image]]), (image, label)))
    return [shown for _, shown in sorted(found)]


def _off_diagonal(probs: np.ndarray, targets: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The images that are confidently of another class than their own, and that class."""
    counts = np.bincount(targets, minlength=probs.shape[1])
    own = probs[np.arange(len(targets)), targets]
    means = np.bincount(targets, own, minlength=probs.shape[1]) / np.maximum(counts, 1)
    # Of a class without images there is no telling what a high probability is.
    means[counts == 0] = np.inf
    confident = np.where(probs >= means, probs, -1.0)
    other = confident.argmax(1)
    images = np.nonzero((confident.max(1) >= 0) & (other != targets))[0]
    return images, other[images]


def _ordered(images: np.ndarray, labels: np.ndarray, keys: np.ndarray) -> List[Shown]:
    order = np.argsort(keys, kind="stable")
    return [(int(images[place]), int(labels[place])) for place in order]


def pictured(predictions: Predictions, count: int) -> List[Shown]:
    """What a report shows pictures for: the first `count` of each kind, each once."""
    kinds = (confident_mistakes, unsure_hits, likely_label_errors)
    return list(dict.fromkeys(shown for kind in kinds for shown in kind(predictions)[:count]))

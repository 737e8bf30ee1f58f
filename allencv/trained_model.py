"""A trained model as a Python object: images in, labels out."""

import html
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Union, cast, overload

import numpy as np

from allencv.runtime.bundle import check_exists, is_bundle, read_manifest
from allencv.runtime.certainty import Judgement
from allencv.runtime.classifier import Classifier, classify_pixels, readable
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.defaults import DEFAULT_ENGINE, TOP_K
from allencv.runtime.errors import ImageError, InputError
from allencv.runtime.images import ImageSource
from allencv.runtime.onnx_classifier import OnnxClassifier

UNKNOWN = "unknown: unlike the training images"
NOT_ANSWERED = "not answered: hand to a person"
BATCH = 32
"""The number of images decoded and classified at once."""


@dataclass(frozen=True)
class Prediction:
    """
    The labels and probabilities of one image.

    # Parameters

    labels : `List[str]`
        The labels, the most probable first. A multi-label model gives any number of them, other
        models one.
    probabilities : `Dict[str, float]`
        The probabilities of all labels, from 0 to 1, the most probable first.
    is_unknown : `bool`, optional
        Whether the image is unlike the training data; of a model that is calibrated for this.
    is_answered : `bool`, optional
        Whether the label is to be relied on; of a model that is calibrated for a target accuracy.
    possible_labels : `List[str]`, optional
        The set that holds the right label, or few labels less than all right ones, as often as was
        asked for; of a model that is calibrated for this.
    error : `str`, optional
        Why there are no labels: the image cannot be read, or the network's answer is not finite.
    """

    labels: List[str] = field(default_factory=list)
    probabilities: Dict[str, float] = field(default_factory=dict)
    error: Optional[str] = None
    is_unknown: Optional[bool] = None
    is_answered: Optional[bool] = None
    possible_labels: Optional[List[str]] = None

    @property
    def label(self) -> Optional[str]:
        """The most probable of `labels`, or `None`."""
        return self.labels[0] if self.labels else None

    def top(self, count: int = TOP_K) -> Dict[str, float]:
        """Return the probabilities of the `count` most probable labels."""
        return dict(list(self.probabilities.items())[:count])

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Prediction(error={self.error!r})"
        shown = ", ".join(f"{label} {value:.3f}" for label, value in self.top().items())
        rest = len(self.probabilities) - TOP_K
        more = f", {rest} more" if rest > 0 else ""
        return f"Prediction({self.labels}: {shown}{more}{''.join(f'; {n}' for n in self._notes())})"

    def _repr_html_(self) -> str:
        """Return a table with a bar for each of the most probable labels, for a notebook."""
        if self.error is not None:
            return f"<p>{_error_text(self.error)}</p>"
        rows = (f"<tr>{_cells(label, value)}</tr>" for label, value in self.top().items())
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        return f"{notes}<table>{''.join(rows)}</table>"

    def _notes(self) -> List[str]:
        """Return what a calibrated model says beside the labels, in words."""
        if self.is_unknown:
            return [UNKNOWN]
        notes = [] if self.is_answered in (None, True) else [NOT_ANSWERED]
        if self.possible_labels and self.possible_labels != self.labels:
            notes.insert(0, f"possible: {', '.join(self.possible_labels)}")
        return notes


class Predictions(List[Prediction]):
    """The list of predictions for a list of images."""

    def _repr_html_(self) -> str:
        """Return a table with a row for each image, for a notebook."""
        has_notes = any(each._notes() for each in self)
        rows = (
            f"<tr><td>{number}</td>{_row(each, has_notes)}</tr>" for number, each in enumerate(self)
        )
        return f"<table>{''.join(rows)}</table>"


def _row(prediction: Prediction, has_notes: bool) -> str:
    """Return the cells of a prediction: its labels, its highest probability, and its notes."""
    if prediction.error is not None:
        return f"<td colspan={3 + has_notes}>{_error_text(prediction.error)}</td>"
    value = next(iter(prediction.probabilities.values()), 0.0)
    cells = _cells(", ".join(prediction.labels) or "no label", value)
    return cells + f"<td>{html.escape('; '.join(prediction._notes()))}</td>" * has_notes


def _cells(text: str, share: float) -> str:
    return (
        f"<td>{html.escape(text)}</td><td>{share:.1%}</td>"
        f'<td><progress value="{share:.4f}"></progress></td>'
    )


def _error_text(error: str) -> str:
    return f"error: {html.escape(error)}"


class TrainedModel:
    """
    An opened archive or bundle, created by `load`.

    # Parameters

    classifier : `Classifier`
        Computes the probabilities. You may read its `labels`, `multi_label` and `thresholds`.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @property
    def labels(self) -> List[str]:
        """The labels in the order of the network's output."""
        return self.classifier.labels

    @overload
    def predict(self, images: ImageSource) -> Prediction: ...

    @overload
    def predict(self, images: Sequence[ImageSource]) -> Predictions: ...

    def predict(
        self, images: Union[ImageSource, Sequence[ImageSource]]
    ) -> Union[Prediction, Predictions]:
        """
        Classify one image, or a list of them.

        # Parameters

        images : `Union[ImageSource, Sequence[ImageSource]]`
            A path, the bytes of a file, a PIL image or an array `(height, width, channels)` of
            `uint8`; or a list or tuple of these.

        # Returns

        A `Prediction`, or for a list a list of them, in the same order.

        # Raises

        `ImageError` if a single image cannot be read. In a list, its prediction has an `error`.
        """
        if not isinstance(images, list | tuple):
            (prediction,) = self._predict([cast(ImageSource, images)])
            if prediction.error is not None:
                raise ImageError(prediction.error)
            return prediction
        batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        return Predictions(each for batch in batches for each in self._predict(batch))

    def _predict(self, images: Sequence[ImageSource]) -> List[Prediction]:
        with ThreadPoolExecutor(min(len(images), cpu_count())) as threads:
            decoded = list(threads.map(self._decode, images))
        predictions = [
            Prediction(error=pixels) if isinstance(pixels, str) else Prediction()
            for pixels in decoded
        ]
        arrays = {i: pixels for i, pixels in enumerate(decoded) if not isinstance(pixels, str)}
        for index, outcome in classify_pixels(self.classifier, arrays).items():
            predictions[index] = self._prediction(outcome)
        return predictions

    def _decode(self, image: ImageSource) -> Union[np.ndarray, str]:
        try:
            return self.classifier.preprocess(image)
        except ImageError as error:
            return str(error)

    def _prediction(self, outcome: Union[Judgement, str]) -> Prediction:
        if isinstance(outcome, str):
            return Prediction(error=outcome)
        answer = readable(self.classifier, outcome, len(self.labels))
        is_single = "label" in answer
        return Prediction(
            [answer["label"]] if is_single else answer["labels"],
            {each["label"]: each["probability"] for each in answer["top_k"]},
            is_unknown=answer.get("is_unknown"),
            is_answered=answer.get("is_answered"),
            possible_labels=answer.get("labels") if is_single else answer.get("possible_labels"),
        )

    def __repr__(self) -> str:
        several = "any number of labels" if self.classifier.multi_label else "one label"
        return (
            f"TrainedModel({self.classifier.name!r}: {several} an image, of {len(self.labels)}: "
            f"{', '.join(self.labels[:5])}{', ...' if len(self.labels) > 5 else ''})"
        )


def load(
    path: Union[str, os.PathLike],
    device: Optional[str] = None,
    engine: Optional[str] = None,
    trusted: bool = False,
) -> TrainedModel:
    """
    Open a trained model: an archive (`model.tar.gz`, a URL of one, or the folder of a run), or an
    exported bundle. A bundle needs neither torch nor AllenNLP, except that one of the format
    "torch_export" needs torch.

    # Parameters

    device : `str`, optional (default = the first GPU, or else the CPU)
        For an archive: "cpu", "cuda", "cuda:1", ...
    engine : `str`, optional (default = `"onnxruntime"`)
        For a bundle: the engine that runs the network; see `OnnxClassifier`.
    trusted : `bool`, optional (default = `False`)
        For an archive: whether its config may name any Python code, which then runs. For a bundle
        of the format "torch_export", which can always run code: whether to open it.

    # Raises

    `BundleError` or `ConfigurationError` if it cannot be opened; `InputError` if there is no model
    at `path`, and for an argument of the other kind of model.
    """
    check_exists(path)
    if is_bundle(path):
        if device is None and read_manifest(path).format == "torch_export":
            return TrainedModel(_with_torch(path, engine, trusted))
        if device is not None or trusted:
            raise InputError(
                f"'{os.fspath(path)}' is a bundle; expected no device and no trusted, which are "
                "for archives"
            )
        return TrainedModel(OnnxClassifier(path, engine or DEFAULT_ENGINE, threads=cpu_count()))
    if engine is not None:
        raise InputError(f"'{os.fspath(path)}' is an archive; expected no engine ({engine!r})")
    from allencv.predictors.archive_classifier import ArchiveClassifier

    return TrainedModel(ArchiveClassifier(os.fspath(path), device, trusted))


def _with_torch(path: Union[str, os.PathLike], engine: Optional[str], trusted: bool) -> Classifier:
    if engine is not None:
        raise InputError(
            f"'{os.fspath(path)}' is a torch_export bundle, which torch runs; expected no engine "
            f"({engine!r})"
        )
    from allencv.exporting.torch_classifier import TorchClassifier

    return TorchClassifier(path, trusted)

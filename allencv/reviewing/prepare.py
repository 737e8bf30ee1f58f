"""Prepare a review: read the images, compute their vectors, and put them in order."""

from typing import Dict, List, NamedTuple, Optional, Protocol, Sequence, Set, Tuple

import numpy as np
from allennlp.common.checks import ConfigurationError

from allencv.data.corrections import Labels, image_key, source_key
from allencv.data.dataset_readers.corrected_reader import labels_of
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.inspection import Split
from allencv.features.embedding import ImageEncoder, image_vectors
from allencv.features.neighbours import nearest
from allencv.features.sample_vectors import sample_name, sample_vectors
from allencv.reviewing.queue_order import (
    MOST_DIVERSE,
    LabelError,
    find_label_errors,
    find_multilabel_errors,
    find_unlike,
    margins,
    teaching_order,
)
from allencv.reviewing.session import Picture, QueuedImage
from allencv.runtime.certainty import Certainty, Judgement
from allencv.runtime.classifier import RankedLabel
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile
from allencv.runtime.plurals import numbered

SIMILAR = 4
"""The number of similar images that are shown."""
TOP = 9
"""The number of labels whose probabilities are shown."""
UNSURE = 0.5
"""Below this margin an image is called unsure."""
WRONG = "Label may be wrong"
UNKNOWN = "Unknown: unlike the training images"
"""The titles of images; `_title` has the others."""


class ReviewModel(ImageEncoder, Protocol):
    """
    What a review needs of an `ArchiveClassifier`. With `certainty`, the thresholds are those for
    calibrated probabilities.
    """

    name: str
    labels: List[str]
    multi_label: bool
    thresholds: Optional[List[float]]
    certainty: Optional[Certainty]

    def probabilities_of_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Return the network's probabilities `(n, labels)` for vectors `(n, vector_size)`."""
        ...


class PictureVectors(NamedTuple):
    """Images with their vectors `(n, dim)`."""

    pictures: List[Picture]
    vectors: np.ndarray


class Review(NamedTuple):
    """
    What a review shows.

    # Parameters

    labels : all labels that can be chosen: those of the model, of the data, and the new ones,
        sorted.
    queue : the images, the most useful first.
    labelled : the images that `QueuedImage.similar` refers to.
    label_errors : how many of the queue have a label that may be wrong. They come first.
    errors : why other images are not shown, by their names.
    notes : what was left out.
    """

    labels: List[str]
    queue: List[QueuedImage]
    labelled: List[Picture]
    label_errors: int
    errors: Dict[str, str]
    notes: List[str]


def prepare_review(
    model: ReviewModel,
    images: Sequence[ImageFile],
    splits: Sequence[Split],
    new_labels: Sequence[str] = (),
) -> Review:
    """
    Find out which images to show, in which order.

    # Parameters

    model : gives the vectors and the probabilities.
    images : without labels.
    splits : of labelled data. Their images without a label count as `images`.
    new_labels : labels to offer that neither the model nor the data have.

    # Raises

    `InputError` if the model and the data do not both have one label an image; `ConfigurationError`
    for an image without a path.
    """
    errors: Dict[str, str] = {}
    labelled, unlabelled = _of_splits(model, splits, errors)
    known = {picture.key for picture in [*labelled.pictures, *unlabelled.pictures]}
    unlabelled = _joined(model, unlabelled, _of_files(model, images, known, errors))
    names = {label for picture in labelled.pictures for label in picture.labels or ()}
    labels = sorted({*model.labels, *names, *new_labels})
    suspects, notes = _queue_labelled(model, labelled)
    others = _queue_unlabelled(model, unlabelled, labelled)
    return Review(labels, [*suspects, *others], labelled.pictures, len(suspects), errors, notes)


def _of_splits(
    model: ReviewModel, splits: Sequence[Split], errors: Dict[str, str]
) -> Tuple[PictureVectors, PictureVectors]:
    """Return the images with and without labels, each once, and add errors."""
    parts: Tuple[List[PictureVectors], List[PictureVectors]] = ([], [])
    known: Set[str] = set()
    for split in splits:
        indices = []
        for index, sample in enumerate(split.samples):
            _check(model, split, sample)
            key = _key(sample)
            if key not in known:
                indices.append(index)
                known.add(key)
        found = sample_vectors(model, split, indices)
        errors |= {sample_name(split, index): why for index, why in found.errors.items()}
        pictures = [_picture(split, index) for index in found.indices]
        for has_labels, part in zip((True, False), parts):
            rows = [
                row for row, each in enumerate(pictures) if (each.labels is not None) == has_labels
            ]
            part.append(PictureVectors([pictures[row] for row in rows], found.vectors[rows]))
    return _joined(model, *parts[0]), _joined(model, *parts[1])


def _of_files(
    model: ReviewModel, images: Sequence[ImageFile], known: Set[str], errors: Dict[str, str]
) -> PictureVectors:
    """Return the images that are not `known` yet, and add errors."""
    new = [image for image in images if image_key(image.file) not in known]
    if not new:
        return _joined(model)
    found = image_vectors(model, new)
    errors.update(found.errors)
    pictures = [
        Picture(image_key(image.file), image.name, image.file, None, None) for image in found.images
    ]
    return PictureVectors(pictures, found.vectors)


def _joined(model: ReviewModel, *parts: PictureVectors) -> PictureVectors:
    pictures = [picture for part in parts for picture in part.pictures]
    empty = np.empty((0, model.vector_size), np.float16)
    return PictureVectors(pictures, np.concatenate([empty, *(part.vectors for part in parts)]))


def _check(model: ReviewModel, split: Split, sample: Sample) -> None:
    """Raise an error unless the labels of a sample are of the model's kind."""
    if labels_of(sample) is not None and (sample.labels is not None) != model.multi_label:
        kinds = ("one label", "several labels")
        raise InputError(
            f"the images in {split.path} have {kinds[not model.multi_label]} each, but the model "
            f"gives {kinds[model.multi_label]}; expected data like those it was trained on"
        )


def _key(sample: Sample) -> str:
    key = source_key(sample.image)
    if key is None:
        raise ConfigurationError(
            f"an image is a {type(sample.image).__name__} without a path; expected images in files "
            "or behind URLs"
        )
    return key


def _picture(split: Split, index: int) -> Picture:
    sample = split.samples[index]
    _, source = split.source(index)
    name = sample_name(split, index)
    return Picture(_key(sample), name, source, split.reader.value_range, labels_of(sample))


def _queue_labelled(
    model: ReviewModel, labelled: PictureVectors
) -> Tuple[List[QueuedImage], List[str]]:
    """Return the images whose labels may be wrong, and notes."""
    pictures, vectors = labelled
    if not pictures:
        return [], []
    notes: List[str] = []
    if model.multi_label:
        names = model.labels
        probs = np.stack([each.probabilities for each in _judged(model, vectors)])
        given = [[label in (each.labels or ()) for label in names] for each in pictures]
        errors = find_multilabel_errors(probs, np.array(given))
    else:
        texts = [label for each in pictures for label in each.labels or ()]
        names = sorted(set(texts))
        numbers = np.array([names.index(text) for text in texts])
        errors, probs, note = find_label_errors(vectors, numbers, len(names))
        if note is not None:
            notes.append(f"label errors: not searched, because {note}")
    rows = [error.row for error in errors]
    similar = _similar(vectors[rows], vectors, np.array(rows, int))
    queue = [
        _suspect(model, pictures[error.row], error, names, probs[error.row], near)
        for error, near in zip(errors, similar)
    ]
    return queue, notes


def _suspect(
    model: ReviewModel,
    picture: Picture,
    error: LabelError,
    names: Sequence[str],
    probs: np.ndarray,
    near: List[int],
) -> QueuedImage:
    suggestion = tuple(names[number] for number in error.suggestion)
    given, suggested = (", ".join(each) or "none" for each in (picture.labels or (), suggestion))
    if model.multi_label:
        reason = f"The labels are {given}. The model suggests {suggested}."
    else:
        reason = f"The label is {given}. The other images suggest {suggested}."
    return QueuedImage(picture, WRONG, reason, suggestion, _top(names, probs), near)


def _judged(model: ReviewModel, vectors: np.ndarray) -> List[Judgement]:
    """Return what the model knows about images with these vectors: calibrated, if it is."""
    vectors = vectors.astype(np.float32)
    probs = model.probabilities_of_vectors(vectors)
    if model.certainty is None:
        return [Judgement(row) for row in probs]
    return model.certainty.judge(probs, vectors, model.thresholds)


def _queue_unlabelled(
    model: ReviewModel, unlabelled: PictureVectors, labelled: PictureVectors
) -> List[QueuedImage]:
    """Return the images without labels in the order in which to show them."""
    pictures, vectors = unlabelled
    if not pictures:
        return []
    judgements = _judged(model, vectors)
    probs = np.stack([each.probabilities for each in judgements])
    sure = margins(probs, model.thresholds)
    unlike = find_unlike(vectors, labelled.vectors if labelled.pictures else None)
    order = teaching_order(sure, vectors, unlike)
    others = "labelled" if labelled.pictures else "other"
    titles = dict.fromkeys(unlike, f"Unlike the {others} images")
    titles |= {row: UNKNOWN for row, each in enumerate(judgements) if each.is_unknown}
    near = _similar(vectors[order[:MOST_DIVERSE]], labelled.vectors)
    near += [[]] * (len(order) - len(near))
    return [
        QueuedImage(
            pictures[row],
            titles.get(row) or _title(model, float(sure[row])),
            _reason(model, probs[row], float(sure[row])),
            _given(model, probs[row]),
            _top(model.labels, probs[row]),
            similar,
        )
        for row, similar in zip(order, near)
    ]


def _is_unsure(model: ReviewModel, margin: float) -> bool:
    return margin < (UNSURE if model.thresholds is None else UNSURE / 2)


def _title(model: ReviewModel, margin: float) -> str:
    return f"The model is {'unsure' if _is_unsure(model, margin) else 'sure'}"


def _reason(model: ReviewModel, probs: np.ndarray, margin: float) -> str:
    is_unsure = _is_unsure(model, margin)
    if model.thresholds is not None:
        place = int(np.abs(probs - np.asarray(model.thresholds)).argmin())
        if is_unsure:
            return f"Nearest to its threshold: {model.labels[place]} ({probs[place]:.0%})."
        return "No label is near its threshold."
    order = np.argsort(-probs, kind="stable")[: 2 if is_unsure else 1].tolist()
    shown = [f"{model.labels[each]} ({probs[each]:.0%})" for each in order]
    return f"Most probable: {' and '.join(shown)}."


def _given(model: ReviewModel, probs: np.ndarray) -> Labels:
    """Return the labels that the model gives."""
    if model.thresholds is None:
        return (model.labels[int(probs.argmax())],)
    return tuple(
        label
        for label, prob, threshold in zip(model.labels, probs, model.thresholds)
        if prob > threshold
    )


def _top(names: Sequence[str], probs: np.ndarray) -> List[RankedLabel]:
    order = np.argsort(-probs, kind="stable")[:TOP].tolist()
    return [{"label": names[each], "probability": float(probs[each])} for each in order]


def _similar(
    vectors: np.ndarray, labelled: np.ndarray, own_rows: Optional[np.ndarray] = None
) -> List[List[int]]:
    """Return the rows of the most similar labelled images for each vector."""
    if not len(vectors) or len(labelled) <= SIMILAR:
        return [[] for _ in vectors]
    rows, _ = nearest(vectors, labelled, SIMILAR, own_rows)
    return rows.tolist()


def described(review: Review) -> str:
    """Return what is in the queue, as a line."""
    others = len(review.queue) - review.label_errors
    return (
        f"{numbered(review.label_errors, 'image')} whose label may be wrong, "
        f"{numbered(others, 'image')} without a label"
    )

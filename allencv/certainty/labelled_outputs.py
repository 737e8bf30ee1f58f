"""Ask a model about images with labels."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Dict, List, NamedTuple, Sequence, Union

import numpy as np

from allencv.certainty.fit_certainty import LabelledOutputs
from allencv.classify.arguments import ON_GPU
from allencv.classify.progress import ProgressBar
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.samples import SampleList
from allencv.runtime.classifier import NOT_FINITE, Classifier, group_by_shape
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.errors import ImageError, InputError


class Outputs(NamedTuple):
    """
    What a network says about images.

    # Parameters

    indices : of the images that could be read.
    probabilities, vectors : `(images, labels)` and `(images, vector_size)`, of these.
    errors : why others could not, by their names.
    """

    indices: List[int]
    probabilities: np.ndarray
    vectors: np.ndarray
    errors: Dict[str, str]


def labelled_outputs(
    classifier: Classifier, samples: SampleList, data: str, show_progress: bool = True
) -> LabelledOutputs:
    """
    Return what a network says about samples, and their labels. Images that cannot be read are left
    out.

    # Parameters

    data : `str`
        What the samples are called in errors, such as "'pets/calibration' (DATA)".

    # Raises

    `InputError` for an image without a label, or with one that the model does not know.
    """
    targets = targets_of(classifier, samples, data)
    outputs = network_outputs(classifier, samples, show_progress)
    return LabelledOutputs(
        [_name(samples, i) for i in outputs.indices],
        outputs.probabilities,
        outputs.vectors,
        targets[outputs.indices],
        outputs.errors,
    )


def network_outputs(
    classifier: Classifier, samples: SampleList, show_progress: bool = True
) -> Outputs:
    """Return what a network says about samples. Threads decode images while it computes."""
    labels = len(classifier.labels)
    rows = np.empty((0, labels), np.float32)
    is_good = np.zeros(len(samples), bool)
    errors: Dict[str, str] = {}
    progress = ProgressBar(len(samples), is_shown=show_progress)
    starts = range(0, len(samples), ON_GPU)
    with ThreadPoolExecutor(cpu_count()) as threads:

        def decode(start: int) -> "Dict[int, Future[Union[np.ndarray, str]]]":
            batch = range(start, min(start + ON_GPU, len(samples)))
            return {i: threads.submit(_pixels, classifier, samples[i].image) for i in batch}

        ahead = decode(0)
        for start in starts:
            decoded = {i: each.result() for i, each in ahead.items()}
            ahead = decode(start + ON_GPU)
            failed = {i: each for i, each in decoded.items() if isinstance(each, str)}
            pixels = {i: each for i, each in decoded.items() if not isinstance(each, str)}
            for group in group_by_shape(pixels):
                both = classifier.outputs(np.stack([pixels[i] for i in group]))
                found = np.concatenate(both, axis=1)
                if not len(rows):
                    rows = np.empty((len(samples), found.shape[1]), np.float32)
                rows[group] = found
                is_good[group] = np.isfinite(found).all(axis=1)
                failed |= {i: NOT_FINITE for i in group if not is_good[i]}
            errors |= {_name(samples, i): reason for i, reason in failed.items()}
            progress.add(len(decoded), len(failed))
    progress.close()
    good = np.flatnonzero(is_good).tolist()
    rows = rows if is_good.all() else rows[good]
    return Outputs(good, rows[:, :labels], rows[:, labels:], errors)


def _name(samples: SampleList, index: int) -> str:
    return str(samples.metadata(index)["image"])


def targets_of(classifier: Classifier, samples: Sequence[Sample], data: str) -> np.ndarray:
    """
    Return the labels of samples: `(samples,)`, or `(samples, labels)`, `bool`, for a model with
    several labels an image. Raise `InputError` for a label that the model does not know.
    """
    places = {label: place for place, label in enumerate(classifier.labels)}
    several = np.zeros((len(samples), len(places)), dtype=bool)
    for row, sample in zip(several, samples):
        labels = sample.labels if classifier.multi_label else [sample.label]
        if labels is None or None in labels:
            kind = "labels" if classifier.multi_label else "label"
            raise InputError(f"{data}: {sample.image!s:.200} has no {kind}; expected one")
        for label in labels:
            if label not in places:
                known = ", ".join(map(repr, classifier.labels[:5]))
                more = ", ..." if len(classifier.labels) > 5 else ""
                raise InputError(
                    f"{data}: {sample.image!s:.200} has the label {label!r}; expected labels of "
                    f"the model: {known}{more}"
                )
            row[places[label]] = True
    return several if classifier.multi_label else several.argmax(axis=1)


def _pixels(classifier: Classifier, image: Any) -> Union[np.ndarray, str]:
    """Return the pixels of an image, or why there are none."""
    try:
        return classifier.preprocess(image() if callable(image) else image)
    except ImageError as error:
        return str(error)


def one_hot(targets: np.ndarray, labels: int) -> np.ndarray:
    """Return targets as `(images, labels)`, `bool`."""
    return targets if targets.ndim == 2 else np.eye(labels, dtype=bool)[targets]


def drawn(count: int, most: int, seed: int = 0) -> List[int]:
    """Return at most `most` of the numbers below `count`, drawn at random, in ascending order."""
    return sorted(np.random.default_rng(seed).permutation(count)[:most].tolist())

from typing import Any, Callable, Iterator, List, Sequence, TypeVar

import numpy as np
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.models import Model

from allencv.runtime import Classifier
from allencv.runtime.classifier import compare
from allencv.runtime.manifest import Parity
from allencv.runtime.terminal import notice

T = TypeVar("T")

BATCH = 16


@notice("comparing the bundle with the archive")
def compare_with_archive(
    model: Model,
    reader: DatasetReader,
    classifier: Classifier,
    images: Sequence[Any],
    least_agreement: float,
    tolerance: float,
) -> Parity:
    """
    Compare the answers of an archive's validation reader and model with those of the exported
    bundle, on the same images.

    # Raises

    `ConfigurationError` if they differ by more than allowed, and `ImageError` for an image that
    cannot be read.
    """
    expected: List[np.ndarray] = []
    given: List[np.ndarray] = []
    for batch in batches(images, BATCH):
        instances = [reader.text_to_instance(image) for image in batch]
        expected += [answer["probs"] for answer in model.forward_on_instances(instances)]
        given += list(classifier.probabilities(pixels(classifier.preprocess, batch)))
    agreement, difference = compare(np.stack(expected), np.stack(given), classifier.thresholds)
    # Negated like this, as comparisons with nan are False.
    if not (agreement >= least_agreement and difference <= tolerance):
        raise ConfigurationError(
            f"the bundle differs from the archive: of {len(images)} images {agreement:.2%} have "
            f"the same labels (expected at least {least_agreement:.2%}), and probabilities differ "
            f"by up to {difference:.2g} (expected at most {tolerance:g}); nothing was written. "
            "--agreement and --tolerance allow more"
        )
    return Parity(len(images), agreement, difference, least_agreement, tolerance)


def pixels(preprocess: Callable[[Any], np.ndarray], images: Sequence[Any]) -> np.ndarray:
    """Return the pixels for a network of images from a reader or a user."""
    # A reader's source may be a function that returns the real source.
    sources = (image() if callable(image) else image for image in images)
    return np.stack([preprocess(source) for source in sources])


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

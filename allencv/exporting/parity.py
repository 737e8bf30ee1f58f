from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, TypeVar

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.exporting.decisions import Decision, compare_decisions, decisions_of
from allencv.models.image_classifier import ImageClassifier
from allencv.runtime import Classifier
from allencv.runtime.certainty import Certainty
from allencv.runtime.classifier import compare
from allencv.runtime.manifest import Parity
from allencv.runtime.terminal import notice

T = TypeVar("T")

BATCH = 16


@notice("comparing the bundle with the archive")
def compare_with_archive(
    model: ImageClassifier,
    reader: DatasetReader,
    classifier: Classifier,
    thresholds: Optional[List[float]],
    images: Sequence[Any],
    least_agreement: float,
    tolerance: float,
) -> Parity:
    """
    Compare the answers of an archive's validation reader and model with those of the exported
    bundle, on the same images. If both are calibrated, also compare what they decide.

    # Parameters

    thresholds : for several labels an image, those for the probabilities of the network.

    # Raises

    `ConfigurationError` if they differ by more than allowed, and `ImageError` for an image that
    cannot be read.
    """
    expected: List[np.ndarray] = []
    given: List[np.ndarray] = []
    decided: List[Dict[str, Decision]] = []
    decided_by_bundle: List[Dict[str, Decision]] = []
    own, other = model.certainty, classifier.certainty
    for batch in batches(images, BATCH):
        instances = [reader.text_to_instance(image) for image in batch]
        vectors: List[torch.Tensor] = []
        with model.vectors_noted(vectors):
            answers = model.forward_on_instances(instances)
        expected += [answer["probs"] for answer in answers]
        if own is None or other is None:
            given += list(classifier.probabilities(pixels(classifier.preprocess, batch)))
            continue
        rows, their_vectors = classifier.outputs(pixels(classifier.preprocess, batch))
        given += list(rows)
        # The images come before their views.
        own_vectors = vectors[0].float().cpu().numpy()
        decided += _decisions(own, np.stack(expected[-len(batch) :]), own_vectors, thresholds)
        decided_by_bundle += _decisions(other, rows, their_vectors, thresholds)
    agreement, difference = compare(np.stack(expected), np.stack(given), thresholds)
    # Negated like this, as comparisons with nan are False.
    if not (agreement >= least_agreement and difference <= tolerance):
        raise ConfigurationError(
            f"the bundle differs from the archive: of {len(images)} images {agreement:.2%} have "
            f"the same labels (expected at least {least_agreement:.2%}), and probabilities differ "
            f"by up to {difference:.2g} (expected at most {tolerance:g}); nothing was written. "
            "--agreement and --tolerance allow more"
        )
    decisions = None
    if decided:
        decisions, farthest, kind = compare_decisions(decided, decided_by_bundle)
        if farthest > tolerance:
            raise ConfigurationError(
                f"the bundle decides differently from the archive: of {len(images)} images "
                f"{decisions:.2%} have the same decisions, and '{kind}' differs for one that is "
                f"{farthest:.2g} from a limit (expected at most {tolerance:g}); nothing was "
                "written. --tolerance allows more"
            )
    return Parity(len(images), agreement, difference, least_agreement, tolerance, decisions)


def _decisions(
    certainty: Certainty,
    probabilities: np.ndarray,
    vectors: np.ndarray,
    thresholds: Optional[List[float]],
) -> List[Dict[str, Decision]]:
    thresholds = certainty.calibrated_thresholds(thresholds)
    judgements = certainty.judge(probabilities, vectors, thresholds)
    return [decisions_of(certainty, judgement, thresholds) for judgement in judgements]


def pixels(preprocess: Callable[[Any], np.ndarray], images: Sequence[Any]) -> np.ndarray:
    """Return the pixels for a network of images from a reader or a user."""
    # A reader's source may be a function that returns the real source.
    sources = (image() if callable(image) else image for image in images)
    return np.stack([preprocess(source) for source in sources])


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

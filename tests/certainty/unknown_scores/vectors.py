"""Vectors of images of a few labels, and of other images."""

from typing import NamedTuple

import numpy as np

from allencv.certainty.unknown_scores import KnownImages, UnknownScore
from allencv.runtime.certainty import UnknownRule
from tests.certainty.draws import softmax


class Vectors(NamedTuple):
    known: KnownImages
    labels: np.ndarray
    new: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray


def vectors(images: int = 300, labels: int = 4, size: int = 12, seed: int = 0) -> Vectors:
    random = np.random.default_rng(seed)
    means = random.normal(size=(labels, size)) * 2
    targets = np.arange(images) % labels
    # Unequal directions, far from the origin, as those after a ReLU.
    shape = random.normal(size=(size, size))
    given = means[targets] + random.normal(size=(images, size)) @ shape * 0.3 + 5
    weight, bias = random.normal(size=(labels, size)) / size, random.normal(size=labels)
    new = np.concatenate([given[:20] + 0.1, 5 + random.normal(size=(20, size)) * 4])
    logits = new @ weight.T + bias
    known = KnownImages(
        given.astype(np.float32),
        np.eye(labels, dtype=bool)[targets],
        weight.astype(np.float32),
        bias.astype(np.float32),
    )
    new = new.astype(np.float32)
    return Vectors(known, targets, new, logits, softmax(logits).astype(np.float32))


def scored(score: UnknownScore, given: Vectors, multi_label: bool = False) -> np.ndarray:
    rule = UnknownRule(score.kind, 0.0, 0.95, score.fit(given.known))
    found = rule.scores(given.probabilities, given.new, multi_label)
    assert found.dtype == np.float32
    return found

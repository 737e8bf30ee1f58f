"""Finds problems with the images and labels of a dataset from the vectors of its images."""

from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from allencv.data.inspection import CheckedImage
from allencv.data.problems import Problem
from allencv.features.data_vectors import DataVectors
from allencv.features.neighbours import near_copies, normalized
from allencv.features.suspects import (
    LEAST_NEAR,
    find_label_suspects,
    find_outliers,
    held_out_accuracy,
    held_out_probabilities,
    near_copy_threshold,
    nearest_distances,
    why_useless,
    why_without_suspects,
)
from allencv.runtime.plurals import numbered

MOST_IMAGES = 200_000
"""Of more images, the near copies would take hours: each is compared with each."""
MOST_COMPARED = 100
"""The most images of a group whose largest cosine is computed."""


class FeatureFindings(NamedTuple):
    """
    What the vectors show.

    # Parameters

    problems : the most striking of each kind first.
    notes : what was left out, and how far the problems can be trusted.
    """

    problems: List[Problem]
    notes: List[str]


def find_feature_problems(found: DataVectors, known: Sequence[Problem]) -> FeatureFindings:
    """
    Return near copies, images among another label and outliers.

    # Parameters

    found : `DataVectors`, required
    known : `Sequence[Problem]`, required
        The problems of `find_problems`. A group of near copies that they have is not repeated.
    """
    notes = list(_left_out(found))
    if not found.images:
        return FeatureFindings([], notes)
    distances = nearest_distances(found.vectors)
    threshold = near_copy_threshold(distances)
    if threshold > LEAST_NEAR and len(found.images) <= MOST_IMAGES:
        notes.append(
            f"near copies, by features: those with a cosine similarity of {threshold:.4f} or more, "
            f"not {LEAST_NEAR}, because the features of most images are similar"
        )
    copies: List[Problem] = []
    if len(found.images) <= MOST_IMAGES:
        copies = list(_copies(found, known, threshold))
    else:
        notes.append(
            f"near copies, by features: not searched, because there are {len(found.images):,} "
            f"images, more than {MOST_IMAGES:,}"
        )
    problems = [
        *copies,
        *_label_suspects(found, notes),
        *_outliers(found, distances),
    ]
    return FeatureFindings(problems, notes)


def _left_out(found: DataVectors) -> Iterator[str]:
    for image, reason in found.errors:
        yield f"no features of {image.name}: {reason}"
    if found.plain:
        yield f"no features of {numbered(found.plain, 'image')} of one colour"


def _copies(found: DataVectors, known: Sequence[Problem], threshold: float) -> Iterator[Problem]:
    groups_by_pixels = [
        {id(image) for image in problem.images}
        for problem in known
        if problem.kind in ("near_leakage", "near_duplicate")
    ]
    groups = []
    for rows in near_copies(found.vectors, threshold):
        images = tuple(found.images[row] for row in rows)
        if not any({id(image) for image in images} <= group for group in groups_by_pixels):
            groups.append((_largest_cosine(found.vectors[rows]), images))
    groups.sort(key=lambda group: -group[0])
    for cosine, images in groups:
        detail = f"cosine similarity {cosine:.3f}"
        is_leak = len({image.split for image in images}) > 1
        is_contradiction = len({image.labels for image in images} - {None}) > 1
        if is_leak:
            yield Problem("feature_leakage", detail, images)
        if is_contradiction:
            yield Problem("feature_contradiction", detail, images)
        if not is_leak and not is_contradiction:
            yield Problem("feature_duplicate", detail, images)


def _largest_cosine(vectors: np.ndarray) -> float:
    """Return the largest cosine of two of the first images of a group."""
    directions = normalized(vectors[:MOST_COMPARED])
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -1)
    return float(cosines.max())


def _label_suspects(found: DataVectors, notes: List[str]) -> Iterator[Problem]:
    rows, labels, names = _single_labels(found.images)
    several = len(found.images) - len(rows)
    reason = why_without_suspects(labels, len(names))
    if any(len(image.labels or ()) > 1 for image in found.images):
        reason = "images have several labels"
    if reason is not None:
        notes.append(f"images among another label: not searched, because {reason}")
        return
    vectors = found.vectors if not several else found.vectors[rows]
    probs = held_out_probabilities(vectors, labels, len(names))
    reason = why_useless(probs, labels)
    if reason is not None:
        notes.append(f"images among another label: not searched, because {reason}")
        return
    alone = int(np.isnan(probs[:, 0]).sum())
    for count, why in ((several, "without a label"), (alone, "alone in their class")):
        if count:
            notes.append(f"images among another label: {numbered(count, 'image')} {why} left out")
    notes.append(
        f"images among another label: a classifier of the features is right for "
        f"{held_out_accuracy(probs, labels):.1%} of the images that it was not fitted on"
    )
    for suspect in find_label_suspects(probs, labels):
        detail = (
            f"{names[suspect.suggested]} {suspect.other:.0%}, "
            f"{names[suspect.label]} {suspect.own:.0%}"
        )
        yield Problem("label_suspect", detail, (found.images[rows[suspect.row]],))


def _single_labels(images: Sequence[CheckedImage]) -> Tuple[np.ndarray, np.ndarray, List[str]]:
    """Return the rows of the images that have one label, their class indices, and the labels."""
    rows = [row for row, image in enumerate(images) if len(image.labels or ()) == 1]
    texts = [label for row in rows for label in images[row].labels or ()]
    numbers: Dict[str, int] = {label: number for number, label in enumerate(sorted(set(texts)))}
    return np.array(rows, int), np.array([numbers[text] for text in texts], int), list(numbers)


def _outliers(found: DataVectors, distances: np.ndarray) -> Iterator[Problem]:
    means = distances.mean(1) if distances.size else distances
    for row in find_outliers(distances):
        detail = (
            f"cosine distance {means[row]:.2f} to the nearest images; the median is "
            f"{np.median(means):.2f}"
        )
        yield Problem("outlier", detail, (found.images[row],))

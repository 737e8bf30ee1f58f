from typing import List, Optional, Sequence, Tuple

import numpy as np
import pytest

from allencv.data.inspection import CheckedImage, Facts
from allencv.data.problems import KINDS, Problem
from allencv.features import data_problems, suspects
from allencv.features.data_problems import FeatureFindings, find_feature_problems
from allencv.features.data_vectors import DataVectors
from tests.features.clusters import clusters

Labels = Optional[Tuple[str, ...]]


def data(
    vectors: np.ndarray, labels: Sequence[Labels], splits: Optional[Sequence[str]] = None
) -> DataVectors:
    images = [
        CheckedImage(split, row, f"{row}.jpg", names, Facts())
        for row, (names, split) in enumerate(zip(labels, splits or ["train"] * len(labels)))
    ]
    return DataVectors(images, vectors, [], 0)


def found(findings: FeatureFindings) -> List[Tuple[str, List[int]]]:
    return [
        (problem.kind, [image.index for image in problem.images]) for problem in findings.problems
    ]


def apart(images: int) -> np.ndarray:
    """Vectors of which no two are alike."""
    return 5 * np.eye(images, 30, dtype=np.float32) + 1


def test_near_copies() -> None:
    vectors = apart(12)
    vectors[4] = 2 * vectors[0] + 0.2  # nearer than the others
    vectors[5], vectors[6], vectors[11] = vectors[1] + 0.5, vectors[2] + 0.5, vectors[3] + 0.5
    labels: List[Labels] = [(name,) for name in "aabbababababa"][:12]
    splits = ["train"] * 10 + ["test"] * 2
    problems = find_feature_problems(data(vectors, labels, splits), []).problems
    copies = [problem for problem in problems if problem.kind.startswith("feature_")]
    assert [(problem.kind, [image.index for image in problem.images]) for problem in copies] == [
        ("feature_duplicate", [0, 4]),
        ("feature_contradiction", [1, 5]),
        ("feature_contradiction", [2, 6]),
        ("feature_leakage", [3, 11]),
    ]
    cosine = vectors[0] @ vectors[4] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[4])
    assert copies[0].detail == f"cosine similarity {cosine:.3f}"


def test_copies_with_other_labels_in_another_split_are_both() -> None:
    vectors = apart(6)
    vectors[5] = vectors[0] + 0.1
    findings = find_feature_problems(
        data(vectors, [("a",)] * 5 + [("b",)], ["train"] * 5 + ["validation"]), []
    )
    assert ("feature_leakage", [0, 5]) in found(findings)
    assert ("feature_contradiction", [0, 5]) in found(findings)


def test_copies_that_pixels_show_are_not_repeated() -> None:
    vectors = apart(6)
    vectors[5], vectors[4], vectors[3] = vectors[0] + 0.1, vectors[1] + 0.1, vectors[1] + 0.2
    with_vectors = data(vectors, [("a",)] * 6)
    known = [
        Problem("near_duplicate", images=tuple(with_vectors.images[row] for row in group))
        for group in ([0, 5], [1, 4])
    ]
    assert found(find_feature_problems(with_vectors, known)) == [("feature_duplicate", [1, 3, 4])]


def test_wrong_labels_and_outliers() -> None:
    vectors, right = clusters(classes=3, each=40, dim=20, apart=2)
    names = ["ant", "bee", "cat"]
    labels: List[Labels] = [(names[label],) for label in right]
    labels[5] = ("cat",)
    vectors[90] = -vectors[90]
    findings = find_feature_problems(data(vectors, labels), [])
    suspects = {
        each.images[0].index: each.detail
        for each in findings.problems
        if each.kind == "label_suspect"
    }
    assert set(suspects) <= {5, 90}
    first, second = suspects[5].split(", ")
    assert first.startswith("ant ")
    assert second.startswith("cat ")
    assert float(first[4:-1]) > float(second[4:-1])
    assert ("outlier", [90]) in found(findings)
    assert findings.notes[-1].startswith(
        "images among another label: a classifier of the features is right for"
    )


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([("a",), ("b",), ("a", "b")] * 10, "images have several labels"),
        ([("a",)] * 30, "there are fewer than two classes"),
        ([None] * 30, "there are fewer than two classes"),
        ([(str(number),) for number in range(30)], "no class has two images"),
    ],
)
def test_labels_that_are_not_judged(labels: List[Labels], reason: str) -> None:
    vectors = apart(30)
    vectors[9] = -vectors[9]
    findings = find_feature_problems(data(vectors, labels), [])
    assert findings.notes[-1] == f"images among another label: not searched, because {reason}"
    assert found(findings) == [("outlier", [9])]


def test_too_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_problems, "MOST_IMAGES", 29)
    vectors = apart(30)
    vectors[5] = vectors[0]
    findings = find_feature_problems(data(vectors, [("a",)] * 30), [])
    assert "feature_duplicate" not in [kind for kind, _ in found(findings)]
    assert findings.notes[0] == (
        "near copies, by features: not searched, because there are 30 images, more than 29"
    )


def test_too_many_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "MOST_CLASSES", 2)
    vectors, right = clusters(classes=3, each=10, dim=20)
    findings = find_feature_problems(data(vectors, [(str(label),) for label in right]), [])
    assert findings.notes[-1].endswith("not searched, because there are 3 classes, more than 2")


def test_features_that_do_not_separate_the_labels() -> None:
    vectors, _ = clusters(classes=1, each=100, dim=5)
    labels: List[Labels] = [("b" if row % 4 else "a",) for row in range(100)]
    findings = find_feature_problems(data(vectors, labels), [])
    assert "label_suspect" not in [kind for kind, _ in found(findings)]
    assert "the largest class has 75%" in findings.notes[-1]


def test_images_that_are_left_out_are_said() -> None:
    vectors, right = clusters(classes=3, each=10, dim=20, apart=2)
    labels: List[Labels] = [(str(label),) for label in right]
    labels[0], labels[1] = None, ("alone",)
    with_vectors = data(vectors, labels)
    broken = CheckedImage("test", 3, "odd.jpg", None, Facts())
    notes = find_feature_problems(
        with_vectors._replace(errors=[(broken, "it is too small")], plain=2), []
    ).notes
    assert [note for note in notes if not note.startswith("near")][:4] == [
        "no features of odd.jpg: it is too small",
        "no features of 2 images of one colour",
        "images among another label: 1 image without a label left out",
        "images among another label: 1 image alone in their class left out",
    ]


def test_similar_features_raise_the_threshold() -> None:
    vectors, right = clusters(classes=4, each=100, dim=20, apart=8)
    vectors[7] = 1.02 * vectors[3]
    findings = find_feature_problems(data(vectors, [(str(label),) for label in right]), [])
    assert ("feature_duplicate", [3, 7]) in found(findings)
    assert "near copies, by features: those with a cosine similarity of 0.99" in findings.notes[0]


def test_no_images() -> None:
    empty = DataVectors([], np.empty((0, 4), np.float32), [], 0)
    assert find_feature_problems(empty, []) == FeatureFindings([], [])


def test_no_kind_fails_the_command() -> None:
    kinds = [kind for kind in KINDS if kind.startswith("feature_")] + ["label_suspect", "outlier"]
    assert len(kinds) == 5
    assert not any(KINDS[kind].is_fatal for kind in kinds)

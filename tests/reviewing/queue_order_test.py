from typing import List

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances

from allencv.reviewing import queue_order
from allencv.reviewing.queue_order import (
    diverse_by_margin,
    find_label_errors,
    find_multilabel_errors,
    find_unlike,
    margins,
    teaching_order,
)
from tests.features.clusters import clusters


def test_margins() -> None:
    probs = np.array([[0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [0.2, 0.4, 0.4]])
    assert margins(probs) == pytest.approx([0.1, 0.7, 0])
    # The distances from the thresholds are (0.2, 0.1, 0.1), (0.2, 0.4, 0.6) and (0.1, 0.1, 0.2).
    assert margins(probs, [0.3, 0.5, 0.2]) == pytest.approx([0.1, 0.2, 0.1])
    assert margins(np.array([[0.9], [0.2]])) == pytest.approx([0.9, 0.2])


def reference(values: np.ndarray, vectors: np.ndarray, window: int, batch: int) -> List[int]:
    """The order as its description says it, with the distances of all pairs."""
    distances = pairwise_distances(vectors, metric="cosine")
    left = sorted(range(len(values)), key=lambda row: values[row])
    chosen: List[int] = []
    while left:
        candidates = left[:window]
        for _ in range(min(batch, len(candidates))):
            best = candidates[0]
            if chosen:
                best = max(candidates, key=lambda row: distances[row, chosen].min())
            chosen.append(best)
            candidates.remove(best)
            left.remove(best)
    return chosen


@pytest.mark.parametrize(("images", "window", "batch"), [(400, 100, 10), (1200, 250, 25)])
def test_the_diverse_order_is_that_of_the_definition(images: int, window: int, batch: int) -> None:
    random = np.random.default_rng(0)
    values, vectors = random.random(images), random.normal(size=(images, 8)).astype(np.float32)
    assert diverse_by_margin(values, vectors) == reference(values, vectors, window, batch)


@pytest.mark.parametrize("images", [1, 2, 7, 41])
def test_few_images(images: int) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(images, 3)).astype(np.float16)
    assert sorted(diverse_by_margin(random.random(images), vectors)) == list(range(images))


def test_copies_do_not_follow_each_other() -> None:
    """Half of the unsure images are copies of one; a list by margin would show them first."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(400, 8)).astype(np.float32)
    vectors[:50] = vectors[0]
    values = np.r_[np.full(50, 0.01), np.full(50, 0.02), np.full(300, 0.9)]
    order = diverse_by_margin(values, vectors)
    # 10 of the 100 least sure are chosen at a time.
    assert sum(row < 50 for row in order[:10]) == 1
    assert all(row < 100 for row in order[:10])


def test_the_rest_is_in_the_order_of_the_margins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_order, "MOST_DIVERSE", 20)
    random = np.random.default_rng(0)
    values = random.random(100)
    order = diverse_by_margin(values, random.normal(size=(100, 4)).astype(np.float32))
    assert sorted(order) == list(range(100))
    rest = values[order[20:]]
    assert (np.diff(rest) >= 0).all()


def test_unlike_images() -> None:
    labelled, _ = clusters(classes=1, each=200, dim=10, seed=0)
    unlabelled, _ = clusters(classes=1, each=100, dim=10, seed=1)
    unlabelled[7] = np.eye(10)[0] * 50
    unlabelled[40:] *= 3  # the length says nothing
    for found in (find_unlike(unlabelled, labelled), find_unlike(unlabelled)):
        assert found[0] == 7
        assert len(found) < 3
    # Most are unlike; they are still found by comparison with the labelled ones.
    far = np.eye(10, dtype=np.float32)[np.zeros(80, int)]
    assert find_unlike(np.concatenate([unlabelled[:7], far]), labelled) == list(range(7, 87))


def test_unlike_images_at_every_fifth_place() -> None:
    random = np.random.default_rng(0)
    values, vectors = random.random(40), random.normal(size=(40, 4)).astype(np.float32)
    unlike = [3, 17, 5]
    order = teaching_order(values, vectors, unlike)
    assert [order[place] for place in (4, 9, 14)] == unlike
    others = [row for row in order if row not in unlike]
    assert others == [row for row in diverse_by_margin(values, vectors) if row not in unlike]
    assert sorted(teaching_order(values, vectors, list(range(40)))) == list(range(40))
    assert teaching_order(values[:0], vectors[:0], []) == []


def test_wrong_labels_come_first() -> None:
    vectors, right = clusters(classes=4, each=60, dim=20, apart=2)
    random = np.random.default_rng(0)
    rows = random.permutation(len(right))[:24]
    labels = right.copy()
    labels[rows] = (labels[rows] + random.integers(1, 4, len(rows))) % 4
    found = find_label_errors(vectors, labels, 4)
    assert found.note is None
    first = [error.row for error in found.errors[:24]]
    assert len(set(first) & set(rows.tolist())) >= 22
    suggestions = [error.suggestion[0] for error in found.errors if error.row in set(rows.tolist())]
    truth = [right[error.row] for error in found.errors if error.row in set(rows.tolist())]
    assert suggestions == truth
    own = found.probs[[error.row for error in found.errors], labels[[e.row for e in found.errors]]]
    assert (np.diff(own) >= 0).all()


def test_labels_that_cannot_be_judged() -> None:
    vectors, _ = clusters(classes=1, each=3, dim=5)
    assert find_label_errors(vectors, np.arange(3), 3).note == "no class has two images"
    assert (
        find_label_errors(vectors, np.zeros(3, int), 1).note == "there are fewer than two classes"
    )


def test_wrong_labels_among_several() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(300, 6))
    truth = np.stack([vectors[:, 0] > 0, vectors[:, 1] > 0.5], axis=1)
    given = truth.copy()
    given[:10, 0] ^= True
    probs = np.stack(
        [
            LogisticRegression(C=100).fit(vectors, truth[:, k]).predict_proba(vectors)[:, 1]
            for k in range(2)
        ],
        axis=1,
    )
    errors = find_multilabel_errors(probs, given)
    sure = {row for row in range(10) if abs(vectors[row, 0]) > 0.3}
    assert sure <= {error.row for error in errors}
    for error in errors[: len(sure)]:
        assert error.suggestion == np.flatnonzero(truth[error.row]).tolist()

import numpy as np
import pytest

from allencv.predictions.label_errors import confident_learning


def test_errors_worked_out_by_hand() -> None:
    probs = np.array(
        [
            [0.9, 0.1],  # the threshold of class 0 is the mean of 0.9, 0.7, 0.2
            [0.7, 0.3],
            [0.2, 0.8],
            [0.1, 0.9],  # of class 1: of 0.9, 0.7, 0.35
            [0.3, 0.7],
            [0.65, 0.35],
            [np.nan, np.nan],
        ]
    )
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    assert confident_learning(probs, labels) == [(2, 1), (5, 0)]
    # Image 4 counts as class 0, but class 1 is less probable for image 5, which does not count.
    probs[4:6] = [[0.65, 0.35], [0.55, 0.2]]
    assert confident_learning(probs, labels) == [(2, 1), (5, 0)]
    # 0.55 does not reach the threshold of class 0, 0.6.
    probs[4:6] = [[0.3, 0.7], [0.55, 0.45]]
    assert confident_learning(probs, labels) == [(2, 1)]


def test_errors_are_those_of_cleanlab() -> None:
    filters, count = map(pytest.importorskip, ("cleanlab.filter", "cleanlab.count"))
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(4) / 2, 500)
    labels = np.where(random.random(500) < 0.3, random.integers(0, 4, 500), probs.argmax(1))
    joint = count.compute_confident_joint(labels, probs, calibrate=False)
    np.fill_diagonal(joint, 0)
    # Images that count as no label stay with their own.
    joint += np.diag(np.bincount(labels) - joint.sum(1))
    expected = filters.find_label_issues(
        labels,
        probs,
        filter_by="prune_by_class",
        confident_joint=joint,
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    assert len(expected) > 50
    assert [row for row, _ in confident_learning(probs, labels)] == expected.tolist()


def test_a_label_that_no_image_has_is_not_suggested() -> None:
    probs = np.array([[0.4, 0.1, 0.5], [0.3, 0.2, 0.5], [0.1, 0.3, 0.6], [0.1, 0.2, 0.7]])
    labels = np.array([0, 0, 0, 1])
    # Thresholds: 0.27 of label 0, 0.2 of label 1. Image 2 counts as label 1.
    assert confident_learning(probs, labels) == [(2, 1)]

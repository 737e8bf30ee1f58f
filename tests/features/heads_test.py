from typing import List

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from allencv.features import heads
from allencv.features.folds import choose_folds
from allencv.features.heads import (
    DEFAULT_STRENGTHS,
    STRENGTHS,
    LinearHead,
    choose_strength,
    fit_head,
    log_losses,
)
from allencv.features.logistic_regression import find_scale
from allencv.runtime.errors import InputError
from tests.features.clusters import clusters

KINDS = list(STRENGTHS)


def coordinates_of(vectors: np.ndarray) -> np.ndarray:
    return find_scale(vectors).apply(vectors)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 4])
def test_heads_learn(kind: str, classes: int) -> None:
    vectors, labels = clusters(classes=classes, each=30, dim=20)
    others, truth = clusters(classes=classes, each=50, dim=20, seed=1)
    head = fit_head(kind, vectors, labels, classes)
    scores = head.scores(others)
    assert scores.shape == (50 * classes, classes)
    assert (head.kind, scores.dtype) == (kind, np.float32)
    assert (scores.argmax(1) == truth).mean() > 0.9
    assert log_losses(scores, truth).mean() < 0.5 * np.log(classes)


def test_nearest_class_mean_is_the_cosine_to_the_means() -> None:
    vectors, labels = clusters(classes=3, each=10, dim=6)
    head = fit_head("nearest_class_mean", vectors, labels, 3, strength=5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    means = np.stack([unit[labels == label].mean(0) for label in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = 5 * (unit @ means.T) * length / length.mean()
    np.testing.assert_allclose(head.scores(vectors), expected, rtol=1e-5)


def test_neighbours_vote_as_those_of_scikit_learn() -> None:
    vectors, labels = clusters(classes=3, each=20, dim=6)
    queries, _ = clusters(classes=3, each=20, dim=6, seed=1)
    head = fit_head("k_nearest_neighbours", vectors, labels, 3, strength=5)
    probs = softmax(head.scores(queries), axis=1)

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp((distances[:, :1] - distances) / 0.07)

    model = KNeighborsClassifier(5, metric="cosine", weights=weights).fit(vectors, labels)
    total = weights(model.kneighbors(queries)[0]).sum(1, keepdims=True)
    votes = model.predict_proba(queries) * total + 1 / 3
    np.testing.assert_allclose(probs, votes / (total + 1), atol=1e-5)


def test_more_neighbours_than_images() -> None:
    vectors, labels = clusters(classes=2, each=3, dim=4)
    scores = fit_head("k_nearest_neighbours", vectors, labels, 2, strength=50).scores(vectors)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("apart", [0.3, 0.5])
def test_strength_is_the_strongest_within_one_standard_error(apart: float) -> None:
    """Compares with scikit-learn, on the same folds."""
    vectors, labels = clusters(classes=4, each=30, dim=20, apart=apart)
    scaled = (vectors - vectors.mean(0)) / np.sqrt(vectors.var(0).mean())
    losses = []
    for strength in STRENGTHS["logistic_regression"]:
        model = LogisticRegression(C=strength, max_iter=1000)
        folds = PredefinedSplit(choose_folds(labels))
        probs = cross_val_predict(model, scaled, labels, cv=folds, method="predict_proba")
        losses.append(-np.log(probs[np.arange(120), labels]))
    means = np.mean(losses, axis=1)
    best = int(means.argmin())
    limit = means[best] + np.std(losses[best]) / np.sqrt(120)
    place = int(np.flatnonzero(means <= limit)[0])
    assert 0 < place < best
    found = choose_strength("logistic_regression", coordinates_of(vectors), labels, 4)
    assert found == STRENGTHS["logistic_regression"][place]
    found = choose_strength("logistic_regression", coordinates_of(vectors), labels, 4, 0)
    assert found == STRENGTHS["logistic_regression"][best]


def test_strength_of_the_other_kinds_has_the_smallest_loss() -> None:
    vectors, labels = clusters(classes=3, each=30, dim=20, apart=0.5)
    folds = choose_folds(labels)
    for kind in ("nearest_class_mean", "k_nearest_neighbours"):
        losses = []
        for strength in STRENGTHS[kind]:
            parts = []
            for fold in range(5):
                train, held_out = folds != fold, folds == fold
                head = fit_head(kind, vectors[train], labels[train], 3, strength)
                parts.append(log_loss(labels[held_out], softmax(head.scores(vectors[held_out]), 1)))
            losses.append(np.mean(parts))
        expected = STRENGTHS[kind][int(np.argmin(losses))]
        assert STRENGTHS[kind][0] < expected < STRENGTHS[kind][-1]
        assert choose_strength(kind, vectors, labels, 3) == expected


def test_strength_depends_on_the_noise() -> None:
    chosen: List[float] = []
    for apart in (0.2, 2):
        vectors, labels = clusters(classes=3, each=40, dim=10, apart=apart)
        chosen.append(choose_strength("logistic_regression", coordinates_of(vectors), labels, 3))
    assert chosen[0] < chosen[1]


def test_many_images_are_held_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = clusters(classes=2, each=50, dim=4)
    monkeypatch.setattr(heads, "HELD_OUT", 20)
    sizes = []
    losses = heads._losses_of_strengths

    def record(*args: object) -> np.ndarray:
        sizes.append(len(args[-1]))  # type: ignore[arg-type]
        return losses(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(heads, "_losses_of_strengths", record)
    choose_strength("nearest_class_mean", vectors, labels, 2)
    assert sizes == [20]
    monkeypatch.setattr(heads, "HELD_OUT", 15)
    choose_strength("nearest_class_mean", vectors, labels, 2)
    assert sizes == [20, 15]


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_of_each_class(kind: str) -> None:
    vectors, labels = clusters(classes=3, each=1, dim=10)
    head = fit_head(kind, vectors, labels, 3)
    assert head.strength == DEFAULT_STRENGTHS[kind]
    assert head.scores(vectors).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_of_one_class(kind: str) -> None:
    vectors, labels = clusters(classes=3, each=10, dim=10, apart=2)
    head = fit_head(kind, vectors[9:], labels[9:], 3)
    assert np.isfinite(head.scores(vectors)).all()


def test_several_labels() -> None:
    vectors, groups = clusters(classes=4, each=15, dim=12, apart=2)
    labels = np.stack([groups == 0, groups >= 2, groups < 9], axis=1).astype(int)
    head = fit_head("logistic_regression", vectors, labels, 3)
    assert isinstance(head, LinearHead)
    assert ((head.scores(vectors) > 0) == labels).mean() > 0.98
    assert log_losses(head.scores(vectors), labels) == pytest.approx(
        [
            sum(log_loss([t], [p], labels=[0, 1]) for t, p in zip(truth, probs))
            for truth, probs in zip(labels, 1 / (1 + np.exp(-head.scores(vectors).astype(float))))
        ],
        abs=1e-4,
    )
    with pytest.raises(InputError, match="expected logistic_regression, as images have several"):
        fit_head("nearest_class_mean", vectors, labels, 3)


def test_bad_inputs() -> None:
    vectors, labels = clusters(classes=3, each=4, dim=4)
    with pytest.raises(InputError, match="kind of head is 'svm'; expected logistic_regression or"):
        fit_head("svm", vectors, labels, 3)
    with pytest.raises(InputError, match="class 3 has no image"):
        fit_head("nearest_class_mean", vectors, labels, 4)
    with pytest.raises(InputError, match="all 12 vectors are equal; expected vectors that differ"):
        fit_head("logistic_regression", np.ones((12, 4)), labels, 3)
    with pytest.raises(InputError, match="strength of logistic_regression is 0; expected"):
        fit_head("logistic_regression", vectors, labels, 3, strength=0)
    vectors[5, 1] = np.inf
    with pytest.raises(InputError, match="vector 5 contains NaN or infinity"):
        fit_head("k_nearest_neighbours", vectors, labels, 3)

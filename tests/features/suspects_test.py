import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances

from allencv.features import suspects
from allencv.features.folds import choose_folds
from allencv.features.heads import choose_strength
from allencv.features.logistic_regression import find_scale, fit_logistic_regressions
from allencv.features.suspects import (
    LEAST_NEAR,
    find_label_suspects,
    find_outliers,
    held_out_probabilities,
    map_in_two_dimensions,
    near_copy_threshold,
    nearest_distances,
    sample_rows,
)
from allencv.runtime.errors import InputError
from tests.features.clusters import clusters


def test_distances_are_those_of_brute_force() -> None:
    vectors, _ = clusters(classes=3, each=8, dim=5)
    found = nearest_distances(vectors, neighbours=4)
    distances = cosine_distances(vectors.astype(np.float64))
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(found, np.sort(distances)[:, :4], atol=1e-6)


def test_each_of_many_images_is_compared_with_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "LARGEST_SAMPLE", 9)
    vectors, _ = clusters(classes=3, each=8, dim=5)
    distances = cosine_distances(vectors.astype(np.float64))
    np.fill_diagonal(distances, np.inf)
    expected = np.sort(distances[:, sample_rows(24, 9)])[:, :4]
    np.testing.assert_allclose(nearest_distances(vectors, neighbours=4), expected, atol=1e-6)


def test_a_sample_is_drawn_once() -> None:
    rows = sample_rows(100, 30)
    assert len(set(rows.tolist())) == 30
    assert rows.tolist() == sorted(rows.tolist()) == sample_rows(100, 30).tolist()
    assert sample_rows(30, 30).tolist() == list(range(30))


def test_more_neighbours_than_images() -> None:
    vectors, _ = clusters(classes=2, each=3, dim=5)
    assert nearest_distances(vectors, neighbours=50).shape == (6, 5)
    assert nearest_distances(vectors[:1]).shape == (1, 0)
    assert find_outliers(nearest_distances(vectors[:1])) == []


def test_planted_outliers_are_found() -> None:
    vectors, _ = clusters(classes=3, each=60, dim=20, apart=2)
    vectors[7] = -vectors[7]
    vectors[100] = vectors[100, ::-1] * (-1) ** np.arange(20)
    distances = nearest_distances(vectors)
    assert set(find_outliers(distances)) == {7, 100}
    assert find_outliers(distances)[0] == distances.mean(1).argmax()


def test_equal_vectors_have_no_outliers() -> None:
    assert find_outliers(nearest_distances(np.ones((30, 4)) / 3)) == []


def test_the_threshold_of_near_copies_worked_out_by_hand() -> None:
    distances = np.full((5, 10), 0.3)
    # The quartiles are 0.2 and 0.4: 3 interquartile ranges are a factor of 8, so 0.2 / 8.
    distances[:, -1] = 0.1, 0.2, 0.3, 0.4, 0.5
    assert near_copy_threshold(distances) == pytest.approx(1 - 0.025)
    distances[:, -1] = 0.4  # no more than this, as all are equal
    assert near_copy_threshold(distances) == LEAST_NEAR
    assert near_copy_threshold(distances[:, :9]) == LEAST_NEAR


def test_near_copies_among_similar_images() -> None:
    """As of a network that was trained on the labels: those of a class are nearly equal."""
    vectors, _ = clusters(classes=4, each=100, dim=20, apart=8)
    vectors[7] = 1.02 * vectors[3]
    pairs = np.triu(1 - cosine_distances(vectors), 1)
    assert (pairs >= LEAST_NEAR).sum() > 10_000
    threshold = near_copy_threshold(nearest_distances(vectors))
    assert np.argwhere(pairs >= threshold).tolist() == [[3, 7]]


def test_held_out_probabilities_are_those_of_scikit_learn() -> None:
    vectors, labels = clusters(classes=3, each=20, dim=10)
    probs = held_out_probabilities(vectors, labels, 3)
    scaled = (vectors.astype(np.float64) - vectors.mean(0)) / np.sqrt(vectors.var(0).mean())
    float32 = find_scale(vectors).apply(vectors)
    strength = choose_strength("logistic_regression", float32, labels, 3, standard_errors=0)
    folds = choose_folds(labels)
    for fold in range(5):
        model = LogisticRegression(C=strength, tol=1e-8, max_iter=1000)
        model.fit(scaled[folds != fold], labels[folds != fold])
        expected = model.predict_proba(scaled[folds == fold])
        np.testing.assert_allclose(probs[folds == fold], expected, atol=0.02)


def test_regressions_of_many_images_are_fitted_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "LARGEST_SAMPLE", 60)
    monkeypatch.setattr(suspects, "BLOCK", 7)
    vectors, labels = clusters(classes=3, each=100, dim=10, apart=2)
    labels[:97] = 1  # 3, 197 and 100 images
    sizes = []

    def fitted(scaled: np.ndarray, chosen: np.ndarray, *arguments: Any, **options: Any) -> Any:
        sizes.append(np.bincount(chosen).tolist())
        return fit_logistic_regressions(scaled, chosen, *arguments, **options)

    monkeypatch.setattr(suspects, "fit_logistic_regressions", fitted)
    probs = held_out_probabilities(vectors, labels, 3)
    assert [sum(each) for each in sizes] == [60] * 5
    assert all(2 <= rare <= 3 and abs(first - second) <= 2 for rare, first, second in sizes)
    assert not np.isnan(probs).any()
    assert (probs.argmax(1) == labels)[97:].mean() > 0.9


def test_planted_wrong_labels_are_found() -> None:
    vectors, right = clusters(classes=4, each=100, dim=20, apart=1)
    random = np.random.default_rng(0)
    wrong = random.permutation(400)[:20]  # 5 %
    labels = right.copy()
    labels[wrong] = (right[wrong] + random.integers(1, 4, 20)) % 4
    found = find_label_suspects(held_out_probabilities(vectors, labels, 4), labels)
    rows = {each.row for each in found}
    assert len(rows & set(wrong)) >= 18
    assert len(rows - set(wrong)) <= 4
    assert [each.own for each in found] == sorted(each.own for each in found)
    for each in found:
        assert each.label == labels[each.row]
        assert each.other > each.own
        if each.row in wrong:
            assert each.suggested == right[each.row]


def test_image_alone_in_its_class_is_no_suspect() -> None:
    vectors, labels = clusters(classes=3, each=10, dim=8)
    found = held_out_probabilities(vectors[9:], labels[9:], 3)
    assert np.isnan(found).all(1).tolist() == [True] + [False] * 20
    assert 0 not in [each.row for each in find_label_suspects(found, labels[9:])]


def test_bad_inputs() -> None:
    vectors, labels = clusters(classes=3, each=5, dim=4)
    with pytest.raises(InputError, match="class 3 has no image"):
        held_out_probabilities(vectors, labels, 4)
    with pytest.raises(InputError, match="vector 0 contains NaN"):
        nearest_distances(vectors * np.nan)
    with pytest.raises(InputError, match="method of the map is 'tsne'; expected 'umap' or 'pca'"):
        map_in_two_dimensions(vectors, "tsne")
    with pytest.raises(InputError, match="there are 15 labels for 14 vectors"):
        held_out_probabilities(vectors[1:], labels, 3)


@pytest.mark.parametrize("dim", [2, 10])
def test_map_of_principal_components(dim: int) -> None:
    vectors, _ = clusters(classes=3, each=10, dim=dim)
    points, method = map_in_two_dimensions(vectors, "pca")
    assert method == "pca"
    expected = PCA(2).fit_transform(vectors)
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-4)


def test_maps_of_few_vectors() -> None:
    for vectors in (np.ones((5, 3)), np.ones((1, 3)), np.ones((4, 1))):
        points, _ = map_in_two_dimensions(vectors)
        assert points.shape == (len(vectors), 2)
        assert not points.any()


@pytest.mark.slow
def test_umap_keeps_clusters_apart() -> None:
    pytest.importorskip("umap")
    vectors, labels = clusters(classes=3, each=30, dim=20)
    points, method = map_in_two_dimensions(vectors)
    assert (points.shape, method) == ((90, 2), "umap")
    distances = euclidean_distances(points)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).all()
    np.testing.assert_array_equal(map_in_two_dimensions(vectors)[0], points)


def test_map_takes_umap_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Umap:
        def __init__(self, **arguments: object) -> None:
            assert arguments["metric"] == "cosine"

        def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
            return vectors[:, :2] + 1

    spec = SimpleNamespace(name="umap")
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap, __spec__=spec))
    vectors, _ = clusters(classes=2, each=10, dim=4)
    points, method = map_in_two_dimensions(vectors)
    assert method == "umap"
    np.testing.assert_array_equal(points, vectors[:, :2] + 1)
    assert map_in_two_dimensions(vectors[:10])[1] == "pca"

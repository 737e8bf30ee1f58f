from pathlib import Path
from typing import List

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from allencv.features import neighbours
from allencv.features.neighbours import near_copies, nearest, normalized
from allencv.runtime.errors import InputError
from tests.features.clusters import clusters


@pytest.fixture(params=[7, 4096])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that the vectors fill several times, and one that holds them all."""
    monkeypatch.setattr(neighbours, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("count", [1, 4, 20])
def test_nearest_are_those_of_scikit_learn(count: int) -> None:
    vectors, _ = clusters(classes=3, each=20, dim=16)
    queries = vectors[:11] + 0.1
    rows, cosines = nearest(queries, vectors, count)
    model = NearestNeighbors(n_neighbors=count, metric="cosine").fit(vectors)
    distances, expected = model.kneighbors(queries)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(1 - cosines, distances, atol=1e-6)


@pytest.mark.usefixtures("block")
def test_an_image_is_not_its_own_neighbour() -> None:
    vectors, _ = clusters(classes=2, each=10, dim=8)
    vectors[3] = vectors[15]
    rows, cosines = nearest(vectors[[15, 3]], vectors, 30, own_rows=np.array([15, 3]))
    assert rows.shape == (2, 19)
    assert [sorted(each) for each in rows.tolist()] == [
        [row for row in range(20) if row != own] for own in (15, 3)
    ]
    assert rows[:, 0].tolist() == [3, 15]
    assert cosines[:, 0] == pytest.approx([1, 1])


def test_memory_mapped_halves(tmp_path: Path) -> None:
    vectors, _ = clusters(classes=2, each=10, dim=8)
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float16))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    rows, _ = nearest(mapped, mapped, 1)
    assert rows[:, 0].tolist() == list(range(20))


def test_zeros_are_similar_to_nothing() -> None:
    _, cosines = nearest(np.zeros((1, 4)), np.eye(4), 4)
    assert not cosines.any()


def test_large_and_small_numbers() -> None:
    vectors = np.array([[3e30, 4e30], [3e-30, 4e-30]], np.float32)
    np.testing.assert_allclose(normalized(vectors), [[0.6, 0.8]] * 2, rtol=1e-6)


def test_bad_inputs() -> None:
    vectors = np.ones((3, 2))
    with pytest.raises(InputError, match="number of neighbours is 0; expected 1 or more"):
        nearest(vectors, vectors, 0)
    with pytest.raises(InputError, match=r"queries have the shape \(3, 5\).*same number"):
        nearest(np.ones((3, 5)), vectors, 1)
    with pytest.raises(InputError, match="vector 0 contains NaN"):
        nearest(vectors * np.nan, vectors, 1)
    with pytest.raises(InputError, match=r"the vectors have the shape \(0, 2\)"):
        nearest(vectors, vectors[:0], 1)
    for threshold in (0, 1.01, np.nan):
        with pytest.raises(InputError, match="threshold is .*; expected above 0, at most 1"):
            near_copies(vectors, threshold)


def groups_by_brute_force(vectors: np.ndarray, threshold: float) -> List[List[int]]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    _, numbers = connected_components(unit @ unit.T >= threshold)
    groups = [np.flatnonzero(numbers == number).tolist() for number in np.unique(numbers)]
    return [group for group in groups if len(group) > 1]


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("directions", [2, 128])
@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.97])
def test_near_copies_are_those_of_brute_force(
    threshold: float, directions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "DIRECTIONS", directions)
    vectors, _ = clusters(classes=4, each=25, dim=30)
    vectors[60] = 2 * vectors[3] + 0.01
    vectors[99] = vectors[60]
    expected = groups_by_brute_force(vectors.astype(np.float64), threshold)
    assert [3, 60, 99] in expected or threshold < 0.97
    assert near_copies(vectors, threshold) == expected


def test_equal_vectors_are_one_group() -> None:
    assert near_copies(np.ones((50, 3)), 1.0) == [list(range(50))]
    assert near_copies(np.zeros((5, 3)), 0.9) == []
    assert near_copies(np.ones((1, 3)), 0.9) == []

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import expit, logsumexp, softmax

from allencv.runtime.certainty import UnknownRule
from allencv.runtime.certainty.unknown_rule import FEW_VECTORS, ONE_THREAD, products, unit

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(50, 8)).astype(np.float32)
WEIGHT = RANDOM.normal(size=(5, 8)).astype(np.float32)
BIAS = RANDOM.normal(size=5).astype(np.float32)
LOGITS = VECTORS.astype(np.float64) @ WEIGHT.T + BIAS


def scores(kind: str, multi_label: bool = False, **arrays: Any) -> np.ndarray:
    activation = expit(LOGITS) if multi_label else softmax(LOGITS, axis=1)
    rule = UnknownRule(kind, 0.0, 0.95, arrays)
    given = rule.scores(activation.astype(np.float32), VECTORS, multi_label)
    assert (given.dtype, given.shape) == (np.float32, (50,))
    return given


def test_the_highest_probability() -> None:
    expected = 1 - softmax(LOGITS, axis=1).max(axis=1)
    np.testing.assert_allclose(scores("max_probability"), expected, atol=1e-6)
    expected = (1 - np.maximum(expit(LOGITS), 1 - expit(LOGITS))).max(axis=1)
    np.testing.assert_allclose(scores("max_probability", True), expected, atol=1e-6)


def test_the_energy() -> None:
    given = scores("energy", weight=WEIGHT, bias=BIAS)
    np.testing.assert_allclose(given, -logsumexp(LOGITS, axis=1), rtol=1e-5, atol=1e-5)
    given = scores("energy", True, weight=WEIGHT, bias=BIAS)
    np.testing.assert_allclose(given, -np.log1p(np.exp(LOGITS)).sum(axis=1), rtol=1e-5)


def test_the_mahalanobis_distance() -> None:
    means = RANDOM.normal(size=(5, 8))
    factor = RANDOM.normal(size=(8, 8))
    covariance = factor @ factor.T + np.eye(8)
    values, directions = np.linalg.eigh(covariance)
    whitening = directions / np.sqrt(values)
    centre = RANDOM.normal(size=8)
    whitened = (means - centre) @ whitening
    given = scores("mahalanobis", centre=centre, means=whitened, whitening=whitening)
    distances = cdist(VECTORS, means, "mahalanobis", VI=np.linalg.inv(covariance))
    np.testing.assert_allclose(given, 0.5 * distances.min(axis=1) ** 2, rtol=1e-4)


@pytest.mark.parametrize("neighbour", [1, 3, 20])
def test_the_distance_to_a_neighbour(neighbour: int) -> None:
    kept = unit(RANDOM.normal(size=(20, 8)).astype(np.float32)).astype(np.float16)
    given = scores("nearest", kept=kept, neighbour=np.array(neighbour))
    distances = np.sort(cdist(unit(VECTORS), kept.astype(np.float64)), axis=1)
    np.testing.assert_allclose(given, distances[:, neighbour - 1], atol=2e-3)


def test_kept_vectors_are_converted_once() -> None:
    rule = UnknownRule(
        "nearest", 0.0, 0.95, {"kept": np.eye(8, dtype=np.float16), "neighbour": np.array(1)}
    )
    assert rule._prepared is rule._prepared
    assert rule._prepared["kept"].dtype == np.float32
    assert rule._prepared["neighbour"].dtype == rule.arrays["neighbour"].dtype


def test_zeros_have_no_direction() -> None:
    assert unit(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]
    assert np.linalg.norm(unit(VECTORS), axis=1) == pytest.approx(1)


@pytest.mark.parametrize("count", [0, 1, 7, FEW_VECTORS, FEW_VECTORS + 1])
@pytest.mark.parametrize("rows", [1, 300])
def test_products_in_pieces_are_the_whole_product(count: int, rows: int) -> None:
    left = RANDOM.normal(size=(count, 1280)).astype(np.float32)
    right = RANDOM.normal(size=(rows, 1280)).astype(np.float32)
    given = products(left, right)
    assert given.shape == (count, rows)
    np.testing.assert_allclose(given, left @ right.T, rtol=1e-4, atol=1e-4)


def test_a_row_may_be_longer_than_a_piece() -> None:
    left = np.ones((1, ONE_THREAD + 1), np.float32)
    assert products(left, np.ones((2, ONE_THREAD + 1), np.float32)).tolist() == [
        [ONE_THREAD + 1] * 2
    ]

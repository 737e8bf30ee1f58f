import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from allencv.features.logistic_regression import (
    Linear,
    find_scale,
    fit_logistic_regressions,
)
from tests.features.clusters import clusters


def standardized(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return (vectors - vectors.mean(0)) / np.sqrt(vectors.var(0).mean())


def logits_of_scikit_learn(vectors: np.ndarray, labels: np.ndarray, strength: float) -> np.ndarray:
    model = LogisticRegression(C=strength, tol=1e-9, max_iter=5000)
    return model.fit(standardized(vectors), labels).decision_function(standardized(vectors))


def fitted(vectors: np.ndarray, labels: np.ndarray, classes: int, strength: float) -> Linear:
    """Fit on scaled vectors, from where a weaker strength ended."""
    scale = find_scale(vectors)
    both = [1e-4, strength]
    _, linear = fit_logistic_regressions(scale.apply(vectors), labels, classes, both, exact=True)
    return scale.undo(linear)


@pytest.mark.parametrize("strength", [1e-3, 0.01, 0.1, 1])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("dim", [30, 300])
def test_logits_are_those_of_scikit_learn(dim: int, classes: int, strength: float) -> None:
    """With more images than dimensions, and with fewer."""
    vectors, labels = clusters(classes=classes, each=40, dim=dim)
    weight, bias = fitted(vectors, labels, classes, strength)
    assert weight.dtype == bias.dtype == np.float32
    logits = vectors @ weight.T + bias
    expected = logits_of_scikit_learn(vectors, labels, strength)
    if classes == 2:
        expected = np.stack([np.zeros_like(expected), expected], axis=1)
    else:  # a softmax does not see what is added to all classes
        logits = logits - logits.mean(1, keepdims=True)
        expected -= expected.mean(1, keepdims=True)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_rough_fit_is_close() -> None:
    vectors, labels = clusters(classes=5, each=40, dim=60)
    scaled = find_scale(vectors).apply(vectors)
    logits = []
    for exact in (False, True):
        ((weight, bias),) = fit_logistic_regressions(scaled, labels, 5, [0.01], exact)
        logits.append(scaled @ weight.T + bias)
    np.testing.assert_allclose(*logits, atol=0.05)


def test_layer_for_scaled_vectors_is_undone() -> None:
    vectors, _ = clusters(classes=3, each=10, dim=40)
    scale = find_scale(vectors)
    scaled = scale.apply(vectors)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, standardized(vectors), atol=1e-5)
    weight, bias = np.ones((2, 40)), np.array([0.0, 3.0])
    expected = scaled @ weight.T + bias
    weight, bias = scale.undo((weight, bias))
    np.testing.assert_allclose(vectors @ weight.T + bias, expected, atol=1e-4)


def test_several_labels_have_a_regression_each() -> None:
    vectors, labels = clusters(classes=4, each=50, dim=30)
    several = np.stack([labels == 0, labels >= 2, labels % 2 == 1], axis=1).astype(int)
    weight, bias = fitted(vectors, several, 3, 0.1)
    for label, logits in enumerate((vectors @ weight.T + bias).T):
        expected = logits_of_scikit_learn(vectors, several[:, label], 0.1)
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_label_that_all_images_have_or_none() -> None:
    vectors, labels = clusters(classes=2, each=10, dim=4)
    several = np.stack([labels, np.ones(20), np.zeros(20)], axis=1).astype(int)
    weight, bias = fitted(vectors, several, 3, 0.1)
    assert not weight[1:].any()
    np.testing.assert_allclose(bias[1:], [np.log(20.5 / 0.5), np.log(0.5 / 20.5)], rtol=1e-6)
    alone, _ = fitted(vectors, several[:, :1], 1, 0.1)
    np.testing.assert_allclose(weight[:1], alone, atol=1e-6)


def test_dimension_that_does_not_vary_has_no_weight() -> None:
    vectors, labels = clusters(classes=3, each=10, dim=4)
    vectors[:, 2] = 7
    weight, _ = fitted(vectors, labels, 3, 1.0)
    np.testing.assert_allclose(weight[:, 2], 0, atol=1e-6)

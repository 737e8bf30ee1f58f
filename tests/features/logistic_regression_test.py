import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from allencv.features.logistic_regression import fit_logistic_regressions
from tests.features.clusters import clusters


def standardized(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return (vectors - vectors.mean(0)) / np.sqrt(vectors.var(0).mean())


def logits_of_scikit_learn(vectors: np.ndarray, labels: np.ndarray, strength: float) -> np.ndarray:
    model = LogisticRegression(C=strength, tol=1e-9, max_iter=5000)
    return model.fit(standardized(vectors), labels).decision_function(standardized(vectors))


@pytest.mark.parametrize("strength", [1e-3, 0.01, 0.1])
@pytest.mark.parametrize("classes", [2, 5])
def test_logits_are_those_of_scikit_learn(classes: int, strength: float) -> None:
    vectors, labels = clusters(classes=classes, each=40, dim=60)
    *_, (weight, bias) = fit_logistic_regressions(vectors, labels, classes, [1e-4, strength], True)
    logits = vectors @ weight.T + bias
    expected = logits_of_scikit_learn(vectors, labels, strength)
    if classes == 2:
        expected = np.stack([np.zeros_like(expected), expected], axis=1)
    else:  # a softmax does not see what is added to all classes
        logits = logits - logits.mean(1, keepdims=True)
        expected -= expected.mean(1, keepdims=True)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_several_labels_have_a_regression_each() -> None:
    vectors, labels = clusters(classes=4, each=50, dim=30)
    several = np.stack([labels == 0, labels >= 2, labels % 2 == 1], axis=1).astype(int)
    (weight, bias), *_ = fit_logistic_regressions(vectors, several, 3, [0.1], exact=True)
    for label, logits in enumerate((vectors @ weight.T + bias).T):
        expected = logits_of_scikit_learn(vectors, several[:, label], 0.1)
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_label_that_all_images_have_or_none() -> None:
    vectors, labels = clusters(classes=2, each=10, dim=4)
    several = np.stack([labels, np.ones(20), np.zeros(20)], axis=1).astype(int)
    (weight, bias), *_ = fit_logistic_regressions(vectors, several, 3, [0.1], exact=True)
    assert not weight[1:].any()
    np.testing.assert_allclose(bias[1:], [np.log(20.5 / 0.5), np.log(0.5 / 20.5)], rtol=1e-6)
    alone, _ = next(fit_logistic_regressions(vectors, several[:, :1], 1, [0.1], exact=True))
    np.testing.assert_allclose(weight[:1], alone, atol=1e-6)


def test_dimension_that_does_not_vary_has_no_weight() -> None:
    vectors, labels = clusters(classes=3, each=10, dim=4)
    vectors[:, 2] = 7
    (weight, _), *_ = fit_logistic_regressions(vectors, labels, 3, [1.0], exact=True)
    np.testing.assert_allclose(weight[:, 2], 0, atol=1e-6)

import numpy as np
import pytest
from scipy.special import expit, softmax

from allencv.runtime.certainty import Scaling
from allencv.runtime.certainty.scaling import sigmoid


def test_one_label_an_image() -> None:
    logits = np.random.default_rng(0).normal(scale=5, size=(50, 4))
    slopes, offsets = [0.5, 2.0, 1.0, 3.0], [0.0, -1.0, 2.0, 0.5]
    given = Scaling(slopes, offsets)(softmax(logits, axis=1).astype(np.float32), False)
    assert (given.dtype, given.shape) == (np.float32, (50, 4))
    # log(p) is the logit less a number that is the same for all labels of an image.
    logarithms = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = softmax(np.array(slopes) * logarithms + offsets, axis=1)
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-7)


def test_a_temperature_divides_the_logits() -> None:
    logits = np.random.default_rng(1).normal(scale=9, size=(50, 4))
    given = Scaling([1 / 2.5] * 4, [0.0] * 4)(softmax(logits, axis=1).astype(np.float32), False)
    np.testing.assert_allclose(given, softmax(logits / 2.5, axis=1), rtol=1e-4, atol=1e-7)


def test_several_labels_an_image() -> None:
    logits = np.random.default_rng(2).normal(scale=3, size=(50, 3))
    slopes, offsets = [0.5, 2.0, 1.0], [0.0, -1.0, 2.0]
    given = Scaling(slopes, offsets)(expit(logits).astype(np.float32), True)
    expected = expit(np.array(slopes) * logits + offsets)
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_probabilities_of_0_and_1_stay_finite(multi_label: bool) -> None:
    saturated = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    given = Scaling([0.2, 0.2], [0.0, 0.0])(saturated, multi_label)
    assert np.isfinite(given).all()
    assert (given.argmax(axis=1) == [0, 1]).all()
    assert (given > 0).all()


def test_the_sigmoid_does_not_overflow() -> None:
    scores = np.array([-1e4, -20.0, 0.0, 20.0, 1e4])
    np.testing.assert_allclose(sigmoid(scores), expit(scores), atol=1e-16)

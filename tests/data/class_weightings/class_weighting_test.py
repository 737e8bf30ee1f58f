import numpy as np
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from sklearn.utils.class_weight import compute_class_weight

from allencv.data.class_weightings import Balanced, ClassWeighting, EffectiveNumber, SquareRoot

COUNTS = {"cat": 90, "dog": 9, "bird": 1}


def test_balanced_is_scikit_learns() -> None:
    labels = [label for label, count in COUNTS.items() for _ in range(count)]
    expected = compute_class_weight("balanced", classes=np.array(list(COUNTS)), y=labels)
    assert list(Balanced()(COUNTS).values()) == pytest.approx(expected)


def test_square_root_by_hand() -> None:
    weights = SquareRoot()(COUNTS)
    assert weights["bird"] / weights["dog"] == pytest.approx(3)
    assert weights["dog"] / weights["cat"] == pytest.approx(10**0.5)


def test_effective_number_by_hand() -> None:
    weights = EffectiveNumber(beta=0.9)(COUNTS)
    # With beta = 0.9 a class has at most 10 effective images; one image counts as one.
    assert weights["bird"] / weights["cat"] == pytest.approx((1 - 0.9**90) / 0.1)


def test_effective_number_lies_between_none_and_balanced() -> None:
    assert list(EffectiveNumber(beta=0.0)(COUNTS).values()) == pytest.approx([1, 1, 1])
    assert list(EffectiveNumber(beta=1 - 1e-9)(COUNTS).values()) == pytest.approx(
        list(Balanced()(COUNTS).values()), rel=1e-5
    )


@pytest.mark.parametrize("name", ClassWeighting.list_available())
def test_every_weighting_is_1_in_the_mean_over_the_images(name: str) -> None:
    weighting = ClassWeighting.from_params(Params({"type": name}))
    weights = weighting(COUNTS)
    assert weights.keys() == COUNTS.keys()
    assert sum(weights[label] * COUNTS[label] for label in COUNTS) == pytest.approx(100)
    assert weights["bird"] > weights["dog"] > weights["cat"] > 0


def test_a_wrong_beta_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"beta is 1.0; expected a number in \[0, 1\)"):
        EffectiveNumber(beta=1.0)

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from sklearn.utils.class_weight import compute_class_weight

from allencv.data.class_weightings import (
    Balanced,
    ClassWeighting,
    EffectiveNumber,
    ExplicitWeights,
    SquareRoot,
)
from allencv.data.data_loaders import ImageDataLoader
from allencv.data.dataset_readers import ImageFolderReader
from allencv.data.transforms import Resize
from tests.conftest import write_images

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
    needed = {"weights": {"bird": 4, "dog": 2.5}} if name == "weights" else {}
    weighting = ClassWeighting.from_params(Params({"type": name, **needed}))
    weights = weighting(COUNTS)
    assert weights.keys() == COUNTS.keys()
    assert sum(weights[label] * COUNTS[label] for label in COUNTS) == pytest.approx(100)
    assert weights["bird"] > weights["dog"] > weights["cat"] > 0


def test_a_wrong_beta_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"beta is 1.0; expected a number in \[0, 1\)"):
        EffectiveNumber(beta=1.0)


def test_effective_number_is_the_formula_of_the_paper() -> None:
    """Cui et al. 2019, equation (2) and the text under (4): 1 / E_n, up to a common factor."""
    weights = EffectiveNumber(beta=0.999)(COUNTS)
    effective = {label: (1 - 0.999**count) / (1 - 0.999) for label, count in COUNTS.items()}
    products = [weights[label] * effective[label] for label in COUNTS]
    assert products == pytest.approx([products[0]] * 3)


def test_explicit_weights_by_hand() -> None:
    # 90 * 1 + 9 * 2 + 1 * 0 = 108 for 100 images
    weights = ExplicitWeights({"dog": 2.0, "bird": 0})(COUNTS)
    assert weights == pytest.approx({"cat": 1 / 1.08, "dog": 2 / 1.08, "bird": 0})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"cat": -1}, "weights.weights.cat is -1; expected a number of at least 0"),
        ({"cta": 1}, "a label of weights.weights is 'cta'; expected one of cat, bird, dog"),
        (dict.fromkeys(COUNTS, 0), "weights.weights is 0 for cat, dog, bird; expected one above 0"),
    ],
)
def test_wrong_explicit_weights(weights: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        ClassWeighting.from_params(Params({"type": "weights", "weights": weights}))(COUNTS)
    assert error.value.message == message


@pytest.mark.parametrize(
    ("params", "share"),
    [({"type": "weights", "weights": {"b": 3}}, 30 / 50), ({"type": "balanced"}, 0.5)],
)
def test_a_loader_draws_by_the_weights(params: Any, share: float, tmp_path: Path) -> None:
    """20 images of a and 10 of b: each b 3 times as often as an a, or twice."""
    write_images(tmp_path, {"a": 20, "b": 10}, size=4)
    loader = ImageDataLoader(
        ImageFolderReader(transforms=[Resize([4, 4])]),
        tmp_path,
        batch_size=30,
        shuffle=True,
        num_workers=0,
        seed=0,
        class_weighting=ClassWeighting.from_params(Params(deepcopy(params))),
    )
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    drawn = torch.cat([batch["label"] for _ in range(40) for batch in loader])
    assert drawn.float().mean().item() == pytest.approx(share, abs=0.05)

from typing import Any, Dict

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms import HideAndSeek, ImageTransform


def test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 by 7 pixels in patches of 3: 2 rows of 3 patches, the last ones cut off."""
    drawn = torch.tensor([[0.1, 0.9, 0.2], [0.8, 0.4, 0.6]])
    monkeypatch.setattr(torch, "rand", lambda *shape: drawn if shape == (2, 3) else None)
    hide_and_seek = ImageTransform.from_params(
        Params({"type": "hide_and_seek", "grid_sizes": [3], "fill": 0})
    )
    result = hide_and_seek(torch.ones(1, 5, 7, dtype=torch.uint8))
    expected = [
        [0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 0, 1],
        [1, 1, 1, 0, 0, 0, 1],
    ]
    assert result[0].tolist() == expected


def test_a_size_of_0_hides_nothing() -> None:
    image = torch.rand(3, 20, 20)
    assert HideAndSeek([0], hide_probability=1.0)(image) is image


def test_the_share_that_is_hidden_is_the_probability() -> None:
    hidden = HideAndSeek([1], hide_probability=0.3).make_patches(200, 200)
    assert hidden is not None
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_the_probabilities_0_and_1() -> None:
    image = torch.ones(3, 20, 20)
    assert torch.equal(HideAndSeek([4], hide_probability=0.0)(image), image)
    assert (HideAndSeek([4], hide_probability=1.0)(image) == 0).all()


def test_each_size_has_its_turn() -> None:
    hide_and_seek = HideAndSeek([0, 2, 40], hide_probability=0.5)
    masks = [hide_and_seek.make_patches(40, 40) for _ in range(60)]
    whole = [mask for mask in masks if mask is not None and bool((mask == mask[0, 0]).all())]
    nothing = [mask for mask in masks if mask is None]
    assert min(len(nothing), len(whole), 60 - len(nothing) - len(whole)) > 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid_sizes": []}, r"hide_and_seek.grid_sizes is \[\]; expected numbers of pixels"),
        ({"grid_sizes": [16, -1]}, "hide_and_seek.grid_sizes"),
        ({"hide_probability": 1.5}, "hide_and_seek.hide_probability is 1.5; expected a number in"),
        ({"fill": []}, "hide_and_seek.fill"),
    ],
)
def test_a_wrong_argument_is_named(arguments: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        HideAndSeek(**arguments)

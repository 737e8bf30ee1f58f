from collections import Counter
from typing import Any, Dict

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms.batch_transforms import BatchTransform, CutMix, MixUp, RandomChoice

IMAGES, LABELS = torch.randn(3, 1, 6, 6), torch.tensor([0, 1, 1])


def test_the_one_that_is_drawn_is_applied() -> None:
    mixup, cutmix = MixUp(), CutMix()
    choice = RandomChoice([mixup, cutmix])
    seen = set()
    for seed in range(10):
        torch.manual_seed(seed)
        index = choice.make_choice()
        expected = [mixup, cutmix][index](IMAGES, LABELS, 2)
        torch.manual_seed(seed)
        images, shares = choice(IMAGES, LABELS, 2)
        assert torch.equal(images, expected[0])
        assert torch.equal(shares, expected[1])
        seen.add(index)
    assert seen == {0, 1}


def test_probabilities_and_what_they_lack_of_1() -> None:
    choice = BatchTransform.from_params(
        Params(
            {
                "type": "random_choice",
                "transforms": [{"type": "mixup", "alpha": 0.4}, "cutmix"],
                "probabilities": [0.5, 0.2],
            }
        )
    )
    assert isinstance(choice, RandomChoice)
    counts = Counter(choice.make_choice() for _ in range(2000))
    assert [counts[index] / 2000 for index in range(3)] == pytest.approx([0.5, 0.2, 0.3], abs=0.04)


def test_none_of_them_leaves_the_images_and_softens_the_labels() -> None:
    images, shares = RandomChoice([MixUp()], [0.0])(IMAGES, LABELS, 2)
    assert images is IMAGES
    assert shares.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]


def test_probabilities_of_thirds_add_up_to_1() -> None:
    choice = RandomChoice([MixUp(), CutMix(), MixUp()])
    assert {choice.make_choice() for _ in range(100)} == {0, 1, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"transforms": []}, r"random_choice.transforms is \[\]; expected at least one"),
        ({"probabilities": [1.0]}, "probabilities has 1 numbers; expected 2, one for each"),
        ({"probabilities": [0.8, 0.3]}, r"probabilities is \[0.8, 0.3\]; expected numbers of at"),
        ({"probabilities": [-0.1, 0.3]}, "with a sum of at most 1"),
    ],
)
def test_a_wrong_argument_is_named(arguments: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RandomChoice(**{"transforms": [MixUp(), CutMix()], **arguments})

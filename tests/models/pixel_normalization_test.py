from typing import Any, Dict

import pytest
import torch
import torchvision
from allennlp.common.checks import ConfigurationError

from allencv.models.pixel_normalization import PixelNormalization


def test_it_is_torchvisions() -> None:
    image = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    reference = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(PixelNormalization()(image), reference(image / 255), atol=1e-6)


@pytest.mark.parametrize("numbers", [(None, None), ([0.5], [0.25]), ([0.5], [0.1, 0.2, 0.3])])
def test_the_order_in_memory_makes_no_difference(numbers: Any) -> None:
    first = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    last = first.contiguous(memory_format=torch.channels_last)
    normalization = PixelNormalization(*numbers)
    assert torch.equal(normalization(last), normalization(first))
    assert normalization(last).is_contiguous(memory_format=torch.channels_last)
    assert normalization(first).is_contiguous()
    assert torch.equal(normalization(last[:, :, 1:, ::2]), normalization(first[:, :, 1:, ::2]))


def test_one_number_stands_for_all_channels() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    normalized = PixelNormalization([0.5], [0.25])(image)
    assert normalized.flatten().tolist() == pytest.approx([-2, -1.2, 2], abs=1e-6)


def test_floats_are_left_as_they_are_and_nothing_is_state() -> None:
    image = torch.rand(2, 1, 4, 5)
    normalization = PixelNormalization()
    assert normalization(image) is image
    assert not normalization.state_dict()


@pytest.mark.parametrize(
    "arguments", [{"std": [0.0]}, {"std": [0.2, -1.0, 0.2]}, {"mean": []}, {"std": []}]
)
def test_numbers_that_normalise_nothing_are_refused(arguments: Dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"model.pixel_mean and model.pixel_std are \["):
        PixelNormalization(**arguments)


def test_other_channels_are_refused() -> None:
    image = torch.zeros(1, 4, 2, 2, dtype=torch.uint8)
    with pytest.raises(ConfigurationError, match="3 and 3 numbers, but the images have 4 channels"):
        PixelNormalization()(image)


def test_what_is_alike() -> None:
    assert PixelNormalization().is_like(PixelNormalization([0.485, 0.456, 0.406]))
    assert not PixelNormalization().is_like(PixelNormalization([0.5]))

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.fitting.image_sizes import check_size, size_that_fits
from allencv.modules.im2im_encoders import Im2ImEncoder


class OfSixteens(Im2ImEncoder):
    """Takes multiples of 16 from 48 on, in the ways that networks refuse the others."""

    def get_input_channels(self) -> int:
        return 1

    def get_output_channels(self) -> int:
        return 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2] % 16 == 0, "not a multiple of the patches"
        if images.shape[2] < 48:
            raise RuntimeError("Output size is too small")
        return images


class OfNone(OfSixteens):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise ValueError("an image of two dimensions")


def test_a_size_that_fits_is_left_alone() -> None:
    check_size("net", OfSixteens(), 96)
    assert size_that_fits("net", OfSixteens(), 96) == 96


@pytest.mark.parametrize(
    ("size", "fitting"), [(100, "96, 112, 128"), (47, "48, 64, 128"), (8, "64, 128, 224")]
)
def test_another_size_is_answered_with_those_that_fit(size: int, fitting: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_size("net", OfSixteens(), size)
    assert error.value.message == (
        f"--image-size is {size}, which net cannot take; expected a size that it can take, such "
        f"as {fitting}"
    )


def test_a_size_that_nobody_asked_for_gives_way() -> None:
    assert size_that_fits("net", OfSixteens(), 100) == 96


def test_a_network_that_takes_none() -> None:
    with pytest.raises(ConfigurationError, match="--backbone is 'net', which takes none of"):
        size_that_fits("net", OfNone(), 96)

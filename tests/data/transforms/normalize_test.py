import torch
from allennlp.common import Params
from torchvision.transforms import v2

from allencv.data.transforms import ImageTransform, Normalize

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def test_by_hand() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 3)
    normalized = Normalize(mean=[0.5], std=[0.25])(image)
    torch.testing.assert_close(normalized, torch.tensor([[[-2.0, -1.2, 2.0]]]))


def test_uint8_is_brought_to_0_to_1_first() -> None:
    image = torch.randint(256, (5, 4, 3), dtype=torch.uint8).permute(2, 0, 1)
    before = image.clone()
    normalize = ImageTransform.from_params(
        Params({"type": "normalize", "mean": MEAN, "std": STD, "inplace": True})
    )
    to_float = v2.ToDtype(torch.float32, scale=True)
    assert torch.equal(normalize(image), v2.Normalize(MEAN, STD)(to_float(image)))
    assert torch.equal(image, before)


def test_a_float_image_is_taken_as_it_is() -> None:
    image = torch.rand(3, 5, 4)
    assert torch.equal(Normalize(MEAN, STD)(image), v2.Normalize(MEAN, STD)(image))

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from allencv.data.transforms.batch_colors import ADJUSTMENTS

FACTORS = np.array([0.0, 0.3, 0.5, -0.5, -0.2, 0.1], np.float32)
GREYS = torch.arange(6, dtype=torch.uint8).mul(50).view(6, 1, 1, 1)
IMAGES = {
    "colours": torch.randint(256, (6, 3, 20, 9), dtype=torch.uint8),
    "greys": GREYS.expand(6, 3, 20, 9),
    "grey": torch.randint(256, (6, 1, 20, 9), dtype=torch.uint8),
    "floats": torch.rand(6, 3, 20, 9),
    "double": torch.rand(6, 3, 4, 5, dtype=torch.float64),
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", ADJUSTMENTS)
def test_each_image_has_its_factor(name: str, kind: str) -> None:
    images = IMAGES[kind]
    factors = FACTORS if name == "hue" else np.abs(FACTORS) * 4
    result = ADJUSTMENTS[name](images.clone(), factors)
    assert result.dtype == images.dtype
    one = getattr(v2.functional, f"adjust_{name}")
    for image, found, factor in zip(images, result, factors.tolist()):
        difference = (found.double() - one(image, factor).double()).abs()
        assert difference.max() <= (1e-5 if image.is_floating_point() else 1)

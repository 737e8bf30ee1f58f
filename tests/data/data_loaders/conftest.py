from typing import Any, List

import pytest
import torch

from allencv.data.fields import image_field


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """The sources that have been decoded in this process."""
    sources: List[Any] = []
    load_image = image_field.load_image

    def counting_load_image(source: Any, *arguments: Any) -> torch.Tensor:
        if not isinstance(source, torch.Tensor):
            sources.append(source)
        return load_image(source, *arguments)

    monkeypatch.setattr(image_field, "load_image", counting_load_image)
    return sources

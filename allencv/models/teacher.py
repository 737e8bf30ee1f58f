from typing import Any, Dict, List, Protocol, runtime_checkable

import torch
from allennlp.data import Vocabulary

from allencv.models.pixel_normalization import PixelNormalization


@runtime_checkable
class Teacher(Protocol):
    """
    A trained image classifier that another model learns from: by its predictions (`Distillation`),
    or by its weights (`StartFrom`).
    """

    multi_label: bool
    """Whether an image may have several labels."""
    vocab: Vocabulary
    normalize: PixelNormalization

    @property
    def label_namespace(self) -> str:
        """The namespace of the vocabulary that holds the labels."""

    def label_names(self) -> List[str]:
        """Return the labels in the order of the logits."""

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits `(batch, labels)` of normalised images."""

    def is_channels_last(self) -> bool:
        """Return whether the kernels are stored with their channels last."""

    def state_dict(self) -> Dict[str, Any]:
        """Return the weights, as of any `torch.nn.Module`."""

    def eval(self) -> Any:
        """Switch to evaluation, as any `torch.nn.Module` does."""

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Train the weights or not, as of any `torch.nn.Module`."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move the weights, as any `torch.nn.Module` does."""

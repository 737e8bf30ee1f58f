import pytest
import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch.nn import functional as F

from allencv.modules.losses import CrossEntropyLoss

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 3, 3, 2, 1])


def test_label_smoothing_is_timms() -> None:
    expected = LabelSmoothingCrossEntropy(0.1)(LOGITS, TARGETS)
    assert torch.allclose(CrossEntropyLoss(label_smoothing=0.1)(LOGITS, TARGETS), expected)


def test_soft_targets_are_timms() -> None:
    shares = torch.rand(6, 4).softmax(-1)
    assert torch.allclose(
        CrossEntropyLoss()(LOGITS, shares), SoftTargetCrossEntropy()(LOGITS, shares)
    )


def test_class_weights_are_torchs() -> None:
    weights = torch.tensor([1.0, 2.0, 0.0, 3.0])
    loss = CrossEntropyLoss()(LOGITS, TARGETS, weights)
    assert torch.allclose(loss, F.cross_entropy(LOGITS, TARGETS, weights))
    smoothed = CrossEntropyLoss(label_smoothing=0.1)(LOGITS, TARGETS)
    assert torch.allclose(smoothed, F.cross_entropy(LOGITS, TARGETS, label_smoothing=0.1))


def test_by_hand() -> None:
    loss = CrossEntropyLoss()(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0]))
    assert loss.item() == pytest.approx((0.693147 + 0.313262) / 2, abs=1e-5)

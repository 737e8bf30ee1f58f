import pytest
import torch
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from allencv.modules.losses import CrossEntropyLoss, FocalLoss

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
INDICES = torch.tensor([0, 1, 3, 3, 2, 1])
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 3.0])


def multi_label(**arguments: float) -> FocalLoss:
    loss = FocalLoss(**arguments)
    loss.for_task(multi_label=True)
    return loss


def test_several_labels_are_torchvisions() -> None:
    targets = torch.randint(0, 2, (6, 4))
    expected = sigmoid_focal_loss(LOGITS, targets.float(), 0.25, 2, reduction="mean")
    assert torch.allclose(multi_label(alpha=0.25)(LOGITS, targets), expected)
    terms = sigmoid_focal_loss(LOGITS, targets.float(), -1, 3)
    assert torch.allclose(multi_label(gamma=3)(LOGITS, targets, WEIGHTS), (terms * WEIGHTS).mean())


def test_without_focusing_it_is_cross_entropy() -> None:
    targets = torch.randint(0, 2, (6, 4)).float()
    expected = F.binary_cross_entropy_with_logits(LOGITS, targets)
    assert torch.allclose(multi_label(gamma=0)(LOGITS, targets), expected)
    for weights in (None, WEIGHTS):
        for targets in (INDICES, torch.rand(6, 4).softmax(-1)):
            expected = CrossEntropyLoss()(LOGITS, targets, weights)
            assert torch.allclose(FocalLoss(gamma=0)(LOGITS, targets, weights), expected)


def test_one_label_by_hand() -> None:
    """The truth is predicted with 0.9 and with 0.5: equation 4 of the paper."""
    logits = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log()
    expected = (0.1**2 * 0.105361 + 0.5**2 * 0.693147) / 2
    assert FocalLoss()(logits, torch.tensor([0, 1])).item() == pytest.approx(expected, abs=1e-6)


def test_alpha_is_for_several_labels_alone() -> None:
    with pytest.raises(ConfigurationError, match=r"model.loss.alpha is 0.25; .*class_weights"):
        FocalLoss(alpha=0.25).for_task(multi_label=False)

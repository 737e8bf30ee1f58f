import math

import pytest
import torch
from timm.loss import AsymmetricLossMultiLabel
from torch.nn import functional as F

from allencv.modules.losses import AsymmetricLoss

LOGITS = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 2, (6, 4), generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 3.0])


@pytest.mark.parametrize("gammas", [(0, 4), (1, 4), (0, 0), (2, 2)])
@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_it_is_timms(
    gammas: "tuple[int, int]", margin: float, weights: "torch.Tensor | None"
) -> None:
    positive, negative = gammas
    logits, others = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    loss = AsymmetricLoss(positive, negative, margin)(logits, TARGETS, weights)
    reference = AsymmetricLossMultiLabel(negative, positive, margin, weight=weights)
    expected = reference(others, TARGETS)
    assert torch.allclose(loss, expected, rtol=1e-5)
    loss.backward()
    expected.backward()
    assert torch.allclose(logits.grad, others.grad, atol=1e-5)


def test_by_hand() -> None:
    """One label that is there with 0.8, one that is not with 0.3, one that is not with 0.02."""
    logits = torch.logit(torch.tensor([[0.8, 0.3, 0.02]]))
    expected = -(0.2 * math.log(0.8) + 0.25**4 * math.log(1 - 0.25))
    loss = AsymmetricLoss(gamma_positive=1)
    assert loss(logits, torch.tensor([[1, 0, 0]])).item() == pytest.approx(expected, abs=1e-6)


def test_without_focusing_and_margin_it_is_binary_cross_entropy() -> None:
    for targets in (TARGETS.float(), torch.rand(6, 4)):
        loss = AsymmetricLoss(gamma_negative=0, margin=0)(LOGITS, targets)
        expected = 4 * F.binary_cross_entropy_with_logits(LOGITS, targets)
        assert torch.allclose(loss, expected)

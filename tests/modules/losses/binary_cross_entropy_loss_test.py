import pytest
import torch
from allennlp.common.checks import ConfigurationError
from timm.loss import BinaryCrossEntropy
from torch.nn import functional as F

from allencv.modules.losses import BinaryCrossEntropyLoss

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
INDICES = torch.tensor([0, 1, 3, 3, 2, 1])
SHARES = 0.7 * F.one_hot(INDICES, 4) + 0.3 * F.one_hot(INDICES.roll(1), 4)
MULTI = torch.tensor([[0] * 4, [1, 1, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0], [1] * 4, [0, 0, 0, 1]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_one_label_an_image_is_timms(smoothing: float, threshold: "float | None") -> None:
    reference = BinaryCrossEntropy(smoothing, target_threshold=threshold)
    loss = BinaryCrossEntropyLoss(smoothing, threshold)
    assert torch.allclose(loss(LOGITS, INDICES), reference(LOGITS, INDICES))
    # timm leaves it to its mixup to smooth the targets that it mixes
    smooth = SHARES * (1 - smoothing) + smoothing / 4
    assert torch.allclose(loss(LOGITS, SHARES), reference(LOGITS, smooth))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.0, 3.0])])
def test_several_labels_are_timms(smoothing: float, weights: "torch.Tensor | None") -> None:
    loss = BinaryCrossEntropyLoss(smoothing)
    loss.for_task(multi_label=True)
    reference = BinaryCrossEntropy(smoothing, weight=weights, smooth_dense=True)
    assert torch.allclose(loss(LOGITS, MULTI, weights), reference(LOGITS, MULTI.float()))


def test_by_hand() -> None:
    """Two labels of equal chances, of which one is there; and one predicted with 0.9."""
    loss = BinaryCrossEntropyLoss()
    loss.for_task(multi_label=True)
    logits = torch.tensor([[0.0, 0.0], [torch.logit(torch.tensor(0.9)), 0.0]])
    expected = (0.693147 * 3 + 0.105361) / 4
    assert loss(logits, torch.tensor([[1, 0], [1, 0]])).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("smoothing", "threshold", "multi", "message"),
    [
        (0.6, 0.1, False, "targets 0.15 and 0.55; expected a threshold between them"),
        (0.6, 0.6, False, "target_threshold is 0.6, but label_smoothing 0.6"),
        (0.5, 0.2, True, "targets 0.25 and 0.75"),
    ],
)
def test_smoothing_that_the_threshold_makes_the_same_for_all_labels_is_refused(
    smoothing: float, threshold: float, multi: bool, message: str
) -> None:
    loss = BinaryCrossEntropyLoss(smoothing, threshold)
    loss.for_task(multi)
    with pytest.raises(ConfigurationError, match=message):
        loss(LOGITS, MULTI if multi else INDICES)

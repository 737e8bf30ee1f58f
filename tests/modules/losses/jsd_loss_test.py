import math

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from scipy.spatial.distance import jensenshannon
from timm.loss import JsdCrossEntropy
from torch.nn import functional as F

from allencv.modules.losses import CrossEntropyLoss, JsdLoss
from allencv.modules.losses.jsd_loss import jensen_shannon_divergence

VIEWS = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))  # images, views, labels
LOGITS = VIEWS.flatten(0, 1)
TARGETS = torch.tensor([0, 1, 3, 3])
OF_VIEWS = TARGETS.repeat_interleave(3)
WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def test_two_views_by_scipy() -> None:
    pairs = VIEWS[:, :2]
    distances = jensenshannon(*pairs.softmax(-1).double().numpy().transpose(1, 2, 0)) ** 2
    assert jensen_shannon_divergence(pairs).tolist() == pytest.approx(distances, abs=1e-6)


def test_by_hand() -> None:
    """Views that agree, and views that are certain of different things."""
    views = torch.tensor([[[0.0, 2.0], [0.0, 2.0]], [[0.0, 60.0], [60.0, 0.0]]])
    assert jensen_shannon_divergence(views).tolist() == pytest.approx([0, math.log(2)], abs=1e-6)


def test_the_consistency_is_timms() -> None:
    by_view = VIEWS.transpose(0, 1).flatten(0, 1)  # timm has one view of all images after the other
    reference = JsdCrossEntropy(num_splits=3, alpha=12, smoothing=0)(by_view, TARGETS.repeat(3))
    consistency = reference - F.cross_entropy(VIEWS[:, 0], TARGETS)
    loss = JsdLoss()(LOGITS, OF_VIEWS)
    assert torch.allclose(loss - F.cross_entropy(LOGITS, OF_VIEWS), consistency, atol=1e-4)


def test_in_evaluation_it_is_cross_entropy() -> None:
    loss = JsdLoss(label_smoothing=0.1).eval()
    expected = CrossEntropyLoss(label_smoothing=0.1)(LOGITS[:5], OF_VIEWS[:5], WEIGHTS)
    assert torch.equal(loss(LOGITS[:5], OF_VIEWS[:5], WEIGHTS), expected)


def test_the_penalty_of_an_image_weighs_what_the_image_weighs() -> None:
    weights = WEIGHTS[TARGETS]
    expected = (weights * jensen_shannon_divergence(VIEWS)).sum() / weights.sum()
    loss = JsdLoss()(LOGITS, OF_VIEWS, WEIGHTS)
    cross_entropy = F.cross_entropy(LOGITS, OF_VIEWS, WEIGHTS)
    assert torch.allclose(loss - cross_entropy, 12 * expected, atol=1e-4)


def test_a_batch_that_does_not_hold_whole_images_names_both_keys() -> None:
    with pytest.raises(ConfigurationError, match=r"num_views is 3, but .*10 images") as error:
        JsdLoss()(LOGITS[:10], OF_VIEWS[:10])
    for key in ("model.loss.num_views", "data_loader.repeats of 3", "data_loader.drop_last"):
        assert key in str(error.value)


@pytest.mark.parametrize("soft", [False, True])
def test_views_of_different_labels_are_found_in_the_first_batch(soft: bool) -> None:
    targets = OF_VIEWS.roll(1)
    targets = F.one_hot(targets, 5).float() if soft else targets
    with pytest.raises(ConfigurationError, match=r"different labels.*data_loader.repeats of 3"):
        JsdLoss()(LOGITS, targets)

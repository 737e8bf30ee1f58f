import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from allencv.models.thresholds import best_f1_thresholds

DEFAULT = torch.tensor([0.5])


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values).unsqueeze(-1)


def test_no_threshold_has_a_better_f1() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = (torch.rand(60, 8, generator=generator) * 20).round() / 20  # many are equal
    targets = (torch.rand(60, 8, generator=generator) < probs * 0.7).long()
    thresholds = best_f1_thresholds(probs, targets, torch.full((8,), 0.5))
    for index, threshold in enumerate(thresholds):
        gold = targets[:, index].numpy()
        all_f1 = [
            f1_score(gold, probs[:, index].numpy() > other, zero_division=0)
            for other in np.arange(0.025, 1, 0.05)
        ]
        best = f1_score(gold, (probs[:, index] > threshold).numpy())
        assert best == pytest.approx(max(all_f1))


def test_by_hand() -> None:
    """Two of the three most probable have it: F1 is 2/3 above the first, 4/5 above the third."""
    probs, targets = column(0.9, 0.8, 0.6, 0.2), column(1, 0, 1, 0).long()
    assert best_f1_thresholds(probs, targets, DEFAULT).item() == pytest.approx(0.4)
    # Above the second and above the fourth it is 4/5: the higher is taken.
    probs, targets = column(0.9, 0.8, 0.6, 0.2), column(1, 0, 0, 0).long()
    assert best_f1_thresholds(probs, targets, DEFAULT).item() == pytest.approx(0.85)


def test_all_have_it() -> None:
    threshold = best_f1_thresholds(column(0.9, 0.4), column(1, 1).long(), DEFAULT)
    assert threshold.item() == pytest.approx(0.2)


def test_neighbouring_floats_are_parted() -> None:
    upper = torch.tensor(0.3)
    lower = torch.nextafter(upper, torch.tensor(0.0))
    probs = torch.stack([upper, lower]).unsqueeze(-1)
    threshold = best_f1_thresholds(probs, column(1, 0).long(), DEFAULT)
    assert (probs > threshold).flatten().tolist() == [True, False]


def test_a_label_that_no_image_has_keeps_its_threshold() -> None:
    probs, targets = torch.rand(5, 2), torch.tensor([[0, 1]] * 5)
    thresholds = best_f1_thresholds(probs, targets, torch.tensor([0.7, 0.7]))
    assert thresholds[0] == 0.7
    assert thresholds[1] < probs[:, 1].min()


def test_without_images_all_keep_theirs() -> None:
    default = torch.tensor([0.1, 0.2])
    empty = torch.empty(0, 2)
    assert torch.equal(best_f1_thresholds(empty, empty.long(), default), default)

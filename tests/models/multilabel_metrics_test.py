import logging

import numpy as np
import pytest
import torch
import torch.distributed as dist
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    precision_recall_fscore_support,
)

from allencv.models.multilabel_metrics import MultiLabelMetrics
from tests.ranks import on_ranks

LABELS = ["ant", "bee", "cat", "dog"]
THRESHOLDS = torch.tensor([0.3, 0.5, 0.6, 0.4])
GENERATOR = torch.Generator().manual_seed(0)
PROBS = (torch.rand(30, 4, generator=GENERATOR) * 10).round() / 10
TARGETS = (torch.rand(30, 4, generator=GENERATOR) < 0.4).long()
TARGETS[:3] = 0  # images without a label


def counted(
    targets: torch.Tensor = TARGETS, keep: bool = True, thresholds: torch.Tensor = THRESHOLDS
) -> MultiLabelMetrics:
    metrics = MultiLabelMetrics(LABELS)
    for rows in torch.arange(30).split(8):
        metrics(PROBS[rows], targets[rows], thresholds, keep)
    return metrics


def test_they_are_scikit_learns() -> None:
    metrics = counted()
    values = metrics.get_metric(THRESHOLDS, reset=True)
    gold, predicted = TARGETS.numpy(), (PROBS > THRESHOLDS).numpy()
    assert tuple(values) == MultiLabelMetrics.NAMES
    assert values == pytest.approx(
        {
            "mAP": average_precision_score(gold, PROBS.numpy(), average="macro"),
            "micro_f1": f1_score(gold, predicted, average="micro"),
            "macro_f1": f1_score(gold, predicted, average="macro"),
            "hamming_loss": hamming_loss(gold, predicted),
            "subset_accuracy": accuracy_score(gold, predicted),
        }
    )
    columns = precision_recall_fscore_support(gold, predicted)
    for index, label in enumerate(LABELS):
        expected = dict(zip(("precision", "recall", "f1", "support"), np.array(columns)[:, index]))
        expected["threshold"] = THRESHOLDS[index].item()
        expected["average_precision"] = average_precision_score(
            gold[:, index], PROBS[:, index].numpy()
        )
        assert metrics.by_label[label] == pytest.approx(expected)


def test_the_end_is_computed_with_the_thresholds_of_the_end() -> None:
    early = counted(thresholds=torch.full((4,), 0.9))
    in_between = early.get_metric(THRESHOLDS)
    assert in_between["micro_f1"] == pytest.approx(
        f1_score(TARGETS.numpy(), (PROBS > 0.9).numpy(), average="micro")
    )
    assert "mAP" not in in_between
    at_the_end = counted().get_metric(THRESHOLDS, reset=True)
    assert early.get_metric(THRESHOLDS, reset=True) == pytest.approx(at_the_end)


def test_training_counts_without_keeping() -> None:
    metrics = counted(keep=False)
    assert len(metrics.kept()[0]) == 0
    values = metrics.get_metric(THRESHOLDS, reset=True)
    expected = counted().get_metric(THRESHOLDS, reset=True)
    assert "mAP" not in values
    assert values == pytest.approx({name: expected[name] for name in values})
    assert metrics.get_metric(THRESHOLDS) == {}
    assert metrics.get_metric(THRESHOLDS, reset=True) == {}


@pytest.mark.parametrize("keep", [True, False])
def test_a_label_that_no_image_has_is_left_out_with_one_warning(
    keep: bool, caplog: pytest.LogCaptureFixture
) -> None:
    targets = TARGETS.clone()
    targets[:, 1] = 0
    metrics = counted(targets, keep)
    with caplog.at_level(logging.WARNING):
        values = metrics.get_metric(THRESHOLDS, reset=True)
        metrics(PROBS, targets, THRESHOLDS, keep)
        metrics.get_metric(THRESHOLDS, reset=True)
    assert [record.message for record in caplog.records] == [
        "No image has 'bee': left out of mAP and macro_f1"
    ]
    others = [0, 2, 3]
    gold, predicted = targets[:, others].numpy(), (PROBS > THRESHOLDS)[:, others].numpy()
    assert values["macro_f1"] == pytest.approx(f1_score(gold, predicted, average="macro"))
    if keep:
        expected = average_precision_score(gold, PROBS[:, others].numpy())
        assert values["mAP"] == pytest.approx(expected)
    assert metrics.by_label["bee"]["support"] == 0


def test_images_without_any_label() -> None:
    values = counted(torch.zeros_like(TARGETS)).get_metric(THRESHOLDS, reset=True)
    assert values["mAP"] == values["macro_f1"] == values["micro_f1"] == 0
    predicted = (PROBS > THRESHOLDS).float()
    assert values["hamming_loss"] == pytest.approx(predicted.mean().item())
    assert values["subset_accuracy"] == pytest.approx((predicted.sum(1) == 0).float().mean().item())


def count_shares() -> list:
    """What a rank finds that sees every n-th batch: with `keep`, without, and of few images."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    found = []
    for keep, images in ((True, 30), (False, 30), (True, 5)):
        metrics = MultiLabelMetrics(LABELS)
        for rows in torch.arange(images).split(8)[rank::ranks]:
            metrics(PROBS[rows], TARGETS[rows], THRESHOLDS, keep)
        found.append((metrics.kept(), metrics.get_metric(THRESHOLDS, reset=True), metrics.by_label))
    return found


def test_all_ranks_count_all_images_to_the_last_digit() -> None:
    (expected,) = on_ranks(1, count_shares)
    kept = [(PROBS, TARGETS), (torch.empty(0, 4), torch.empty(0, 4)), (PROBS[:5], TARGETS[:5])]
    for (tensors, *_), (probs, targets) in zip(expected, kept):
        assert torch.equal(tensors[0], probs)
        assert torch.equal(tensors[1], targets.long())
    assert expected[0][1] == counted().get_metric(THRESHOLDS, reset=True)
    for ranks in (2, 3):
        for found in on_ranks(ranks, count_shares):
            assert repr(found) == repr(expected)

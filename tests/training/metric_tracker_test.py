from typing import List, Optional

import pytest

from allencv.training.metric_tracker import MetricTrackerWithTies

LOSSES = [0.9, 0.4, 0.5, 0.1, float("nan")]
ACCURACIES = [0.8, 1.0, 1.0, 1.0, 1.0]


def best_epochs(metric: str, patience: Optional[int] = None) -> List[Optional[int]]:
    tracker = MetricTrackerWithTies(metric, patience)
    best = []
    for accuracy, loss in zip(ACCURACIES, LOSSES):
        if tracker.should_stop_early():
            break
        tracker.add_metrics({"accuracy": accuracy, "loss": loss})
        best.append(tracker.best_epoch)
    return best


def test_the_lower_loss_decides_between_equal_accuracies() -> None:
    assert best_epochs("+accuracy")[:4] == [0, 1, 1, 3]


def test_an_epoch_that_only_ties_counts_as_no_improvement() -> None:
    assert best_epochs("+accuracy", patience=1) == [0, 1, 1]


def test_one_image_more_counts_more_than_any_loss() -> None:
    tracker = MetricTrackerWithTies("+accuracy")
    for right, loss in ((999_999, 0.01), (1_000_000, 90.0)):
        tracker.add_metrics({"accuracy": right / 1_000_000, "loss": loss})
    assert tracker.best_epoch == 1


@pytest.mark.parametrize("metric", ["-loss", "+loss"])
def test_a_tracked_loss_is_the_score(metric: str) -> None:
    score = MetricTrackerWithTies(metric).combined_score({"loss": 0.25})
    assert score == (-0.25 if metric == "-loss" else 0.25)


def test_a_model_without_a_loss() -> None:
    assert MetricTrackerWithTies("+accuracy").combined_score({"accuracy": 0.5}) == 0.5

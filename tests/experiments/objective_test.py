from typing import Any, Dict

import pytest

from allencv.experiments.objective import Objective
from tests.experiments.searches import config_of


@pytest.mark.parametrize(
    ("metrics", "score"),
    [
        ({}, 0.5),
        ({"averaged_weights_used": False, "averaged_validation_accuracy": 0.4}, 0.5),
        ({"averaged_weights_used": True, "averaged_validation_accuracy": 0.6}, 0.6),
        ({"trained_share": 0.25, "interpolated_validation_accuracy": 0.7}, 0.7),
    ],
)
def test_the_model_that_is_kept_counts(metrics: Dict[str, Any], score: float) -> None:
    of_run = {"best_validation_accuracy": 0.5, **metrics}
    assert Objective(config_of()).of_run(of_run) == score


def test_what_is_not_a_number_is_no_score() -> None:
    objective = Objective({"trainer": "image"})
    assert objective.metric == "-loss"
    assert objective.is_loss
    assert objective.of_epoch({"validation_loss": 0.5}) == -0.5
    assert objective.of_epoch({"validation_loss": float("nan")}) is None
    assert objective.of_epoch({"training_loss": 0.5}) is None

"""A space, a config and results for the tests of `allencv tune`."""

import json
from pathlib import Path
from typing import Any, Dict, Sequence

from allencv.experiments.runs import Config
from allencv.experiments.search_space import Hyperparameter, search_space
from allencv.experiments.trials import Search
from tests.configs import experiment

SPACE = search_space(
    {"trainer.optimizer.lr": {"log_uniform": [1e-5, 1]}, "model.dropout": [0.0, 0.2, 0.5]}
)


def config_of(**overrides: Any) -> Config:
    return {**experiment(Path("pets"), **overrides), "evaluate_on_test": True}


def write_epochs(folder: Path, scores: Sequence[float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for epoch, score in enumerate(scores):
        content = {"validation_accuracy": score, "validation_loss": 1 - score}
        (folder / f"metrics_epoch_{epoch}.json").write_text(json.dumps(content))


def result_of(score: float, loss: float = 1.0) -> Dict[str, Any]:
    return {"metrics": {"best_validation_accuracy": score, "best_validation_loss": loss}}


def finished(
    tmp_path: Path,
    stop_early: bool = True,
    epochs: int = 6,
    space: Sequence[Hyperparameter] = SPACE,
) -> Search:
    """After five trials whose epochs had the scores 0.1 to 0.5."""
    config = config_of(trainer__num_epochs=epochs)
    search = Search(config, space, tmp_path, stop_early)
    for number, run in zip(range(1, 6), search.runs(20, [])):
        write_epochs(run.folder, [number / 10] * epochs)
        search.tell(run.folder.name, result_of(number / 10))
    return search

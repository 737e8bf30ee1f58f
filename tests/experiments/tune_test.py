import json
import math
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Sequence

import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.experiments import runs as runs_module
from allencv.experiments.runs import Config, HasToEnd, Run
from allencv.experiments.search_space import search_space
from allencv.experiments.tune import Search, check_space, tune, with_values
from tests.configs import experiment

pytest.importorskip("optuna")

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


def distance(values: Dict[str, Any]) -> float:
    """In powers of ten from the best learning rate, which is 0.001."""
    return abs(math.log10(values["trainer.optimizer.lr"]) + 3)


def train_as_if(run: Run, *others: Any) -> Dict[str, Any]:
    """Dropout does not matter."""
    values = {"trainer.optimizer.lr": run.config["trainer"]["optimizer"]["lr"]}
    return result_of(1 / (1 + distance(values)))


def test_a_search_finds_the_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It learns: later trials are better than the first ones. It says what matters."""
    monkeypatch.setattr(runs_module, "train", train_as_if)
    trials = tune(config_of(), SPACE, tmp_path, 15, [])
    assert trials[0].values == {"trainer.optimizer.lr": 0.01, "model.dropout": 0.2}  # its own
    distances = [distance(trial.values) for trial in trials]
    assert min(distances) < 0.1 < min(distances[:5])
    assert median(distances[-5:]) < median(distances[:5])
    written = json.loads((tmp_path / "tune.json").read_text())
    assert written["importance"]["trainer.optimizer.lr"] > 0.8
    assert len(written["trials"]) == 15


def test_interruptions_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs_module, "train", train_as_if)
    expected = tune(config_of(), SPACE, tmp_path / "whole", 10, [])
    for count in range(1, 11):
        found = tune(config_of(), SPACE, tmp_path / "parts", count, [])
    assert found == expected


def test_interrupted_and_failed_trials_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(run: Run, *others: Any) -> Dict[str, Any]:
        if run.folder.name == "trial_3":
            raise KeyboardInterrupt
        return {"error": "full"} if run.folder.name == "trial_1" else train_as_if(run)

    monkeypatch.setattr(runs_module, "train", fail)
    with pytest.raises(KeyboardInterrupt):
        tune(config_of(), SPACE, tmp_path, 6, [])
    before = json.loads((tmp_path / "tune.json").read_text())["trials"]
    assert [each["state"] for each in before] == ["finished", "failed", "finished", "begun"]
    assert before[1]["error"] == "full"
    trained: List[str] = []

    def train(run: Run, *others: Any) -> Dict[str, Any]:
        trained.append(run.folder.name)
        return train_as_if(run)

    monkeypatch.setattr(runs_module, "train", train)
    trials = tune(config_of(), SPACE, tmp_path, 6, [])
    assert trained == ["trial_1", "trial_3", "trial_4", "trial_5"]
    assert [trial.values for trial in trials[:4]] == [each["values"] for each in before]
    assert {trial.state for trial in trials} == {"finished"}


def test_nothing_is_tried_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A space with six values has six trials."""
    monkeypatch.setattr(runs_module, "train", lambda *others: result_of(0.5))
    given = {"model.dropout": [0.0, 0.2, 0.5], "trainer.num_epochs": {"integer": [2, 3]}}
    expected = tune(config_of(), search_space(given), tmp_path / "whole", 20, [])
    found = {tuple(trial.values.values()) for trial in expected}
    assert found == {(dropout, epochs) for dropout in (0.0, 0.2, 0.5) for epochs in (2, 3)}
    assert len(expected) == 6
    for count in range(1, 9):
        trials = tune(config_of(), search_space(given), tmp_path / "parts", count, [])
    assert trials == expected


def test_a_search_without_hope_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs_module, "train", lambda run, *others: {"error": "no such folder"})
    message = "the first 3 trials have failed, trial_2 with: no such folder"
    with pytest.raises(ConfigurationError, match=message):
        tune(config_of(), SPACE, tmp_path, 20, [])


def finished(tmp_path: Path, stop_early: bool = True, epochs: int = 6) -> Search:
    """After five trials whose epochs had the scores 0.1 to 0.5."""
    config = config_of(trainer__num_epochs=epochs)
    search = Search(config, SPACE, tmp_path, stop_early)
    for number, run in zip(range(1, 6), search.runs(20, [])):
        write_epochs(run.folder, [number / 10] * epochs)
        search.tell(run.folder.name, result_of(number / 10))
    return search


@pytest.mark.parametrize(
    ("scores", "is_stopped"),
    [
        ([0.2, 0.2, 0.2], True),  # the median is 0.3
        ([0.2, 0.2], False),  # the first third of the epochs decides nothing
        ([0.2, 0.2, 0.31], False),
        ([0.31, 0.2, 0.2], False),  # the best so far counts
        ([0.31] * 5 + [0.2], False),
    ],
)
def test_what_is_worse_than_the_median_is_stopped(
    tmp_path: Path, scores: List[float], is_stopped: bool
) -> None:
    search = finished(tmp_path)
    run = next(search.runs(20, []))
    assert not search.has_to_end(run.folder)  # there is no epoch
    write_epochs(run.folder, scores)
    assert search.has_to_end(run.folder) == is_stopped
    if is_stopped:
        line = search.tell(run.folder.name, {"error": "killed by SIGTERM"})
        assert line.startswith("trial_5: stopped after 3 epochs, accuracy 0.2000; model.dropout ")
        (stopped,) = [trial for trial in search.trials if trial.state == "stopped"]
        assert stopped.epoch_scores == scores
        again = Search(search.config, SPACE, tmp_path, True)  # it is not tried again
        assert next(again.runs(20, [])).folder.name == "trial_6"


def test_all_are_trained_to_the_end_on_demand(tmp_path: Path) -> None:
    search = finished(tmp_path, stop_early=False)
    run = next(search.runs(20, []))
    write_epochs(run.folder, [0.1] * 4)
    assert not search.has_to_end(run.folder)


def test_a_trial_that_was_done_before_it_could_be_stopped_counts(tmp_path: Path) -> None:
    search = finished(tmp_path)
    run = next(search.runs(20, []))
    write_epochs(run.folder, [0.2] * 6)
    assert search.has_to_end(run.folder)
    assert "accuracy 0.2000;" in search.tell(run.folder.name, result_of(0.2))
    assert search.trials[-1].state == "finished"


def test_epochs_that_are_missing_or_half_written(tmp_path: Path) -> None:
    search = finished(tmp_path)
    run = next(search.runs(20, []))
    write_epochs(run.folder, [0.2, 0.4, 0.4])
    (run.folder / "metrics_epoch_0.json").write_text('{"training_loss": 1.0}')  # not validated
    (run.folder / "metrics_epoch_2.json").write_text('{"validation_accu')
    assert not search.has_to_end(run.folder)
    assert search.trials[-1].epoch_scores == [None, 0.4]


def test_a_score_that_is_no_number_has_failed(tmp_path: Path) -> None:
    search = Search(config_of(), SPACE, tmp_path, True)
    runs = search.runs(20, [])
    next(runs)
    assert search.tell("trial_0", result_of(math.nan)).startswith(
        "trial_0: failed: its accuracy is"
    )
    next(runs)
    assert "its accuracy is None" in search.tell("trial_1", {"metrics": {"training_loss": 1.0}})


def test_only_the_best_keeps_its_weights(tmp_path: Path) -> None:
    """Of equal ones that with the lowest loss."""
    search = Search(config_of(), SPACE, tmp_path, True)
    for loss, run in zip((0.5, 0.3, 0.4), search.runs(20, [])):
        run.folder.mkdir()
        for name in ("best.th", "model.tar.gz", "out.log"):
            (run.folder / name).touch()
        assert run.config["evaluate_on_test"] is False
        search.tell(run.folder.name, result_of(0.8, loss))
    left = {path.parent.name: path.name for path in tmp_path.glob("*/model.tar.gz")}
    assert left == {"trial_1": "model.tar.gz"}
    assert len(list(tmp_path.glob("*/best.th"))) == 1
    assert len(list(tmp_path.glob("*/out.log"))) == 3
    best = json.loads((tmp_path / "best.json").read_text())
    assert best == with_values(config_of(), search.trials[1].values)
    assert best["evaluate_on_test"] is True


def test_a_loss_is_shown_without_its_sign(tmp_path: Path) -> None:
    config = config_of(trainer__validation_metric="-loss")
    search = Search(config, SPACE, tmp_path, True)
    for loss, run in zip((0.5, 0.3, 0.4), search.runs(20, [])):
        line = search.tell(run.folder.name, result_of(0.8, loss))
        assert line.startswith(f"{run.folder.name}: loss {loss:.4f}")
    table = search.summary().splitlines()
    assert [line.split()[:2] for line in table[:4]] == [
        *(["trial", "loss"], ["trial_1", "0.3000"], ["trial_2", "0.4000"], ["trial_0", "0.5000"])
    ]
    assert table[4] == "3 trials: 3 finished"


def test_several_metrics_are_added(tmp_path: Path) -> None:
    config = config_of(trainer__validation_metric=["+accuracy", "-loss"])
    search = Search(config, SPACE, tmp_path, True)
    next(search.runs(20, []))
    assert search.tell("trial_0", result_of(0.8, 0.3)).startswith("trial_0: score 0.5000")


def test_another_experiment_needs_another_folder(tmp_path: Path) -> None:
    search = Search(config_of(), SPACE, tmp_path, True)
    next(search.runs(20, []))
    Search(config_of(), SPACE, tmp_path, True)
    with pytest.raises(ConfigurationError, match=r"tune.json is of a search with another space;"):
        Search(config_of(), SPACE[:1], tmp_path, True)
    with pytest.raises(ConfigurationError, match=r"tune.json is of a search with another config;"):
        Search(config_of(trainer__num_epochs=4), SPACE, tmp_path, True)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"model.dropot": [0, 0.1]}, "model.dropot 0 makes a mistake: .*dropot"),
        ({"model.dropout": [0.1, "much"]}, "model.dropout much makes a mistake"),
        ({"trainer.num_epochs": {"uniform": [1, 2.5]}}, "trainer.num_epochs 2.5 makes a mistake"),
        ({"modle.dropout": [0, 0.1]}, "modle.dropout does not fit the config"),
        ({"trainer.validation_metric": ["+accuracy", "-loss"]}, "is what values are compared by"),
    ],
)
def test_values_that_the_config_cannot_have(space: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--space: .*{message}"):
        check_space(config_of(), search_space(space))


def test_whole_parts_may_compete() -> None:
    optimizers = [{"type": "adamw"}, {"type": "sgd", "momentum": 0.9}]
    space = {"trainer.optimizer.lr": {"uniform": [0.1, 1]}, "trainer.optimizer": optimizers}
    searched = search_space(space)
    check_space(config_of(), searched)
    values = {"trainer.optimizer": optimizers[1], "trainer.optimizer.lr": 0.5}
    optimizer = with_values(config_of(), values)["trainer"]["optimizer"]
    assert optimizer == {"type": "sgd", "momentum": 0.9, "lr": 0.5}


def test_a_config_without_validation_data() -> None:
    config = config_of()
    del config["validation_data_path"]
    with pytest.raises(ConfigurationError, match="no validation_data_path"):
        check_space(config, SPACE)


def test_trials_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next begins as soon as one has ended."""
    import threading

    first_two = threading.Barrier(2)

    def train(run: Run, environment: Dict[str, str], has_to_end: HasToEnd) -> Dict[str, Any]:
        if run.folder.name in ("trial_0", "trial_1"):
            first_two.wait(timeout=30)
        return train_as_if(run)

    monkeypatch.setattr(runs_module, "train", train)
    trials = tune(config_of(), SPACE, tmp_path, 5, [], parallel=2)
    assert [trial.state for trial in trials] == ["finished"] * 5

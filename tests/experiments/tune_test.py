import json
import math
from pathlib import Path
from statistics import median
from typing import Any, Dict, List

import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.experiments import runs as runs_module
from allencv.experiments.runs import HasToEnd, Run
from allencv.experiments.search_space import search_space, with_values
from allencv.experiments.trials import Search
from allencv.experiments.tune import as_line, as_table, check_space, tune
from tests.experiments.searches import SPACE, config_of, finished, result_of, write_epochs

pytest.importorskip("optuna")


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
    trials = tune(config_of(), SPACE, tmp_path, 15, []).trials
    assert trials[0].values == {"trainer.optimizer.lr": 0.01, "model.dropout": 0.2}  # its own
    distances = [distance(trial.values) for trial in trials]
    assert min(distances) < 0.1 < min(distances[:5])
    assert median(distances[-5:]) < median(distances[:5])
    written = json.loads((tmp_path / "tune.json").read_text())
    assert written["importance"]["trainer.optimizer.lr"] > 0.8
    assert len(written["trials"]) == 15


def test_interruptions_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs_module, "train", train_as_if)
    expected = tune(config_of(), SPACE, tmp_path / "whole", 10, []).trials
    for count in range(1, 11):
        found = tune(config_of(), SPACE, tmp_path / "parts", count, []).trials
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
    trials = tune(config_of(), SPACE, tmp_path, 6, []).trials
    assert trained == ["trial_1", "trial_3", "trial_4", "trial_5"]
    assert [trial.values for trial in trials[:4]] == [each["values"] for each in before]
    assert {trial.state for trial in trials} == {"finished"}


def test_nothing_is_tried_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A space with six values has six trials."""
    monkeypatch.setattr(runs_module, "train", lambda *others: result_of(0.5))
    given = {"model.dropout": [0.0, 0.2, 0.5], "trainer.num_epochs": {"integer": [2, 3]}}
    expected = tune(config_of(), search_space(given), tmp_path / "whole", 20, []).trials
    found = {tuple(trial.values.values()) for trial in expected}
    assert found == {(dropout, epochs) for dropout in (0.0, 0.2, 0.5) for epochs in (2, 3)}
    assert len(expected) == 6
    output = capsys.readouterr().out
    assert output.startswith("trial_0: training with model.dropout 0.2, trainer.num_epochs 3\n")
    assert output.endswith("\n6 trials: 6 finished\nthe space has no more values\n")
    for count in range(1, 9):
        trials = tune(config_of(), search_space(given), tmp_path / "parts", count, []).trials
    assert trials == expected


def test_a_search_without_hope_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs_module, "train", lambda run, *others: {"error": "no such folder"})
    message = "the first 3 trials have failed, trial_2 with: no such folder"
    with pytest.raises(ConfigurationError, match=message):
        tune(config_of(), SPACE, tmp_path, 20, [])


def test_a_loss_is_shown_without_its_sign(tmp_path: Path) -> None:
    config = config_of(trainer__validation_metric="-loss")
    search = Search(config, SPACE, tmp_path, True)
    for loss, run in zip((0.5, 0.3, 0.4), search.runs(20, [])):
        line = as_line(search, search.tell(run.folder.name, result_of(0.8, loss)))
        assert line.startswith(f"{run.folder.name}: loss {loss:.4f}")
    table = as_table(search).splitlines()
    assert [line.split()[:2] for line in table[:4]] == [
        *(["trial", "loss"], ["trial_1", "0.3000"], ["trial_2", "0.4000"], ["trial_0", "0.5000"])
    ]
    assert table[4] == "3 trials: 3 finished"


def test_several_metrics_are_added(tmp_path: Path) -> None:
    config = config_of(trainer__validation_metric=["+accuracy", "-loss"])
    search = Search(config, SPACE, tmp_path, True)
    next(search.runs(20, []))
    line = as_line(search, search.tell("trial_0", result_of(0.8, 0.3)))
    assert line.startswith("trial_0: score 0.5000 (best so far)")


def test_trials_that_did_not_finish_have_their_lines(tmp_path: Path) -> None:
    search = finished(tmp_path)
    runs = search.runs(20, [])
    write_epochs(next(runs).folder, [0.2] * 3)
    search.has_to_end(tmp_path / "trial_5")
    line = as_line(search, search.tell("trial_5", {"error": "killed by SIGTERM"}))
    assert line == "trial_5: stopped after 3 epochs, accuracy 0.2000"
    next(runs)
    line = as_line(search, search.tell("trial_6", {"error": "the disk is full"}))
    assert line == "trial_6: failed: the disk is full"
    assert as_table(search).endswith("7 trials: 5 finished, 1 stopped early, 1 failed")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"model.dropot": [0, 0.1]}, "model.dropot 0 makes a mistake: .*dropot"),
        ({"model.dropout": [0.1, "much"]}, "model.dropout much makes a mistake"),
        (
            {"trainer.num_epochs": {"uniform": [1, 2.5]}},
            "trainer.num_epochs 1 makes a mistake: .* int",
        ),
        ({"modle.dropout": [0, 0.1]}, "modle.dropout does not fit the config"),
        ({"trainer.validation_metric": ["+accuracy", "-loss"]}, "has to be the same for all"),
        ({"trainer": [{"type": "image"}, {}]}, "trainer sets trainer.validation_metric, which has"),
        ({"validation_data_path": ["a", "b"]}, "has to be the same for all trials"),
        ({"evaluate_on_test": [True, False]}, "has to be the same for all trials"),
        ({"trainer.cuda_device": [0, 1]}, "has to be the same for all trials"),
        ({"data_loader.batch_size": {"uniform": [2, 4]}}, "batch_size 2 makes a mistake: .* int"),
        (
            {"trainer.optimizer": [{"type": "sgd"}, {"type": "adamw"}], "model.dropout": [0, 0.1]},
            'trainer.optimizer {"type": "sgd"} makes a mistake: trainer.optimizer lacks lr',
        ),
    ],
)
def test_values_that_the_config_cannot_have(space: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--space: .*{message}"):
        check_space(config_of(), search_space(space))


def test_values_that_change_the_loss_are_not_compared_by_it() -> None:
    space = search_space({"model.loss.label_smoothing": [0.0, 0.1]})
    config = {**config_of(), "model": {**config_of()["model"], "loss": {"type": "cross_entropy"}}}
    check_space(config, space)
    config["trainer"]["validation_metric"] = "-loss"
    with pytest.raises(ConfigurationError, match="changes the loss, by which trials are compared"):
        check_space(config, space)


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
    trials = tune(config_of(), SPACE, tmp_path, 5, [], parallel=2).trials
    assert [trial.state for trial in trials] == ["finished"] * 5

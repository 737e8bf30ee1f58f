import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.experiments.search_space import search_space, with_values
from allencv.experiments.trials import Search
from tests.experiments.searches import SPACE, config_of, finished, result_of, write_epochs

pytest.importorskip("optuna")


@pytest.mark.parametrize(
    ("scores", "is_stopped"),
    [
        ([0.2, 0.2, 0.2], True),  # the median is 0.3
        ([0.2, 0.2], False),  # the first third of the epochs decides nothing
        ([0.2, 0.2, 0.31], False),
        ([0.31, 0.2, 0.2], False),  # the best so far counts
        ([0.31] * 4 + [0.2], False),
        ([0.2] * 6, False),  # it is at the end
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
        stopped = search.tell(run.folder.name, {"error": "killed by SIGTERM"})
        assert (stopped.state, stopped.score, stopped.epoch_scores) == ("stopped", 0.2, scores)
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
    write_epochs(run.folder, [0.2] * 5)
    assert search.has_to_end(run.folder)
    write_epochs(run.folder, [0.2] * 6)
    trial = search.tell(run.folder.name, result_of(0.2))
    assert (trial.state, trial.score) == ("finished", 0.2)


def test_epochs_that_are_missing_or_half_written(tmp_path: Path) -> None:
    search = finished(tmp_path)
    run = next(search.runs(20, []))
    write_epochs(run.folder, [0.2, 0.4, 0.4])
    (run.folder / "metrics_epoch_0.json").write_text('{"training_loss": 1.0}')  # not validated
    (run.folder / "metrics_epoch_2.json").write_text('{"validation_accu')
    assert not search.has_to_end(run.folder)
    assert search.trials[-1].epoch_scores == [None, 0.4]


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (result_of(math.nan), "it has no finite accuracy"),
        ({"metrics": {"training_loss": 1.0}}, "it has no finite accuracy"),
        ({"error": "the disk is full"}, "the disk is full"),
    ],
)
def test_what_has_no_score_has_failed(tmp_path: Path, result: Dict[str, Any], error: str) -> None:
    search = Search(config_of(), SPACE, tmp_path, True)
    next(search.runs(20, []))
    trial = search.tell("trial_0", result)
    assert (trial.state, trial.score, trial.error) == ("failed", None, error)


def test_epochs_whose_score_is_no_number_decide_nothing(tmp_path: Path) -> None:
    search = finished(tmp_path)
    run = next(search.runs(20, []))
    write_epochs(run.folder, [math.nan] * 3)
    assert not search.has_to_end(run.folder)
    assert search.trials[-1].epoch_scores == [None] * 3


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


def test_another_experiment_needs_another_folder(tmp_path: Path) -> None:
    search = Search(config_of(), SPACE, tmp_path, True)
    next(search.runs(20, []))
    Search(config_of(), SPACE, tmp_path, True)
    with pytest.raises(ConfigurationError, match=r"tune.json is of a search with another space;"):
        Search(config_of(), SPACE[:1], tmp_path, True)
    with pytest.raises(ConfigurationError, match=r"tune.json is of a search with another config;"):
        Search(config_of(trainer__num_epochs=4), SPACE, tmp_path, True)


def test_trials_that_differ_in_their_epochs_are_not_stopped(tmp_path: Path) -> None:
    space = search_space({"trainer.num_epochs": {"integer": [2, 9]}, "model.dropout": [0.0, 0.5]})
    search = finished(tmp_path, space=space)
    run = next(search.runs(20, []))
    write_epochs(run.folder, [0.1] * 5)
    assert not search.has_to_end(run.folder)


def test_values_that_python_holds_equal_are_two(tmp_path: Path) -> None:
    search = Search(config_of(), search_space({"model.dropout": [1, True]}), tmp_path, True)
    given = [run.config["model"]["dropout"] for run in search.runs(5, [])]
    assert sorted(map(repr, given)) == ["1", "True"]


@pytest.mark.parametrize("name", ["trial_0", "best.json"])
def test_a_folder_with_files_of_another_search_is_refused(tmp_path: Path, name: str) -> None:
    """A trial would resume with other values, or replace what is somebody's own."""
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigurationError, match=rf"{name} exists, but there is no .*tune\.json"):
        Search(config_of(), SPACE, tmp_path, True)


def test_a_folder_of_a_trial_with_another_config_is_refused(tmp_path: Path) -> None:
    search = Search(config_of(), SPACE, tmp_path, True)
    run = next(search.runs(20, []))
    file = tmp_path / "trial_0.json"
    file.write_text(json.dumps(run.config))
    next(Search(config_of(), SPACE, tmp_path, True).runs(20, []))
    file.write_text(json.dumps({**run.config, "pytorch_seed": 1}))
    with pytest.raises(ConfigurationError, match="trial_0.json belongs to another experiment"):
        next(Search(config_of(), SPACE, tmp_path, True).runs(20, []))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("trials"),
        lambda content: content["trials"][1].pop("name"),
        lambda content: content["trials"][1].update(name="my trial"),
        lambda content: content["trials"][1].update(more=1),
        lambda content: content["trials"][1].update(state="done"),
        lambda content: content["trials"][1].update(score=None),
        lambda content: content["trials"][1].update(score=math.nan),
        lambda content: content["trials"][1].update(score="0.5"),
        lambda content: content["trials"][1]["values"].pop("model.dropout"),
        lambda content: content["trials"][1]["values"].update({"model.dropout": 0.3}),
        lambda content: content["trials"][1].update(epoch_scores=[math.nan]),
        lambda content: content["trials"].append(None),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: Callable[[Dict[str, Any]], Any]) -> None:
    finished(tmp_path)
    file = tmp_path / "tune.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match=r"tune\.json is damaged \(.*; restore it"):
        Search(config_of(trainer__num_epochs=6), SPACE, tmp_path, True)


def test_a_trial_that_was_removed_gives_its_name_to_no_other(tmp_path: Path) -> None:
    finished(tmp_path)
    file = tmp_path / "tune.json"
    content = json.loads(file.read_text())
    del content["trials"][1]
    file.write_text(json.dumps(content))
    search = Search(config_of(trainer__num_epochs=6), SPACE, tmp_path, True)
    assert next(search.runs(20, [])).folder.name == "trial_5"


def test_the_importance_of_one_better_trial_is_not_known(tmp_path: Path) -> None:
    """Optuna warns then."""
    search = Search(config_of(), SPACE, tmp_path, True)
    for number, run in zip(range(12), search.runs(20, [])):
        search.tell(run.folder.name, result_of(0.5 if number else 0.9))
    assert search.importance() == {}


def test_the_best_config_is_written_again(tmp_path: Path) -> None:
    finished(tmp_path)
    before = (tmp_path / "best.json").read_text()
    (tmp_path / "best.json").unlink()
    Search(config_of(trainer__num_epochs=6), SPACE, tmp_path, True)
    assert (tmp_path / "best.json").read_text() == before

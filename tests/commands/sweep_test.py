import contextlib
import importlib
import io
import json
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import numpy as np
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from allencv.data.inspection import read_splits
from allencv.runtime.errors import InputError
from tests.configs import experiment
from tests.conftest import run_in_process, run_with_forked_runs, same_tensors, write_images

sweep = partial(run_with_forked_runs, "sweep")


class Swept(NamedTuple):
    folder: Path
    config: Path
    output: str


def read(file: Path) -> Dict[str, Any]:
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train` (6 of each), `val` (4 of each); half of the latter have the other's colour."""
    root = tmp_path_factory.mktemp("pets")
    write_images(root / "train", {"Cat": 6, "Dog": 6}, seed=0)
    write_images(root / "val", {"Cat": 2, "Dog": 2}, seed=1)
    write_images(root / "val", {"Dog": 2, "Cat": 2}, seed=2, suffix=".png")
    return root


CALLBACK = """
from allennlp.training import TrainerCallback


@TrainerCallback.register("fail_with_seed_1")
class FailWithSeed1(TrainerCallback):
    def on_batch(self, trainer, inputs, outputs, metrics, epoch, *args, **kwargs):
        import pathlib, torch
        broken = pathlib.Path(self.serialization_dir).parent / "broken"
        if epoch == 1 and torch.initial_seed() == 1 and broken.exists():
            raise ValueError("the disk is full of cats")
"""


@pytest.fixture(scope="module")
def swept(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """
    Two seeds, the second of which fails in its second epoch, and goes on when the command is
    repeated. It is the user's own callback that fails, so that it is seen, too, that the runs know
    `--include-package`.
    """
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "own_callback.py").write_text(CALLBACK)
    config = experiment(
        data, trainer__num_epochs=2, trainer__callbacks=["fail_with_seed_1"], numpy_seed=77
    )
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "runs").mkdir()
    (folder / "runs" / "broken").touch()
    arguments = [folder / "config.json", "-s", folder / "runs", "--seeds", 2]
    arguments += ["-o", '{"data_loader.batch_size": 3}', "--include-package", "own_callback"]
    output = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(output):
        with pytest.raises(SystemExit) as exit:
            sweep(*arguments)
        assert exit.value.code == 1
        (folder / "first.json").write_text((folder / "runs" / "sweep.json").read_text())
        (folder / "runs" / "broken").unlink()
        sweep(*arguments)
    return Swept(folder / "runs", folder / "config.json", output.getvalue())


def test_a_run_that_fails_is_named_and_loses_no_other(swept: Swept) -> None:
    first = read(swept.folder.parent / "first.json")
    assert [run["run"] for run in first["runs"]] == ["seed_0", "seed_1"]
    assert first["runs"][1] == {
        **{"run": "seed_1", "seed": 1},
        **{"error": "ValueError: the disk is full of cats"},
    }
    assert first["summary"]["best_validation_loss"]["n"] == 1
    assert "seed_1 has failed: ValueError: the disk is full of cats" in swept.output
    assert "1 of 2 seeds" in swept.output


def test_finished_runs_are_not_done_again(swept: Swept) -> None:
    assert swept.output.count("seed_0: training") == 1
    assert swept.output.count("seed_0: finished before") == 1
    assert swept.output.count("seed_1: training") == 2


def test_each_run_is_that_of_train_with_its_seed(
    swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of seed 1 too, which was interrupted."""
    monkeypatch.syspath_prepend(str(swept.config.parent))
    importlib.import_module("own_callback")
    seeds = {"random_seed": 1, "numpy_seed": 1, "pytorch_seed": 1}
    overrides = json.dumps({"data_loader.batch_size": 3, **seeds})
    train_model(Params.from_file(swept.config, overrides), tmp_path)
    weights = [torch.load(folder / "best.th") for folder in (tmp_path, swept.folder / "seed_1")]
    assert same_tensors(*weights)
    assert not same_tensors(weights[0], torch.load(swept.folder / "seed_0" / "best.th"))
    for name in ("config.json", "metrics.json", "vocabulary/labels.txt"):
        assert (swept.folder / "seed_1" / name).exists()
    assert read(swept.folder / "seed_1" / "config.json") == read(tmp_path / "config.json")


def test_the_table_is_that_of_the_runs(swept: Swept) -> None:
    result = read(swept.folder / "sweep.json")
    assert result["kind"] == "seed"
    metrics = [read(swept.folder / f"seed_{seed}" / "metrics.json") for seed in (0, 1)]
    assert [run["metrics"] for run in result["runs"]] == metrics
    losses = [each["best_validation_loss"] for each in metrics]
    row = result["summary"]["best_validation_loss"]
    assert row["n"] == 2
    assert row["mean"] == pytest.approx(np.mean(losses))
    assert row["std"] == pytest.approx(np.std(losses, ddof=1))
    assert (row["min"], row["max"]) == (min(losses), max(losses))
    assert f"best_validation_loss    {np.mean(losses):10.4f}" in swept.output
    assert "2 of 2 seeds" in swept.output


def test_runs_at_once_give_the_same_table(
    swept: Swept, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with contextlib.chdir(swept.config.parent):
        sweep(
            *(swept.config, "-s", tmp_path / "runs", "--seeds", 2, "--parallel", 2),
            *("-o", '{"data_loader.batch_size": 3}', "--include-package", "own_callback"),
        )
    expected, found = (read(folder / "sweep.json") for folder in (swept.folder, tmp_path / "runs"))
    assert [run["run"] for run in found["runs"]] == ["seed_0", "seed_1"]
    assert found["summary"] == expected["summary"]
    output = capsys.readouterr().out
    table = swept.output[swept.output.rindex("metric ") :].partition("everything")[0]
    assert table in output
    for line in ("seed_0: training", "seed_1: training", "seed_0: finished", "seed_1: finished"):
        assert output.count(line) == 1


@pytest.mark.exhaustive
def test_runs_on_ray_give_the_same_table(swept: Swept, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with contextlib.chdir(swept.config.parent):
        run_in_process(
            *("sweep", swept.config, "-s", tmp_path / "runs", "--seeds", 2, "--on", "ray"),
            *("-o", '{"data_loader.batch_size": 3}', "--include-package", "own_callback"),
        )
    expected, found = (read(folder / "sweep.json") for folder in (swept.folder, tmp_path / "runs"))
    assert [run["run"] for run in found["runs"]] == ["seed_0", "seed_1"]
    assert found["summary"] == expected["summary"]


def test_another_experiment_needs_another_folder(swept: Swept) -> None:
    arguments = [swept.config, "-s", swept.folder]
    with pytest.raises(InputError, match=r"seed_0.json belongs to another experiment"):
        sweep(*arguments, "--seeds", 2)  # without the overrides
    with pytest.raises(InputError, match="belongs to a sweep with --seeds"):
        sweep(*arguments, "--folds", 2)


def test_folds(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = experiment(
        data,
        trainer__num_epochs=1,
        test_data_path=str(data / "val"),
        evaluate_on_test=True,
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    sweep(tmp_path / "config.json", "-s", tmp_path / "runs", "--folds", 2)
    result = read(tmp_path / "runs" / "sweep.json")
    assert [(run["run"], run["fold"]) for run in result["runs"]] == [("fold_0", 0), ("fold_1", 1)]
    held_out = []
    for fold in (0, 1):
        params = Params.from_file(tmp_path / "runs" / f"fold_{fold}" / "config.json")
        train, validation = read_splits(params)
        paths = [{str(each.image) for each in split.samples} for split in (train, validation)]
        assert [len(each) for each in paths] == [6, 6]
        assert paths[0] | paths[1] == {str(path) for path in data.glob("train/*/*")}
        assert validation.samples.labels() == {"Cat": 3, "Dog": 3}
        held_out.append(paths[1])
    assert held_out[0].isdisjoint(held_out[1])
    assert "2 of 2 folds" in capsys.readouterr().out
    assert not any(key.startswith("test_") for key in result["summary"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", 0], "--seeds is 0; expected at least 1"),
        (["--folds", 1], "--folds is 1"),
        (["--seeds", 2, "--parallel", 0], "--parallel is 0; expected at least 1"),
    ],
)
def test_too_few_runs_are_refused(tmp_path: Path, arguments: List[Any], message: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=message):
        sweep(tmp_path / "config.json", "-s", tmp_path / "runs", *arguments)

"""Train one config several times: with other seeds, or in cross-validation."""

import json
from inspect import signature
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, get_args

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.data.dataset_readers.splits import ImageSplit
from allencv.data.inspection import read_splits
from allencv.experiments.runs import Config, Run, check_folder, check_one_device, train_all
from allencv.runtime.whole_files import write_text
from allencv.training.run_folder import read_json

SHOWN = ("best_validation_", "averaged_validation_", "interpolated_validation_", "test_")
"""Prefixes of the metrics in the summary: those of the final model, not of the last epoch."""


def sweep(
    config: Config,
    folder: Path,
    kind: str,
    count: int,
    include_packages: List[str],
    parallel: int = 1,
    on_ray: bool = False,
) -> List[Dict[str, Any]]:
    """
    Train the config `count` times, each run in its own process and folder. Print a line for each
    run and a table of their metrics, and write `sweep.json` after each run. Runs that an earlier
    call has finished are not repeated.

    # Parameters

    kind : `str`
        "seed" (0, 1, ...), or "fold" of the training data.
    parallel : `int`
        The number of runs at once.
    on_ray : `bool`
        Whether they run on Ray.

    # Returns

    For each run its name, its seed or fold, and its `metrics` or the `error` that ended it.
    """
    if kind == "seed":
        configs = [with_seed(config, seed) for seed in range(count)]
    else:
        configs = [with_fold(config, fold, count) for fold in range(count)]
        check_folds(configs)
    if parallel > 1 or on_ray:
        check_one_device(config)
    done = _finished_runs(folder, kind, configs)
    left: List[Run] = []
    for number, run_config in enumerate(configs):
        if f"{kind}_{number}" in done:
            print(f"{kind}_{number}: finished before", flush=True)
        else:
            run_folder = folder / f"{kind}_{number}"
            left.append(Run(run_config, run_folder, include_packages, parallel == 1 and not on_ray))

    names = [f"{kind}_{number}" for number in range(count)]
    for run_folder, result in train_all(left, min(parallel, len(left)) or 1, on_ray and bool(left)):
        name = run_folder.name
        done[name] = {"run": name, kind: names.index(name), **result}
        if parallel > 1 or on_ray:
            print(f"{name}: {'failed' if 'error' in result else 'finished'}", flush=True)
        _write(folder, kind, [done[each] for each in names if each in done])
    runs = [done[name] for name in names]
    print(as_table(_write(folder, kind, runs), f"of {count} {kind}s"))
    return runs


def _write(folder: Path, kind: str, runs: List[Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """Write `sweep.json`. Return the summary of the runs."""
    summary = summarize(runs)
    content = {"kind": kind, "runs": runs, "summary": summary}
    write_text(folder / "sweep.json", json.dumps(content, indent=2) + "\n")
    return summary


CALIBRATION_KEYS = ("calibration_dataset_reader", "calibration_data_path", "calibration")


def with_seed(config: Config, seed: int) -> Config:
    """Return the config with all seeds replaced."""
    return {**config, "random_seed": seed, "numpy_seed": seed, "pytorch_seed": seed}


def with_fold(config: Config, fold: int, folds: int) -> Config:
    """
    Return the config with one fold of the training data as validation data, and the rest as
    training data. An existing split decides how the folds are made. Test data are removed, because
    AllenNLP would read only a fold of them, with the validation reader. Calibration is removed, as
    its images may be in the training part of a fold.
    """
    removed = ("test_data_path", "evaluate_on_test", *CALIBRATION_KEYS)
    config = {key: value for key, value in config.items() if key not in removed}
    if "train_data_path" not in config or "dataset_reader" not in config:
        raise ConfigurationError("the config has no train_data_path; expected data to divide")
    config["validation_data_path"] = config["train_data_path"]
    split: Config = {"by": "stratified"}
    for key, part in (("dataset_reader", "train"), ("validation_dataset_reader", "validation")):
        reader = config.get(key) or config["dataset_reader"]
        reader = {"type": reader} if isinstance(reader, str) else reader
        _check_splits(key, str(reader.get("type")))
        if key == "dataset_reader" and reader.get("split"):
            split = {k: v for k, v in reader["split"].items() if k in ("by", "seed", "group")}
        config[key] = {**reader, "split": {**split, "part": part, "fold": fold, "folds": folds}}
    return config


def _check_splits(key: str, reader_type: str) -> None:
    parameters = signature(DatasetReader.by_name(reader_type)).parameters
    if "split" not in parameters or ImageSplit not in get_args(parameters["split"].annotation):
        raise ConfigurationError(
            f"{key}.type is '{reader_type}', which cannot divide its images into folds; expected "
            "image_folder, image_table or image_list for --folds"
        )


def check_folds(configs: List[Config]) -> None:
    """
    Print which classes have no image in a fold.

    # Raises

    `ConfigurationError` for a class whose images are all in one fold, with none left to train on.
    """
    for fold, config in enumerate(configs):
        splits = read_splits(Params(json.loads(json.dumps(config))))
        trained, validated = (set(split.samples.labels()) for split in splits)
        if unseen := sorted(validated - trained):
            raise ConfigurationError(
                f"fold {fold} of {len(configs)} has all images of {', '.join(unseen)}, and none is "
                "left to train on; expected two images or more (or groups of them) of each class"
            )
        if missing := sorted(trained - validated):
            print(
                f"warning: fold {fold} of {len(configs)} has no image of {', '.join(missing)}; "
                "its metrics do not cover these classes",
                flush=True,
            )


def _finished_runs(folder: Path, kind: str, configs: List[Config]) -> Dict[str, Dict[str, Any]]:
    """Return the finished runs in the `sweep.json` of an earlier call."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, config in enumerate(configs):
        check_folder(folder / f"{kind}_{number}", config)
    if not (folder / "sweep.json").exists():
        return {}
    before = read_json(folder / "sweep.json")
    if before["kind"] != kind:
        raise ConfigurationError(
            f"{folder / 'sweep.json'} belongs to a sweep with --{before['kind']}s; expected "
            "another folder (--serialization-dir)"
        )
    return {run["run"]: run for run in before["runs"] if "metrics" in run}


def summarize(runs: List[Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """
    Return for each metric `n` (the number of runs that have it), `mean`, `std`, `min` and `max`.
    `std` is the sample standard deviation, with `n - 1`; `None` for one run.
    """
    values: Dict[str, List[float]] = {}
    for run in runs:
        metrics = {
            key: float(value)
            for key, value in run.get("metrics", {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        shown = [key for key in metrics if key.startswith(SHOWN)]
        for key in shown or [key for key in metrics if key.startswith("training_")]:
            values.setdefault(key, []).append(metrics[key])
    return {
        key: {
            "n": len(of_key),
            "mean": mean(of_key),
            "std": stdev(of_key) if len(of_key) > 1 else None,
            "min": min(of_key),
            "max": max(of_key),
        }
        for key, of_key in values.items()
    }


def as_table(summary: Dict[str, Dict[str, Any]], runs: str) -> str:
    """Return the summary as text, a line for each metric. `runs` says what `n` counts."""
    width = max([len("metric"), *map(len, summary)])
    columns = ("mean", "std", "min", "max")
    lines = [f"{'metric':<{width}}" + "".join(f"{column:>10}" for column in columns) + "  n"]
    for key, row in summary.items():
        values = ("-" if row[column] is None else f"{row[column]:.4f}" for column in columns)
        cells = "".join(f"{value:>10}" for value in values)
        lines.append(f"{key:<{width}}{cells}  {row['n']} {runs}")
    return "\n".join(lines)

"""Train one config several times: with other seeds, or in cross-validation."""

import json
import os
import signal
import subprocess
import sys
from inspect import signature
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, Tuple, get_args

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.data.dataset_readers.splits import ImageSplit
from allencv.data.inspection import read_splits
from allencv.runtime.whole_files import write_text
from allencv.training.run_folder import read_json

SHOWN = ("best_validation_", "averaged_validation_", "test_")
"""Prefixes of the metrics in the summary: those of the final model, not of the last epoch."""

Config = Dict[str, Any]


def sweep(
    config: Config, folder: Path, kind: str, count: int, include_packages: List[str]
) -> List[Dict[str, Any]]:
    """
    Train the config `count` times, each run in its own process and folder. Print a line for each
    run and a table of their metrics, and write `sweep.json` after each run. Runs that an earlier
    call has finished are not repeated.

    # Parameters

    kind : `str`
        "seed" (0, 1, ...), or "fold" of the training data.

    # Returns

    For each run its name, its seed or fold, and its `metrics` or the `error` that ended it.
    """
    if kind == "seed":
        configs = [with_seed(config, seed) for seed in range(count)]
    else:
        configs = [with_fold(config, fold, count) for fold in range(count)]
        check_folds(configs)
    finished = _finished_runs(folder, kind, configs)

    runs: List[Dict[str, Any]] = []
    for number, run_config in enumerate(configs):
        name = f"{kind}_{number}"
        if name in finished:
            print(f"{name}: finished before", flush=True)
            runs.append(finished[name])
        else:
            print(f"{name}: training", flush=True)
            result = train(run_config, folder / name, include_packages)
            runs.append({"run": name, kind: number, **result})
        summary = summarize(runs)
        content = {"kind": kind, "runs": runs, "summary": summary}
        write_text(folder / "sweep.json", json.dumps(content, indent=2) + "\n")
    print(as_table(summary, f"of {count} {kind}s"))
    return runs


def with_seed(config: Config, seed: int) -> Config:
    """Return the config with all seeds replaced."""
    return {**config, "random_seed": seed, "numpy_seed": seed, "pytorch_seed": seed}


def with_fold(config: Config, fold: int, folds: int) -> Config:
    """
    Return the config with one fold of the training data as validation data, and the rest as
    training data. An existing split decides how the folds are made. Test data are removed, because
    AllenNLP would read only a fold of them, with the validation reader.
    """
    config = {key: value for key, value in config.items() if key != "test_data_path"}
    config.pop("evaluate_on_test", None)
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
        file = folder / f"{kind}_{number}" / "config.json"
        if file.exists() and read_json(file) != json.loads(json.dumps(config)):
            raise ConfigurationError(
                f"{file} belongs to another experiment; expected the same config and overrides, or "
                "another folder (--serialization-dir)"
            )
    if not (folder / "sweep.json").exists():
        return {}
    before = read_json(folder / "sweep.json")
    if before["kind"] != kind:
        raise ConfigurationError(
            f"{folder / 'sweep.json'} belongs to a sweep with --{before['kind']}s; expected "
            "another folder (--serialization-dir)"
        )
    return {run["run"]: run for run in before["runs"] if "metrics" in run}


def train(config: Config, folder: Path, include_packages: List[str]) -> Dict[str, Any]:
    """
    Train as `allencv train` does, in a process of its own. Return the `metrics` of the run, or
    the `error` that ended it.
    """
    config_file = folder.with_suffix(".json")
    write_text(config_file, json.dumps(config, indent=2) + "\n")
    command = [sys.executable, "-m", "allencv", "train", str(config_file), "-s", str(folder)]
    if folder.exists():
        begun = any(folder.glob("training_state_*.th"))
        command.append("--recover" if begun else "--force")
    for package in include_packages:
        command += ["--include-package", package]
    status, last_line = _run(command)
    if status < 0:
        return {"error": f"killed by {signal.Signals(-status).name}"}
    if status:
        return {"error": last_line or f"exit status {status}"}
    return {"metrics": json.loads((folder / "metrics.json").read_text())}


def _run(command: List[str]) -> Tuple[int, str]:
    """Run a command and show its errors. Return its status and the last error line."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, bufsize=0)
    shown = b""
    try:
        while chunk := os.read(process.stderr.fileno(), 1 << 16):  # type: ignore[union-attr]
            sys.stderr.write(chunk.decode(errors="replace"))
            sys.stderr.flush()
            shown = (shown + chunk)[-4000:]
        status = process.wait()
    finally:
        process.terminate()  # no effect if it has ended
        process.wait()
    lines = [line for line in shown.decode(errors="replace").splitlines() if line.strip()]
    return status, lines[-1].strip() if lines else ""


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

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from allennlp.common.checks import ConfigurationError

from allencv.predictions.predictions_file import FOLDER, Predictions
from allencv.runtime.json_files import read_json

SPLITS = ("test", "validation")
"""The splits that may have predictions, in the order of the report."""
DURATION = re.compile(r"(?:(\d+) days?, )?(\d+):(\d+):(\d+(?:\.\d+)?)")
SEEDS = {"random_seed": 13370, "numpy_seed": 1337, "pytorch_seed": 133}
"""AllenNLP's default seeds."""


@dataclass
class Run:
    """
    The contents of a run's folder. Missing files are empty or `None`.

    `epochs` are the contents of `metrics_epoch_*.json` in order, `about` is `predictions/run.json`,
    and `metrics` is `metrics.json`, which training writes at its end.
    """

    folder: Path
    config: Dict[str, Any]
    metrics: Dict[str, Any]
    epochs: List[Dict[str, Any]]
    about: Dict[str, Any]
    predictions: Dict[str, Predictions]
    started: Optional[datetime] = None

    @property
    def is_finished(self) -> bool:
        return bool(self.metrics)

    @property
    def best_epoch(self) -> Optional[int]:
        """Return the best epoch, counted from 0 as in the files of AllenNLP."""
        last = self.metrics or (self.epochs[-1] if self.epochs else {})
        return last.get("best_epoch")

    @property
    def seeds(self) -> Dict[str, Any]:
        return {key: self.config.get(key, default) for key, default in SEEDS.items()}

    def epoch_seconds(self) -> List[float]:
        """Return the time of each epoch, with its validation. The files hold running totals."""
        sums = [_seconds(epoch.get("training_duration")) for epoch in self.epochs]
        # The total starts at 0 again when a run is recovered.
        return [
            end - begin if end > begin else end for begin, end in zip([0.0, *sums], sums) if end > 0
        ]


def read_run(folder: Union[str, Path]) -> Run:
    """
    Read the folder of a run, without running its code or reading images.

    # Raises

    `ConfigurationError` if it is not the folder of a run, or if its predictions are damaged.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ConfigurationError(
            f"'{folder}' is a file; expected the folder of a run, such as '{folder.parent}'"
        )
    if not folder.is_dir():
        raise ConfigurationError(f"no folder of a run at '{folder}'")
    config = _read_json(folder / "config.json")
    if not config:
        raise ConfigurationError(
            f"'{folder}' is not the folder of a run: it has no config.json; expected the "
            "--serialization-dir of 'allencv train'"
        )
    files = sorted(folder.glob("metrics_epoch_*.json"), key=lambda file: _number(file.stem))
    epochs = [content for content in map(_read_json, files) if content]
    predictions = {}
    for split in SPLITS:
        file = folder / FOLDER / f"{split}.npz"
        if file.exists():
            try:
                predictions[split] = Predictions.load(file)
            except ValueError as error:
                raise ConfigurationError(
                    f"{error}; remove the file, or write it again with --evaluate"
                ) from None
    return Run(
        folder,
        config,
        _read_json(folder / "metrics.json"),
        epochs,
        _read_json(folder / FOLDER / "run.json"),
        predictions,
        _started(folder / "out.log"),
    )


def _read_json(path: Path) -> Dict[str, Any]:
    """Return the content of a file, or {} if it is missing or truncated, as in a killed run."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _number(name: str) -> int:
    digits = name.rsplit("_", 1)[-1]
    return int(digits) if digits.isdecimal() else -1


def _seconds(duration: object) -> float:
    match = DURATION.fullmatch(str(duration))
    if match is None:
        return 0.0
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _started(log: Path) -> Optional[datetime]:
    """Read the time from the first line of a log."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            return datetime.strptime(file.readline()[:19], "%Y-%m-%d %H:%M:%S")
    except (OSError, ValueError):
        return None

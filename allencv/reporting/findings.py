"""Everything that the report of a run says, before any of it is made into text or charts."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from allencv.reporting.certainty_findings import CertaintyFindings, read_certainty_findings
from allencv.reporting.run_facts import config_facts, network
from allencv.reporting.run_folder import Run
from allencv.reporting.split_findings import SplitFindings, split_findings

MOST_CURVES = 9
NOT_CURVES = ("_memory_MB", "duration")
NAMELESS = re.compile(
    r"(runs?|out|output|models?|results?|exp|experiment|train|training|seed|fold|trial|version)?"
    r"[\d\W_]*",
    re.IGNORECASE,
)
"""Names of folders that say little without the folder around them, such as "run" and "seed_3"."""


HEAD = "linear_head"
"""The type of the trainer that fits only the last layer."""


@dataclass
class Curve:
    """The values of a metric, each with its epoch. Epochs count from 1."""

    metric: str
    training: List[Tuple[int, float]]
    validation: List[Tuple[int, float]]


@dataclass
class Speed:
    """How long training took and what it used."""

    epoch_seconds: List[float]
    """The time of each epoch, with its validation."""
    images_per_second: Optional[float]
    device: Optional[str]
    processes: Optional[int]
    threads: Optional[int]
    peak_memory: Dict[str, float]
    """In MB, by process or GPU."""


@dataclass
class ComparedImages:
    """
    Which training images the pictured mistakes were compared with.

    # Parameters

    count : the number of training images.
    errors : why other images could not be compared, training images or mistakes, by their names.
    problem : why nothing was compared, or "".
    """

    count: int = 0
    errors: Dict[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass
class Findings:
    """
    Everything that the report of a run says. Fields are empty or `None` if the files of the run do
    not have the facts.
    """

    name: str
    network: str
    started: Optional[datetime]
    is_finished: bool
    has_run_json: bool
    epochs: int
    """The number of completed epochs."""
    planned_epochs: Optional[int]
    best_epoch: Optional[int]
    """Epochs count from 1."""
    train_images: Optional[int]
    train_labels: List[Tuple[str, int]]
    """Each label with its number of training images, the largest first."""
    splits: List[SplitFindings]
    curves: List[Curve]
    """The loss first, then the metric that chose the best epoch."""
    speed: Optional[Speed]
    facts: Dict[str, str]
    """What the config and `predictions/run.json` say about the training."""
    config: Dict[str, Any]
    metrics: Dict[str, Any]
    head: Optional[str] = None
    """The kind of head, if only the last layer was fitted, without epochs."""
    certainty: Optional[CertaintyFindings] = None
    """Set if the run has been calibrated."""
    compared: Optional[ComparedImages] = None
    """Set if the training images that are similar to the mistakes were searched."""

    @property
    def num_labels(self) -> int:
        return len(self.splits[0].labels) if self.splits else len(self.train_labels)


def run_findings(run: Run) -> Findings:
    """Compute all findings. The bootstrap takes most of the time."""
    train, trainer = run.about.get("train", {}), run.config.get("trainer", {})
    head = trainer.get("kind", "logistic_regression") if trainer.get("type") == HEAD else None
    return Findings(
        name=run_name(run.folder),
        network=network(run),
        started=run.started,
        is_finished=run.is_finished,
        has_run_json=bool(run.about),
        epochs=len(run.epochs),
        planned_epochs=trainer.get("num_epochs"),
        best_epoch=None if run.best_epoch is None else run.best_epoch + 1,
        train_images=train.get("images"),
        train_labels=sorted(
            train.get("labels", {}).items(), key=lambda counted: (-counted[1], counted)
        ),
        splits=[split_findings(name, found) for name, found in run.predictions.items()],
        curves=[] if head else _curves(run),
        speed=None if head else _speed(run),
        facts=dict(config_facts(run)),
        config=run.config,
        metrics=run.metrics,
        head=head and head.replace("_", " "),
        certainty=read_certainty_findings(run.folder),
    )


def run_name(folder: Path) -> str:
    """Return the name of a run's folder. If it says little, the folders around it come first."""
    *around, name = folder.resolve().parts[-3:]
    while around and NAMELESS.fullmatch(name.partition("/")[0]):
        name = f"{around.pop()}/{name}"
    return name.lstrip("/")


def _curves(run: Run) -> List[Curve]:
    names: Dict[str, None] = {}
    for epoch in run.epochs:
        for key, value in epoch.items():
            kind, _, name = key.partition("_")
            is_curve = kind in ("training", "validation") and not name.endswith(NOT_CURVES)
            if is_curve and _is_number(value):
                names.setdefault(name)
    chosen = str(run.config.get("trainer", {}).get("validation_metric", "-loss")).lstrip("+-")
    ordered = sorted(names, key=lambda name: (name != "loss", name != chosen, "_" in name))
    return [
        Curve(
            name.replace("_", " "),
            _points(run, f"training_{name}"),
            _points(run, f"validation_{name}"),
        )
        for name in ordered[:MOST_CURVES]
    ]


def _points(run: Run, key: str) -> List[Tuple[int, float]]:
    return [
        (int(epoch.get("epoch", index)) + 1, float(epoch[key]))
        for index, epoch in enumerate(run.epochs)
        if _is_number(epoch.get(key))
    ]


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < float("inf")


def _speed(run: Run) -> Optional[Speed]:
    seconds, images = run.epoch_seconds(), run.about.get("train", {}).get("images")
    if not seconds:
        return None
    return Speed(
        epoch_seconds=seconds,
        images_per_second=images * len(seconds) / sum(seconds) if images else None,
        device=run.about.get("device"),
        processes=run.about.get("processes"),
        threads=run.about.get("threads"),
        peak_memory={
            key[len("peak_") : -len("_memory_MB")].replace("_", " "): value
            for key, value in run.metrics.items()
            if key.startswith("peak_") and key.endswith("_memory_MB") and value
        },
    )

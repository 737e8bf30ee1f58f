"""The page that `allencv report` writes: how a run went, and why to trust its model, or not."""

import json
from typing import Any, Dict, Iterator, List, Tuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import allencv
from allencv.reporting.charts import Line, line_chart
from allencv.reporting.overlays import color_bar, data_uri
from allencv.reporting.run_facts import (
    duration,
    fact_rows,
    images_per_second,
    network,
    speed_rows,
)
from allencv.reporting.run_folder import Run
from allencv.reporting.scores import Score, summary_scores
from allencv.reporting.split_section import Section, percent, split_section
from allencv.reporting.styles import TEMPLATES, read_style

MOST_CURVES = 9
NOT_CURVES = ("_memory_MB", "_duration")
IN_PERCENT = (
    "accuracy",
    "balanced accuracy",
    "top-5 accuracy",
    "images without a mistake",
)
"""The metrics that are shares of the images; others are numbers from 0 to 1, or losses."""


def as_html(run: Run) -> str:
    """A page of HTML that needs no other file."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scores = {split: summary_scores(found) for split, found in run.predictions.items()}
    splits = [split_section(split, found) for split, found in run.predictions.items()]
    curves = _curves(run)
    speed = speed_rows(run)
    main = next(iter(run.predictions.values()), None)
    style = read_style("style.css", "report.css")
    return environment.get_template("report.html").render(
        title=f"Report of {run.folder.resolve().name}",
        style=style,
        lead=_lead(run),
        tiles=list(_tiles(run, scores, splits)),
        notes=list(_notes(run)),
        contents=_contents(scores, curves, splits, speed),
        scores=_score_table(scores),
        curves=curves,
        best_epoch=run.best_epoch,
        splits=splits,
        multi_label=main is not None and main.multi_label,
        color_bar=data_uri(color_bar(), None),
        speed=speed,
        facts=list(fact_rows(run)),
        train_labels=sorted(
            run.about.get("train", {}).get("labels", {}).items(), key=lambda item: (-item[1], item)
        ),
        config=json.dumps(run.config, indent=2),
        metrics=json.dumps(run.metrics, indent=2) if run.metrics else "",
        version=allencv.__version__,
        folder=run.folder.resolve().name,
    )


def _lead(run: Run) -> str:
    train = run.about.get("train", {})
    images = f"{train['images']:,} images" if train.get("images") else "images"
    labels = next((len(found.labels) for found in run.predictions.values()), None)
    labels = labels or len(train.get("labels", {}))
    of_labels = f" of {labels} labels" if labels else ""
    planned = run.config.get("trainer", {}).get("num_epochs")
    epochs = f"{len(run.epochs)} epoch{'s' if len(run.epochs) != 1 else ''}"
    if planned and planned != len(run.epochs):
        epochs = f"{len(run.epochs)} of {planned} epochs"
    begin = f", begun on {run.started.day} {run.started:%B %Y at %H:%M}" if run.started else ""
    return f"{network(run)}, trained on {images}{of_labels} for {epochs}{begin}."


def _notes(run: Run) -> Iterator[str]:
    if not run.is_finished:
        yield (
            "Training has not ended: there is no metrics.json. The numbers are those of the epochs "
            "that were completed. 'allencv train --recover' goes on with it."
        )
    if not run.predictions:
        yield (
            "There are no predictions for single images in this run's folder, which training "
            "writes at its end (predictions/validation.npz). So intervals, the table of labels, "
            "calibration and pictures are missing. 'allencv report RUN --evaluate' makes up for "
            "it where the model and the images are at hand."
        )
    if not run.about:
        yield (
            "Which versions and how many training images were used is not known: the run has no "
            "predictions/run.json, which training writes when it starts."
        )


def _tiles(
    run: Run, scores: Dict[str, List[Score]], splits: List[Section]
) -> Iterator[Dict[str, str]]:
    for split, found in list(scores.items())[:1]:
        for score in (each for each in found if each is found[0] or each.name == "macro F1"):
            yield {
                "name": f"{split} {score.name}",
                "value": _shown(score.name, score.value),
                "detail": _interval(score),
            }
        yield {
            "name": "calibration error",
            "value": percent(splits[0]["calibration_error"]),
            "detail": "0 is best",
        }
    seconds = run.epoch_seconds()
    if seconds:
        yield {
            "name": "training time",
            "value": duration(sum(seconds)),
            "detail": f"{duration(sum(seconds) / len(seconds))} an epoch",
        }
    speed = images_per_second(run)
    if speed:
        yield {"name": "speed", "value": f"{speed:,.0f}", "detail": "training images a second"}


def _contents(
    scores: Dict[str, List[Score]],
    curves: List[Section],
    splits: List[Section],
    speed: List[Tuple[str, str]],
) -> List[Tuple[str, List[Tuple[str, str]]]]:
    """The links of the page, in rows with titles where there are several splits."""
    before = [("results", "Results")] * bool(scores) + [("learning", "Learning curves")] * bool(
        curves
    )
    after = [("speed", "Speed")] * bool(speed) + [("training", "What was trained")]
    of_splits = []
    for split in splits:
        sections = [("labels", "Labels")]
        sections += [("confusion", "Confusion")] * bool(split["matrix"])
        sections += [("confused", "Confusion")] * bool(split["confused"])
        sections += [("calibration", "Calibration")]
        sections += [(section["id"], section["short"]) for section in split["sections"]]
        of_splits.append([(f"{split['name']}-{id}", name) for id, name in sections])
    if len(splits) < 2:
        return [("", [*before, *(link for links in of_splits for link in links), *after])]
    titles = [split["name"].capitalize() for split in splits]
    return [("", [*before, *after]), *zip(titles, of_splits)]


def _score_table(scores: Dict[str, List[Score]]) -> List[Tuple[str, List[Dict[str, str]]]]:
    rows: Dict[str, List[Dict[str, str]]] = {}
    for found in scores.values():
        for score in found:
            cell = {"value": _shown(score.name, score.value), "interval": _interval(score)}
            rows.setdefault(score.name, []).append(cell)
    return list(rows.items())


def _shown(name: str, value: float) -> str:
    return percent(value) if name in IN_PERCENT else f"{value:.3f}"


def _interval(score: Score) -> str:
    low, high = _shown(score.name, score.low), _shown(score.name, score.high)
    return f"{low.removesuffix(' %')} to {high}"


def _curves(run: Run) -> List[Section]:
    """A chart for each metric of the epochs: the loss first, then the one that chose the best."""
    names: Dict[str, None] = {}
    for epoch in run.epochs:
        for key, value in epoch.items():
            kind, _, name = key.partition("_")
            is_curve = kind in ("training", "validation") and not name.endswith(NOT_CURVES)
            if is_curve and name != "duration" and _is_number(value):
                names.setdefault(name)
    chosen = str(run.config.get("trainer", {}).get("validation_metric", "-loss")).lstrip("+-")
    ordered = sorted(names, key=lambda name: (name != "loss", name != chosen, "_" in name))
    return [
        {"name": name.replace("_", " "), "chart": _curve(run, name)}
        for name in ordered[:MOST_CURVES]
    ]


def _curve(run: Run, name: str) -> Markup:
    lines = []
    for kind in ("training", "validation"):
        points = [
            (float(epoch.get("epoch", number)), float(epoch[f"{kind}_{name}"]))
            for number, epoch in enumerate(run.epochs)
            if _is_number(epoch.get(f"{kind}_{name}"))
        ]
        if points:
            lines.append(Line(kind, points))
    epochs = {x for line in lines for x, _ in line.points}
    marked = run.best_epoch if run.best_epoch in epochs else None
    return line_chart(f"{name} of each epoch", lines, "epoch", marked)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and abs(value) < float("inf")

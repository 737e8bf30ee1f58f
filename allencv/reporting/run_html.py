"""The page of `allencv report`: the findings about a run as text, tables, charts and pictures."""

import json
from typing import Collection, Dict, Iterator, List, NamedTuple, Optional, Tuple

from markupsafe import Markup

import allencv
from allencv.certainty.reliability import BINS
from allencv.predictions.predictions_file import Picture
from allencv.reporting.charts import count_chart, line_chart, reliability_chart
from allencv.reporting.findings import Curve, Findings, Speed
from allencv.reporting.overlays import color_bar, data_uri, enlarged, open_jpeg, overlaid
from allencv.reporting.page_templates import page_environment
from allencv.reporting.scores import LabelScores, Score
from allencv.reporting.split_findings import ImageFinding, SplitFindings
from allencv.reporting.thumbnails import QUALITY

MOST_LABELS, MOST_IN_MATRIX = 60, 20
"""The most rows of the table of labels, and the most labels of a confusion matrix."""
FIRST_LABELS, FIRST_PICTURES = 10, 4
"""The rows of the table of labels, and the pictures of a kind, that are not folded away."""
SECTIONS = (
    *("overview", "learning", "labels", "confusion", "calibration", "mistakes", "hits"),
    *("certainty", "setup"),
)
"""The parts of the page. "hits" are correct predictions and likely label errors."""
MOST_ERRORS = 200
"""The most images that are listed because they cannot be compared."""
SMALL = 200
"""Pictures are enlarged up to this number of pixels."""
PERCENT = "\N{NO-BREAK SPACE}%"
NOT_IN_PERCENT = ("log loss",)
"""The metrics that are not scores from 0 to 1."""


class ConfusionMatrix(NamedTuple):
    """The rows and columns of a confusion matrix that are not all 0, and the other labels."""

    columns: List[str]
    rows: List[Tuple[str, List[int]]]
    without_row: List[str]
    without_column: List[str]


def as_html(findings: Findings, sections: Collection[str] = SECTIONS) -> str:
    """Return a page of HTML with these sections. It needs no other file."""
    environment = page_environment()
    environment.filters |= {
        "percent": percent,
        "duration": duration,
        "score": score_text,
        "interval": interval_text,
        "summary": summary,
        "score_columns": score_columns,
        "speed_rows": speed_rows,
        "comparison": comparison,
        "picture_uris": picture_uris,
        "thumbnail_uri": lambda picture: data_uri(picture, QUALITY),
        "jpeg_uri": jpeg_uri,
        "range": lambda values: range_text(percent(values[1]), percent(values[2])),
        "json": lambda content: json.dumps(content, indent=2),
    }
    return environment.get_template("report.html").render(
        findings=findings,
        sections=sections,
        confusion_matrix=confusion_matrix,
        curve_chart=curve_chart,
        reliability_chart=reliability_chart,
        count_chart=count_chart,
        line_chart=line_chart,
        color_bar=data_uri(color_bar(), None),
        most_labels=MOST_LABELS,
        most_in_matrix=MOST_IN_MATRIX,
        first_labels=FIRST_LABELS,
        first_pictures=FIRST_PICTURES,
        bins=BINS,
        most_errors=MOST_ERRORS,
        version=allencv.__version__,
    )


def summary(findings: Findings) -> str:
    """Return a sentence such as "resnet18, trained on 24 images with 3 labels for 4 epochs."."""
    images = f"{findings.train_images:,} images" if findings.train_images else "images"
    labels = f" with {findings.num_labels:,} labels" if findings.num_labels else ""
    epochs = f"{findings.epochs} epoch{'s' if findings.epochs != 1 else ''}"
    if findings.planned_epochs and findings.planned_epochs != findings.epochs:
        epochs = f"{findings.epochs} of {findings.planned_epochs} epochs"
    start = findings.started
    started = f", started on {start.day} {start:%B %Y at %H:%M}" if start else ""
    if findings.head:
        return f"{findings.network}, frozen: {findings.head} fitted on {images}{labels}{started}."
    return f"{findings.network}, trained on {images}{labels} for {epochs}{started}."


def speed_rows(speed: Speed) -> Iterator[Tuple[str, str]]:
    """Yield the names and the texts of the table about speed."""
    low, high = duration(min(speed.epoch_seconds)), duration(max(speed.epoch_seconds))
    yield "all epochs", duration(sum(speed.epoch_seconds))
    yield "one epoch, with validation", low if low == high else f"{low} to {high}"
    if speed.images_per_second:
        yield (
            "training images per second",
            f"{speed.images_per_second:,.0f} (including the time of validation)",
        )
    if speed.device:
        yield "device", speed.device
        yield "processes and threads", f"{speed.processes}, {speed.threads}"
    for place, megabytes in speed.peak_memory.items():
        yield f"peak memory, {place}", f"{megabytes:,.0f} MB"


def percent(value: float) -> str:
    return f"{100 * value:.1f}{PERCENT}"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def score_text(value: float, name: str) -> str:
    return f"{value:.3f}" if name in NOT_IN_PERCENT else percent(value)


def interval_text(score: Score) -> str:
    return range_text(score_text(score.low, score.name), score_text(score.high, score.name))


def range_text(low: str, high: str) -> str:
    return f"{low.removesuffix(PERCENT)} to {high}"


def score_columns(scores: LabelScores) -> Dict[str, str]:
    """Return the title and the text of each column of the table of labels."""
    columns: Dict[str, Optional[float]] = {
        "average precision": scores.average_precision,
        "precision": scores.precision,
        "recall": scores.recall,
        "F1": scores.f1,
    }
    threshold = {} if scores.threshold is None else {"threshold": f"{scores.threshold:.2f}"}
    # A label without images has no scores.
    return threshold | {
        name: percent(value) if scores.images else ""
        for name, value in columns.items()
        if value is not None
    }


def comparison(found: ImageFinding) -> str:
    """Return what to compare a label and its probability with."""
    if found.threshold is not None:
        is_true = "" if found.is_true else "not "
        return f"threshold {percent(found.threshold)}, labelled {is_true}{found.label}"
    word = "second" if found.is_true else "labelled"
    return f"{word}: {found.other_label}, {percent(found.other_probability)}"


def picture_uris(picture: Picture) -> Tuple[str, Optional[str]]:
    """Return the `data:` URIs of a picture and of its map."""
    opened = enlarged(open_jpeg(picture.jpeg), SMALL)
    shown_map = None if picture.heat is None else data_uri(overlaid(opened, picture.heat))
    return data_uri(opened), shown_map


def jpeg_uri(jpeg: bytes) -> str:
    """Return the `data:` URI of a small JPEG file."""
    return data_uri(enlarged(open_jpeg(jpeg), SMALL), QUALITY)


def curve_chart(curve: Curve, best_epoch: Optional[int]) -> Markup:
    lines = {
        kind: points
        for kind, points in (("training", curve.training), ("validation", curve.validation))
        if points
    }
    return line_chart(f"{curve.metric} by epoch", lines, "epoch", best_epoch)


def confusion_matrix(split: SplitFindings) -> ConfusionMatrix:
    names, counts = split.confusion_labels, split.confusion
    has_row, has_column = counts.sum(axis=1) > 0, counts.sum(axis=0) > 0
    return ConfusionMatrix(
        columns=[name for name, is_there in zip(names, has_column) if is_there],
        rows=[
            (name, row[has_column].tolist())
            for name, row, is_there in zip(names, counts, has_row)
            if is_there
        ],
        without_row=[name for name, is_there in zip(names, has_row) if not is_there],
        without_column=[name for name, is_there in zip(names, has_column) if not is_there],
    )

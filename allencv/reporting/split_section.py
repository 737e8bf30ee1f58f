"""What the report says about the images of one split."""

from itertools import takewhile
from pathlib import PurePath
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from PIL import Image

from allencv.predictions.predictions_file import (
    Predictions,
    Shown,
    confident_mistakes,
    likely_label_errors,
    unsure_hits,
)
from allencv.reporting.charts import count_chart, reliability_chart
from allencv.reporting.overlays import data_uri, open_jpeg, overlaid
from allencv.reporting.scores import (
    BINS,
    calibration,
    calibration_error,
    confusions,
    label_rows,
)

MOST_LABELS, MOST_IN_MATRIX, MOST_CONFUSED, MOST_LISTED = 60, 20, 20, 200
"""Rows of the table of labels; labels of a matrix; pairs of labels; images of a list."""
TINY = 100
"""Pixels of a picture that is enlarged without being smoothed."""

Section = Dict[str, Any]


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def split_section(split: str, predictions: Predictions) -> Section:
    """The values that the template takes for a split."""
    bins = calibration(predictions)
    error = calibration_error(bins)
    rows, more_rows = _label_table(predictions)
    columns = ["images", "precision", "recall", "F1"]
    if predictions.multi_label:
        columns = ["images", "threshold", "average precision", "precision", "recall", "F1"]
    matrix, confused = _confusion(predictions)
    multi_label = predictions.multi_label
    axis = "probability" if multi_label else "probability of the label that is given"
    return {
        "name": split,
        "count": f"{len(predictions.names):,}",
        "columns": columns,
        "rows": rows,
        "more_rows": more_rows,
        "matrix": matrix,
        "confused": confused,
        "calibration_error": error,
        "calibration_text": (
            "Of the predictions of 80 %, 80 % should be right. Bars are how many are, and dots "
            "stand at the mean probability of their bin: below the dashed line the model is too "
            f"sure, above it too unsure. The expected calibration error, over {BINS} bins, is "
            f"{percent(error)}."
        ),
        "reliability_title": "Share that is there" if multi_label else "Share that is right",
        "reliability": reliability_chart(bins, axis),
        "counts": count_chart(bins, axis),
        "has_maps": any(each.heat is not None for each in predictions.pictures.values()),
        "sections": [_mistakes(predictions), _hits(predictions), _label_errors(predictions)],
    }


def _label_table(predictions: Predictions) -> Tuple[List[Section], int]:
    keys = ["precision", "recall", "f1"]
    if predictions.multi_label:
        keys = ["average_precision", *keys]
    found = sorted(zip(predictions.labels, label_rows(predictions)), key=lambda row: row[1]["f1"])
    more = max(len(found) - MOST_LABELS, 0)
    if more:
        half = MOST_LABELS // 2
        found = [*found[:half], *found[-half:]]
    rows = []
    for label, numbers in found:
        # Of a label without images there is nothing to say.
        is_there = numbers["support"] > 0
        cells = [f"{int(numbers['support']):,}"]
        if predictions.multi_label:
            cells.append(f"{numbers['threshold']:.2f}")
        cells += [percent(numbers[key]) if is_there else "" for key in keys]
        rows.append({"label": label, "cells": cells, "bar": round(100 * numbers["f1"], 1)})
    return rows, more


def _confusion(predictions: Predictions) -> Tuple[List[Section], List[Tuple[str, ...]]]:
    """A matrix, or of very many labels those that are confused most."""
    if predictions.multi_label:
        return [], []
    order = sorted(range(len(predictions.labels)), key=predictions.labels.__getitem__)
    labels = [predictions.labels[index] for index in order]
    counts = confusions(predictions)[np.ix_(order, order)]
    totals = np.maximum(counts.sum(1), 1)
    if len(labels) <= MOST_IN_MATRIX:
        return [
            {
                "label": label,
                "cells": [
                    {"count": int(count), "shade": round(0.08 + 0.6 * count / total, 3)}
                    for count in row
                ],
            }
            for label, row, total in zip(labels, counts, totals)
        ], []
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(place), len(labels)) for place in most]
    return [], [
        (labels[true], labels[given], f"{counts[true, given]:,}", percent(c / totals[true]))
        for true, given in pairs
        if (c := counts[true, given]) > 0
    ]


def _mistakes(predictions: Predictions) -> Section:
    shown = confident_mistakes(predictions)
    total = len(predictions.names)
    text = f"{len(shown):,} of {total:,} images are given a wrong label."
    if predictions.multi_label:
        text = f"{len(shown):,} of {predictions.probs.size:,} decisions are wrong."
    section = {"id": "mistakes", "title": "Most confident mistakes", "short": "Mistakes"}
    return section | _images(predictions, shown, text if shown else "There is no mistake.")


def _hits(predictions: Predictions) -> Section:
    shown = unsure_hits(predictions)
    text = "Labels that were rightly given, but only just."
    section = {"id": "hits", "title": "Least sure hits", "short": "Close hits"}
    images = _images(predictions, shown, text if shown else "No label was rightly given.")
    return section | images | {"rows": []}


def _label_errors(predictions: Predictions) -> Section:
    shown = likely_label_errors(predictions)
    text = "By confident learning (Northcutt et al. 2021) no label is likely to be wrong."
    if shown:
        text = (
            f"{len(shown):,} label{'s are' if len(shown) != 1 else ' is'} worth a second look: by "
            "confident learning (Northcutt et al. 2021) the images rather belong to another label. "
            "Some of these will be mistakes of the model, and some of the data."
        )
    section = {"id": "label-errors", "title": "Likely label errors", "short": "Label errors"}
    return section | _images(predictions, shown, text)


def _images(predictions: Predictions, shown: Sequence[Shown], text: str) -> Section:
    """The pictures that there are of some predictions, from the first on, and a list of them."""
    pictured = list(takewhile(lambda each: each in predictions.pictures, shown))
    if pictured and len(pictured) < len(shown):
        text += f" These are the first {len(pictured)} of them."
    elif shown and not pictured:
        text += " The run has no pictures of them."
    return {
        "text": text,
        "pictures": [_picture(predictions, each) for each in pictured],
        "columns": ["image", "true", "predicted", "probability"],
        "rows": [_row(predictions, each) for each in shown[:MOST_LISTED]],
    }


def _picture(predictions: Predictions, shown: Shown) -> Section:
    picture = predictions.pictures[shown]
    opened = open_jpeg(picture.jpeg)
    if max(opened.size) < TINY:
        factor = -(-2 * TINY // max(opened.size))
        size = (factor * opened.width, factor * opened.height)
        opened = opened.resize(size, Image.Resampling.NEAREST)
    label = predictions.labels[shown[1]]
    return {
        "picture": data_uri(opened),
        "map": None if picture.heat is None else data_uri(overlaid(opened, picture.heat)),
        "name": _short(predictions.names[shown[0]]),
        "label": label,
        "caption": _caption(predictions, shown),
    }


def _caption(predictions: Predictions, shown: Shown) -> Tuple[str, str]:
    """The label that was given with its probability, and what there is to compare it with."""
    image, label = shown
    probs = predictions.probs[image]
    name, prob = predictions.labels[label], percent(float(probs[label]))
    if predictions.thresholds is not None:
        threshold = percent(float(predictions.thresholds[label]))
        is_there = "" if predictions.targets[image, label] else "not "
        return f"{name}, {prob}", f"threshold {threshold}, labelled {is_there}{name}"
    true = int(predictions.targets[image])
    if label != true:
        own = percent(float(probs[true]))
        return f"{name}, {prob}", f"labelled {predictions.labels[true]}, which gets {own}"
    second = int(probs.argsort()[-2])
    next_prob = percent(float(probs[second]))
    return f"{name}, {prob}", f"next is {predictions.labels[second]}, {next_prob}"


def _row(predictions: Predictions, shown: Shown) -> List[str]:
    image, label = shown
    prob = percent(float(predictions.probs[image, label]))
    if predictions.multi_label:
        name = predictions.labels[label]
        given, true = predictions.given[image, label], predictions.targets[image, label]
        return [
            predictions.names[image],
            name if true else f"not {name}",
            name if given else f"not {name}",
            prob,
        ]
    true = predictions.labels[int(predictions.targets[image])]
    return [predictions.names[image], true, predictions.labels[label], prob]


def _short(name: str) -> str:
    """The end of a path: its folder and the name of the file."""
    return "/".join(PurePath(name).parts[-2:]) if name else ""

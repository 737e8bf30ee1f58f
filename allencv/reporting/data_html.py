"""The page that `allencv check-data` writes: what is wrong with the data, and the images of it."""

from html import escape
from itertools import groupby
from typing import Dict, Iterable, List, Sequence

from PIL import Image

from allencv.data.fields.image_field import load_image
from allencv.data.inspection import CheckedImage, Split, as_bytes
from allencv.data.problems import KINDS, Problem, imbalance
from allencv.data.remote import relative
from allencv.reporting.data_text import class_counts, number_of
from allencv.reporting.overlays import data_uri
from allencv.reporting.styles import read_style

SIDE, MOST_PROBLEMS, MOST_IMAGES, MOST_CLASSES = 128, 20, 8, 50
"""Pixels of a thumbnail; problems of a kind, images of a problem, and classes that are shown."""


def as_html(title: str, splits: Sequence[Split], problems: Sequence[Problem]) -> str:
    """A page of HTML that needs no other file."""
    by_name = {split.name: split for split in splits}
    kinds = {kind: list(group) for kind, group in groupby(problems, lambda each: each.kind)}
    contents = "".join(
        f'<li>{_mark(kind)} <a href="#{kind}">{escape(KINDS[kind].title)}</a> ({len(found)})</li>'
        for kind, found in kinds.items()
    )
    sections = "".join(_section(kind, found, by_name) for kind, found in kinds.items())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Data of {escape(title)}</title><style>"
        f"{read_style('style.css', 'data.css')}</style></head>\n<body>"
        f"<h1>Data of {escape(title)}</h1>\n<p>{_verdict(problems)}</p>\n<ul>{contents}</ul>\n"
        f"{_splits(splits)}\n{_classes(splits)}\n{sections}</body></html>\n"
    )


def _verdict(problems: Sequence[Problem]) -> str:
    if not problems:
        return "Nothing is wrong with these images and labels."
    is_fatal = any(KINDS[problem.kind].is_fatal for problem in problems)
    end = ". Training on them would fail or mislead." if is_fatal else "."
    return f"{number_of(problems)}{end}"


def _mark(kind: str) -> str:
    mark = "error" if KINDS[kind].is_fatal else "warning"
    return f'<b class="kind {mark}">{mark}</b>'


def _splits(splits: Sequence[Split]) -> str:
    rows = []
    for split in splits:
        counts = split.samples.labels()
        ratio = f"{imbalance(counts):.3g}" if counts else "-"
        rows.append([split.name, len(split.samples), len(counts), ratio, str(split.path)])
    return _table(["split", "images", "classes", "largest / smallest", "path"], rows, range(1, 4))


def _classes(splits: Sequence[Split]) -> str:
    counts = class_counts(splits)
    if not counts:
        return ""
    names = [split.name for split in splits]
    rows: List[Sequence[object]] = [[label, *of_splits] for label, of_splits in counts]
    if len(rows) > MOST_CLASSES:
        half = MOST_CLASSES // 2
        between = f"({len(rows) - MOST_CLASSES} more, in the JSON file)"
        rows = [*rows[:half], [between, *("" for _ in names)], *rows[-half:]]
    largest = max(count for _, of_splits in counts for count in of_splits)
    return _table(["class", *names], rows, range(1, len(names) + 1), largest)


def _table(
    head: Sequence[str], rows: Iterable[Sequence[object]], numbers: range, largest: int = 0
) -> str:
    """A table, in which some columns are numbers, with bars of them if there is a largest."""

    def cell(tag: str, value: object, place: int) -> str:
        style = ' class="number"' if place in numbers else ""
        has_bar = largest and isinstance(value, int)
        bar = f' <meter max="{largest}" value="{value}"></meter>' if has_bar else ""
        return f"<{tag}{style}>{escape(str(value))}{bar}</{tag}>"

    lines = ["".join(cell("th", value, place) for place, value in enumerate(head))]
    lines += ["".join(cell("td", value, place) for place, value in enumerate(row)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>{body}</table></div>'


def _section(kind: str, problems: Sequence[Problem], splits: Dict[str, Split]) -> str:
    shown = problems[:MOST_PROBLEMS]
    # Images by themselves stand side by side; those that belong together make a group.
    alone = [problem for problem in shown if len(problem.images) == 1]
    figures = "".join(_figure(each.images[0], splits, each.detail) for each in alone)
    grid = f'<div class="grid">{figures}</div>' if figures else ""
    groups = "".join(_group(problem, splits) for problem in shown if problem not in alone)
    more = len(problems) - MOST_PROBLEMS
    rest = f"<p>and {more} more, in the JSON file (--json)</p>" if more > 0 else ""
    return (
        f'<h2 id="{kind}">{_mark(kind)} {escape(KINDS[kind].title)} <small>{len(problems)}</small>'
        f"</h2>\n<p>{escape(KINDS[kind].advice)}</p>\n{grid}{groups}{rest}\n"
    )


def _group(problem: Problem, splits: Dict[str, Split]) -> str:
    figures = "".join(_figure(image, splits) for image in problem.images[:MOST_IMAGES])
    more = len(problem.images) - MOST_IMAGES
    rest = f"<p>and {more} more</p>" if more > 0 else ""
    detail = f"<p>{escape(problem.detail)}</p>" if problem.detail else ""
    return f'<div class="group">{detail}<div class="grid">{figures}{rest}</div></div>'


def _figure(image: CheckedImage, splits: Dict[str, Split], detail: str = "") -> str:
    split = splits[image.split]
    # Of an image that cannot be read, there is but the reason.
    picture = ""
    if image.facts.error is None:
        picture = f'<div><img src="{thumbnail_uri(split, image.index)}" alt=""></div>'
    name = relative(image.name, split.path) if isinstance(split.path, str) else image.name
    caption = "<br>".join(map(escape, filter(None, [f"{image.split}: {name}", detail])))
    labels = "" if image.labels is None else f"<br><b>{escape(', '.join(image.labels))}</b>"
    return (
        f'<figure title="{escape(image.name)}">{picture}'
        f"<figcaption>{caption}{labels}</figcaption></figure>"
    )


def thumbnail_uri(split: Split, index: int) -> str:
    """A small JPEG of an image as `data:` URI."""
    # Shape: (height, width, channels)
    pixels = as_bytes(
        load_image(split.source(index)[1], "RGB", value_range=split.reader.value_range)
    )
    picture = Image.fromarray(pixels if pixels.shape[2] in (3, 4) else pixels[:, :, 0])
    picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    return data_uri(picture, quality=70)

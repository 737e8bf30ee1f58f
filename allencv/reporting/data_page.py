"""The page that `allencv check-data` writes: what is wrong with the data, and the images of it."""

import base64
import io
from html import escape
from itertools import groupby
from typing import Dict, Sequence

from PIL import Image

from allencv.data.checking import KINDS, CheckedImage, Problem, Split, as_bytes, imbalance
from allencv.data.fields.image_field import load_image

SIDE, MOST_PROBLEMS, MOST_IMAGES = 128, 20, 8
"""Pixels of a thumbnail, problems of a kind, and images of a problem that are shown."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 72em; margin: 2em auto;
       padding: 0 1em; }
h2 { font-size: 1.1em; margin: 2em 0 0; }
h2 b { color: #fff; background: #888; border-radius: 3px; padding: 0 .4em; font-size: .8em; }
h2.fatal b { background: #b3261e; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .2em 1.2em .2em 0; border-bottom: 1px solid #ddd; }
p { margin: .3em 0; color: #555; }
ul { list-style: none; padding: 0; margin: .6em 0; }
.problem { display: flex; flex-wrap: wrap; gap: 12px; padding: 10px 0; border-top: 1px solid #eee; }
figure { margin: 0; width: 180px; font-size: 12px; overflow-wrap: anywhere; }
figure div { height: 128px; background: #f1f1f1; display: flex; align-items: center;
             justify-content: center; color: #888; }
"""


def as_html(title: str, splits: Sequence[Split], problems: Sequence[Problem]) -> str:
    """A page of HTML that needs no other file."""
    by_name = {split.name: split for split in splits}
    sections = "".join(
        _section(kind, list(group), by_name)
        for kind, group in groupby(problems, key=lambda problem: problem.kind)
    )
    nothing = "" if problems else "<p>Nothing is wrong with these images and labels.</p>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Data of {escape(title)}</title><style>{STYLE}</style></head>\n<body>"
        f"<h1>Data of {escape(title)}</h1>\n{_table(splits)}\n{sections}{nothing}</body></html>\n"
    )


def _table(splits: Sequence[Split]) -> str:
    head = ("split", "path", "images", "classes", "largest / smallest")
    rows = [
        (
            split.name,
            split.path,
            len(split.samples),
            len(counts),
            f"{imbalance(counts):.3g}" if counts else "-",
        )
        for split in splits
        for counts in [split.samples.labels()]
    ]
    cells = [[f"<td>{escape(str(cell))}</td>" for cell in row] for row in rows]
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{body}</table>"


def _section(kind: str, problems: Sequence[Problem], splits: Dict[str, Split]) -> str:
    title, is_fatal, advice = KINDS[kind]
    mark, style = ("error", ' class="fatal"') if is_fatal else ("warning", "")
    items = "\n".join(_item(problem, splits) for problem in problems[:MOST_PROBLEMS])
    more = len(problems) - MOST_PROBLEMS
    rest = f"<p>and {more} more, in the JSON file (--json)</p>" if more > 0 else ""
    return (
        f"<h2{style}><b>{mark}</b> {len(problems)} {escape(title)}</h2>\n"
        f"<p>{escape(advice)}</p>\n<ul>{items}</ul>{rest}\n"
    )


def _item(problem: Problem, splits: Dict[str, Split]) -> str:
    figures = "".join(_figure(image, splits[image.split]) for image in problem.images[:MOST_IMAGES])
    more = len(problem.images) - MOST_IMAGES
    rest = f"<p>and {more} more</p>" if more > 0 else ""
    detail = f"<p>{escape(problem.detail)}</p>" if problem.detail else ""
    return f'<li>{detail}<div class="problem">{figures}{rest}</div></li>'


def _figure(image: CheckedImage, split: Split) -> str:
    picture = "cannot be read"
    if image.facts.error is None:
        picture = f'<img src="{thumbnail_uri(split, image.index)}" alt="">'
    labels = "" if image.labels is None else f"<br><b>{escape(', '.join(image.labels))}</b>"
    caption = f"{escape(image.split)}: {escape(image.name)}{labels}"
    return f"<figure><div>{picture}</div><figcaption>{caption}</figcaption></figure>"


def thumbnail_uri(split: Split, index: int) -> str:
    """A small JPEG of an image as `data:` URI."""
    # Shape: (height, width, channels)
    pixels = as_bytes(load_image(split.source(index)[1], "RGB"))
    picture = Image.fromarray(pixels if pixels.shape[2] in (3, 4) else pixels[:, :, 0])
    picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

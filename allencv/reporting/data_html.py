"""The page of `allencv check-data`: the problems of a config's data, with their images."""

from itertools import groupby
from typing import Optional, Sequence

from allencv.data.fields.image_field import load_image
from allencv.data.inspection import CheckedImage, Split, as_picture
from allencv.data.problems import KINDS, Problem, imbalance
from allencv.data.remote import relative
from allencv.reporting.data_map import COLOURS, METHODS, UNITS, Comparison, drawn
from allencv.reporting.data_text import NO_PROBLEMS, class_counts, number_of
from allencv.reporting.overlays import data_uri, enlarged
from allencv.reporting.page_templates import page_environment
from allencv.runtime import ImageError

SIDE, MOST_PROBLEMS, MOST_IMAGES, MOST_CLASSES = 128, 20, 8, 50
"""Pixels of a thumbnail; the most problems of a kind, images of a problem, and classes."""
MAP_SIDE = 96
"""Pixels of a thumbnail on the map."""


def as_html(
    title: str,
    splits: Sequence[Split],
    problems: Sequence[Problem],
    comparison: Optional[Comparison] = None,
) -> str:
    """
    Return a page of HTML that needs no other file.

    # Parameters

    title : `str`, required
    splits : `Sequence[Split]`, required
    problems : `Sequence[Problem]`, required
        Those of a kind together.
    comparison : `Comparison`, optional (default = `None`)
        The page shows its notes and its map.
    """
    return (
        page_environment()
        .get_template("data.html")
        .render(
            title=title,
            verdict=_verdict(problems),
            splits={split.name: split for split in splits},
            class_counts=class_counts(splits),
            problems={
                kind: list(group) for kind, group in groupby(problems, lambda each: each.kind)
            },
            kinds=KINDS,
            comparison=comparison,
            drawn=drawn,
            map_methods=METHODS,
            map_units=UNITS,
            map_colours=COLOURS,
            map_side=MAP_SIDE,
            imbalance=imbalance,
            shown_name=_shown_name,
            thumbnail_uri=thumbnail_uri,
            most_problems=MOST_PROBLEMS,
            most_images=MOST_IMAGES,
            most_classes=MOST_CLASSES,
        )
    )


def _verdict(problems: Sequence[Problem]) -> str:
    if not problems:
        return NO_PROBLEMS
    is_fatal = any(KINDS[problem.kind].is_fatal for problem in problems)
    end = ". Training on this data would fail or its scores would mislead." if is_fatal else "."
    return f"{number_of(problems)}{end}"


def _shown_name(image: CheckedImage, split: Split) -> str:
    return relative(image.name, split.path) if isinstance(split.path, str) else image.name


def thumbnail_uri(split: Split, image: CheckedImage, side: int = SIDE) -> Optional[str]:
    """Return a small JPEG of an image as a `data:` URI; `None` if it cannot be read."""
    if image.facts.error is not None:
        return None
    try:
        _, source = split.source(image.index)
        picture = as_picture(load_image(source, "RGB", value_range=split.reader.value_range))
    except ImageError:  # it has gone since it was checked
        return None
    picture.thumbnail((side, side))
    return data_uri(enlarged(picture, side), quality=70)

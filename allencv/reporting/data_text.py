"""The findings of `allencv check-data` as text for a terminal and as JSON."""

from itertools import groupby
from textwrap import fill
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from allencv.data.inspection import CheckedImage, Split
from allencv.data.problems import KINDS, Problem, imbalance
from allencv.reporting.data_map import Comparison

EXAMPLES, MOST_CLASSES = 3, 20
"""The most problems of a kind, images of a group, and classes that the text shows."""
NO_PROBLEMS = "No problems found in these images and labels."
INDENT = " " * 17


def as_text(
    splits: Sequence[Split], problems: Sequence[Problem], comparison: Optional[Comparison] = None
) -> str:
    """
    Return the text for a terminal: the counts of each split, examples of each problem, and the
    notes of a comparison.
    """
    lines = ["", *_table([_summary(split) for split in splits]), "", *_class_table(splits), ""]
    for kind, group in groupby(problems, key=lambda problem: problem.kind):
        found = list(group)
        mark = "ERROR  " if KINDS[kind].is_fatal else "warning"
        lines.append(f"{mark}  {len(found):>6}  {KINDS[kind].title}")
        lines += [f"{INDENT}{line}" for problem in found[:EXAMPLES] for line in _describe(problem)]
        if len(found) > EXAMPLES:
            lines.append(f"{INDENT}and {len(found) - EXAMPLES} more")
        lines += [_wrap(f"-> {KINDS[kind].advice}"), ""]
    if not problems:
        lines += [NO_PROBLEMS, ""]
    if comparison is not None and comparison.notes:
        lines += [*(fill(note, 100, subsequent_indent="  ") for note in comparison.notes), ""]
    # A file name in an unknown encoding cannot be printed.
    return "\n".join(lines).encode("utf-8", "replace").decode()


def number_of(problems: Sequence[Problem]) -> str:
    """Return a text such as "1 error, 2 warnings"."""
    fatal = sum(KINDS[problem.kind].is_fatal for problem in problems)
    return ", ".join(
        f"{count} {word}{'s' if count != 1 else ''}"
        for count, word in ((fatal, "error"), (len(problems) - fatal, "warning"))
    )


def class_counts(splits: Sequence[Split]) -> List[Tuple[str, List[int]]]:
    """Count the images of each class in each split, the largest class first."""
    of_splits = [split.samples.labels() for split in splits]
    labels = {label for counts in of_splits for label in counts}
    rows = [(label, [counts.get(label, 0) for counts in of_splits]) for label in labels]
    return sorted(rows, key=lambda row: ([-count for count in row[1]], row[0]))


def _class_table(splits: Sequence[Split]) -> Iterator[str]:
    rows = [
        {"class": label, **{split.name: str(n) for split, n in zip(splits, counts)}}
        for label, counts in class_counts(splits)
    ]
    if len(rows) > MOST_CLASSES:
        half = MOST_CLASSES // 2
        between = {"class": f"({len(rows) - MOST_CLASSES} more)"}
        rows = [*rows[:half], {**dict.fromkeys(rows[0], ""), **between}, *rows[-half:]]
    return _table(rows) if rows else iter(())


def _wrap(text: str) -> str:
    return fill(text, 100, initial_indent=INDENT, subsequent_indent=f"{INDENT}   ")


def _summary(split: Split) -> Dict[str, str]:
    counts = split.samples.labels()
    row = {"split": split.name, "images": str(len(split.samples)), "classes": str(len(counts))}
    for title, choose in (("smallest", min), ("largest", max)):
        label = choose(counts, key=counts.__getitem__) if counts else ""
        row[f"{title} class"] = f"{label} ({counts[label]})" if counts else "-"
    return {**row, "ratio": f"{imbalance(counts):.3g}" if counts else "-"}


def _table(rows: List[Dict[str, str]]) -> Iterator[str]:
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in [dict(zip(rows[0], rows[0])), *rows]:
        yield "  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip()


def _describe(problem: Problem) -> Iterator[str]:
    if not problem.images or problem.kind == "unknown_label":
        yield problem.detail
    elif len(problem.images) == 1:
        yield f"{_shown(problem.images[0])}: {problem.detail}"
    else:
        more = len(problem.images) - EXAMPLES
        for index, image in enumerate(problem.images[:EXAMPLES]):
            last = f" (and {more} more)" if more > 0 and index == EXAMPLES - 1 else ""
            yield f"{'  = ' if index else ''}{image.split}: {_shown(image)}{last}"


def _shown(image: CheckedImage) -> str:
    labels = "" if image.labels is None else f" [{', '.join(image.labels)}]"
    return f"{image.name}{labels}"


def as_json(
    splits: Sequence[Split],
    problems: Sequence[Problem],
    comparison: Optional[Comparison] = None,
) -> Dict[str, Any]:
    """Return all findings. `ok` is false if training would fail or its scores would mislead."""
    features = {}
    if comparison is not None:
        keys = ("model", "images", "notes")
        features["features"] = {key: getattr(comparison, key) for key in keys}
    return {
        "ok": not any(KINDS[problem.kind].is_fatal for problem in problems),
        "splits": {
            split.name: {
                "path": str(split.path),
                "images": len(split.samples),
                "labels": split.samples.labels(),
            }
            for split in splits
        },
        **features,
        "problems": [
            {
                "kind": problem.kind,
                "is_fatal": KINDS[problem.kind].is_fatal,
                "title": KINDS[problem.kind].title,
                "advice": KINDS[problem.kind].advice,
                "detail": problem.detail,
                "images": [
                    {"split": image.split, "image": image.name, "labels": image.labels}
                    for image in problem.images
                ],
            }
            for problem in problems
        ],
    }

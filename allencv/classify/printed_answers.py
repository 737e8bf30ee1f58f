"""Print answers: text for a terminal, or CSV or JSON lines for a pipe."""

import shutil
import sys
from itertools import chain
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence

from allencv.classify.arguments import CSV, TEXT
from allencv.classify.output_files import Record, csv_lines, to_line
from allencv.runtime.certainty import Certainty
from allencv.runtime.certainty.promises import percent
from allencv.runtime.image_files import ImageFile
from allencv.runtime.terminal import (
    BOLD,
    DIM,
    GREEN,
    RED,
    YELLOW,
    bar,
    fitted,
    printable,
    styled,
    width_of,
)

LONGEST_BAR, SHORT_BAR = 40, 10
"""In columns: of the bars of a single image, and of an image in a list."""
PERCENTAGE = 7
"""The columns of "100.0%" and a space."""
NO_LABEL = "no label"
UNKNOWN = "unknown"
NOT_ANSWERED = "not answered: hand to a person"
MOST_NAMED = 3
"""The most labels of a set that are named."""


def print_answers(
    format: str,
    kinds: Dict[str, str],
    labels: Sequence[str],
    images: Sequence[ImageFile],
    batches: Iterable[List[Record]],
    level: Optional[float] = None,
) -> None:
    """
    Print the answers for `images` batch by batch, in one of `FORMATS`.

    # Parameters

    kinds : the columns of the table, from `output_files.columns`.
    labels : the labels of the model.
    level : of a calibrated model, how often the set of labels holds the right one.
    """
    lines = _text_lines(labels, images, level) if format == TEXT else None
    records = chain.from_iterable(_flushed(batches))
    if lines is not None:
        sys.stdout.writelines(f"{line}\n" for record in records for line in lines(record))
    elif format == CSV:
        sys.stdout.writelines(csv_lines(kinds, records))
    else:
        sys.stdout.writelines(to_line(record).decode() for record in records)
    sys.stdout.flush()


def _flushed(batches: Iterable[List[Record]]) -> Iterator[List[Record]]:
    for batch in batches:
        for record in batch:
            del record["stamp"]
        yield batch
        sys.stdout.flush()  # the next batch may take a while


def _text_lines(
    labels: Sequence[str], images: Sequence[ImageFile], level: Optional[float]
) -> Callable[[Record], List[str]]:
    """Return a function that returns the lines of an answer: of a single image, or in a list."""
    columns = shutil.get_terminal_size().columns - 1
    if len(images) == 1:
        return lambda record: single_answer(record, columns, level)
    longest_name = max(width_of(printable(image.name)) for image in images)
    longest_label = max(width_of(printable(label)) for label in labels)
    label_width = min(longest_label, columns // 3)
    rest = columns - label_width - SHORT_BAR - PERCENTAGE - 4
    name_width = min(longest_name, max(rest, SHORT_BAR))
    return lambda record: [listed_answer(record, name_width, label_width)]


def set_level(certainty: Optional[Certainty]) -> Optional[float]:
    """Return how often the set of labels of an answer holds the right one, if there are sets."""
    return None if certainty is None or certainty.sets is None else certainty.sets.levels[0]


def single_answer(record: Record, columns: int, level: Optional[float] = None) -> List[str]:
    """Return the lines for a single image: its labels, and a bar for each of the most probable."""
    name = printable(record["path"])
    if "error" in record:
        return [f"{name}: {_error_of(record)}"]
    given = [record["label"]] if "label" in record else record["labels"]
    title = _choice_of(record) or ", ".join(map(printable, given)) or NO_LABEL
    if level is not None and _choice_of(record):
        title = f"{title} ({percent(level)})"
    ranked = record["top_k"]
    longest = max(width_of(printable(each["label"])) for each in ranked)
    width = min(longest, max(columns - LONGEST_BAR - PERCENTAGE - 4, columns // 2))
    cells = max(min(LONGEST_BAR, columns - width - PERCENTAGE - 4), 1)
    caution = _caution_of(record)
    lines = [f"{name}: {styled(title, BOLD)}"]
    if caution:
        lines = [f"{name}: {styled(caution, BOLD, YELLOW)}", f"  most likely: {title}"]
    for each in ranked:
        style = GREEN if each["label"] in given and not caution else DIM
        shown = bar(each["probability"], cells)
        label = fitted(printable(each["label"]), width)
        lines.append(f"  {label}  {styled(shown, style)} {each['probability']:6.1%}")
    return lines


def listed_answer(record: Record, name_width: int, label_width: int) -> str:
    """Return the line for one of several images."""
    name = fitted(printable(record["path"]), name_width, keep_end=True)
    if "error" in record:
        return f"{name}  {_error_of(record)}"
    choice, caution = _choice_of(record), _caution_of(record)
    style = DIM if caution else GREEN
    if caution:
        caution = f"  {styled(caution, YELLOW)}"
    if "label" not in record:
        given = [each for each in record["top_k"] if each["label"] in record["labels"]]
        more = len(record["labels"]) - len(given)
        texts = [f"{printable(each['label'])} {each['probability']:.1%}" for each in given]
        labels = ", ".join(texts + [f"{more} more"] * bool(more))
        return f"{name}  {choice or labels or NO_LABEL}{caution}"
    best = record["top_k"][0]
    shown = styled(bar(best["probability"], SHORT_BAR), style)
    label = fitted(printable(best["label"]), label_width)
    choice = f"  {choice}" if choice else ""
    return f"{name}  {label}  {shown} {best['probability']:6.1%}{choice}{caution}"


def _choice_of(record: Record) -> str:
    """
    Return the set of labels of an image if it has more than the answer: "cat or lynx", or for
    several labels an image "Drama, and possibly War". It says nothing about an unknown image.
    """
    if record.get("is_unknown"):
        return ""
    if "label" in record:
        return _listed(record.get("labels", []), "or") if len(record.get("labels", [])) > 1 else ""
    others = [label for label in record.get("possible_labels", []) if label not in record["labels"]]
    if not others:
        return ""
    given = f"{', '.join(map(printable, record['labels']))}, and " if record["labels"] else ""
    return f"{given}possibly {_listed(others, 'and')}"


def _listed(labels: Sequence[str], word: str) -> str:
    named = list(map(printable, labels[:MOST_NAMED]))
    if more := len(labels) - len(named):
        named.append(f"{more} more")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} {word} {named[-1]}"


def _caution_of(record: Record) -> str:
    """Return why the label is not to be relied on, if it is not."""
    if record.get("is_unknown"):
        return UNKNOWN
    return "" if record.get("is_answered", True) else NOT_ANSWERED


def _error_of(record: Record) -> str:
    reason = record["error"].removeprefix(f"{record['path']}: ")
    return styled(f"error: {printable(reason)}", RED)

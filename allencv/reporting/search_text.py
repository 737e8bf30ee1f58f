"""The images that `allencv search` has found, as text for a terminal and as JSON lines."""

import json
from typing import Iterator

from allencv.features.search import Query, Search
from allencv.runtime.terminal import BOLD, printable, styled, width_of


def as_text(found: Search) -> str:
    """Return a table for each query: the similarity, the label if there are any, and the name."""
    return "\n\n".join("\n".join(_lines(query)) for query in found.queries)


def _lines(query: Query) -> Iterator[str]:
    yield styled(printable(query.error or query.path), BOLD)
    labels = [printable(each.label or "") for each in query.similar]
    width = max(map(width_of, labels), default=0)
    for each, label in zip(query.similar, labels):
        cells = [f" {each.similarity:6.3f}", label + " " * (width - width_of(label))]
        yield "  ".join([*filter(None, cells), printable(each.path)])


def as_json_lines(found: Search) -> str:
    """Return a line of JSON for each query: its `path`, and the `similar` images or an `error`."""
    return "".join(f"{json.dumps(_content(query))}\n" for query in found.queries)


def _content(query: Query) -> dict:
    if query.error is not None:
        return {"path": query.path, "error": query.error}
    similar = [
        {"path": each.path, "label": each.label, "similarity": round(each.similarity, 6)}
        for each in query.similar
    ]
    return {"path": query.path, "similar": similar}

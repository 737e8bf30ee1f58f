"""
The catalogue as pages of documentation. What a library says of its parts and their arguments is
left to the library's own pages; `allencv.catalogue.text` shows it.
"""

import inspect
import re
import textwrap
from typing import Any, Dict, Iterable, List

from allencv.catalogue.examples import snippet
from allencv.catalogue.experiment import classes_without_parts, places, registries_that_matter
from allencv.catalogue.parts import (
    Argument,
    Part,
    default_name,
    describe,
    is_from_library,
    parts_of,
    registered,
)
from allencv.catalogue.text import default_text, type_text

_INTRODUCTION = """# The parts

Every part that a config can name by its `type`, with its arguments. This page is made by `allencv
components --format markdown`. The command shows your own parts too, and `allencv components
REGISTRY NAME` shows one. What training supplies, such as the vocabulary of a model, is not among
the arguments, and what libraries say of theirs is not repeated: the command does.
"""

_PLAIN = """## Objects without a type

What a config describes by its keys alone.
"""


def overview() -> str:
    """All registries that an experiment names parts of, with the parts."""
    matter = registries_that_matter()
    links = [
        f"[{each.__name__}](#{each.__name__.lower()}) ({len(parts_of(each))})" for each in matter
    ]
    introduction = _INTRODUCTION + "\n" + textwrap.fill(", ".join(links), 100)
    plain = [part_page(describe(cls)) for cls in classes_without_parts()]
    return "\n\n".join([introduction, *map(registry_page, matter), _PLAIN, *plain])


def registry_page(registry: type) -> str:
    """
    The parts of a registry. Those that are written for AllenCV, or by a user, have a section each;
    a library's, of which there are many alike, a line.
    """
    if not registered(registry):
        return part_page(describe(registry))
    pages: Dict[Any, List[Part]] = {}  # a class may have several names
    lines = []
    for part in parts_of(registry):
        if part.from_allennlp or _is_generated(part.cls):
            lines.append(_line(part))
        else:
            pages.setdefault(registered(registry)[str(part.name)], []).append(part)
    head = [f"## {registry.__name__}"]
    if not is_from_library(registry):
        head.append(_text(describe(registry).documentation.summary))
    path = places().get(registry)
    default = default_name(registry)
    if path:
        where = f"In a config: `{'.'.join(path)}`."
        head.append(where + (f' Without a `type` it is "{default}".' if default else ""))
    if lines and pages:
        head.append("A library's parts come at the end, a line each.")
    sections = [_section(*each) for each in pages.values()]
    return "\n\n".join([*head, *sections, *(["\n".join(lines)] if lines else [])])


def part_page(part: Part) -> str:
    """What a part is for, its arguments in a table, and a config that builds it."""
    return _section(part)


def _section(part: Part, *aliases: Part) -> str:
    names = ", ".join(str(each.name) for each in (part, *aliases))
    pieces = [f"### {names if part.name else part.cls.__name__}"]
    if not is_from_library(part.cls):
        pieces.append(_text(part.documentation.body))
    pieces.append(f"Class: `{part.path}`")
    arguments = list(part.in_config.values())
    if arguments:
        notes = "" if is_from_library(part.cls) else part.documentation.notes
        pieces += [notes, table(arguments)]
    pieces.append(f"```jsonnet\n{snippet(part)}\n```")
    return "\n\n".join(piece for piece in pieces if piece)


def table(arguments: Iterable[Argument]) -> str:
    rows = ["| argument | type | default | |", "|---|---|---|---|"]
    for each in arguments:
        default = default_text(each)
        default = default if default == "required" else f"`{default}`"
        text = "" if each.from_library else each.description
        description = " ".join(text.split()).replace("|", "\\|")
        rows.append(f"| `{each.name}` | {type_text(each)} | {default} | {description} |")
    return "\n".join(rows)


def _line(part: Part) -> str:
    arguments = ", ".join(
        each.name if each.is_required else f"{each.name}={default_text(each)}"
        for each in part.in_config.values()
    )
    return f"- `{part.name}({arguments})`"


def _is_generated(cls: type) -> bool:
    """Whether a class is written nowhere, but made in a loop over those of a library."""
    try:
        inspect.getsource(cls)
    except (OSError, TypeError):
        return True
    return False


def _text(docstring: str) -> str:
    """A docstring among sections: its own headings are no longer those of a page."""
    return re.sub(r"^#+ (.+)$", r"**\1**", docstring, flags=re.MULTILINE)

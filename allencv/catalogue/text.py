"""The catalogue for a terminal, 100 columns wide."""

import json
import textwrap
from typing import Dict, Iterable, List, Tuple

from allencv.catalogue.argument_types import without_null
from allencv.catalogue.examples import snippet
from allencv.catalogue.experiment import (
    classes_without_parts,
    places,
    registries_that_matter,
)
from allencv.catalogue.parts import (
    REQUIRED,
    Argument,
    Part,
    default_name,
    describe,
    parts_of,
    registered,
    registries,
)
from allencv.common.snake_case import snake_case

WIDTH = 100


def overview() -> str:
    """List every registry with the number of its parts, those of an experiment first."""
    groups: Dict[bool, List[Tuple[str, str, str]]] = {False: [], True: []}
    matter = registries_that_matter()
    for registry in matter:
        parts = parts_of(registry)
        row = (snake_case(registry.__name__), str(len(parts)), _summary(registry))
        groups[all(part.from_allennlp for part in parts)].append(row)
    rest = [snake_case(each.__name__) for each in registries() if each not in matter]
    lines = ["Parts of AllenCV, and yours:", "", *_rows(groups[False])]
    if groups[True]:
        lines += ["", "Parts of AllenNLP only:", "", *_rows(groups[True])]
    lines += ["", "Objects without a type:", ""]
    lines += _rows(
        (snake_case(each.__name__), "", _summary(each)) for each in classes_without_parts()
    )
    lines += ["", "For texts, and for AllenNLP itself:", "", *_wrapped(", ".join(sorted(rest)), 2)]
    lines += ["", "'allencv components optimizer' lists the parts of one kind;"]
    lines += ["'allencv components optimizer adamw' describes a part."]
    return "\n".join(lines)


def registry_page(registry: type) -> str:
    """List the parts of a registry, each with its summary."""
    if not registered(registry):
        return part_page(describe(registry))
    lines = _wrapped(f"{registry.__name__}: {_summary(registry)}", 0)
    lines += [f"In a config: {place}", ""] if (place := _place(registry)) else [""]
    rows = [(part.from_allennlp, _row(part)) for part in parts_of(registry)]
    both = len({is_theirs for is_theirs, _ in rows}) == 2
    lines += _rows(row for is_theirs, row in rows if not (both and is_theirs))
    if both:
        lines += ["", "Of AllenNLP:", "", *_rows(row for is_theirs, row in rows if is_theirs)]
    return "\n".join(lines)


def part_page(part: Part) -> str:
    """Describe a part: its purpose, its arguments, and an example config."""
    base = part.registry or part.cls
    lines = [f"{part.name}: {base.__name__}" if part.name else base.__name__, part.path, ""]
    lines += [part.documentation.body, "", "Arguments:", ""]
    lines += arguments_text(part.in_config.values()) or ["  none"]
    if part.documentation.notes:
        lines += ["", part.documentation.notes]
    supplied = ", ".join(each.name for each in part.arguments.values() if each.supplied)
    if supplied:
        lines += ["", *_wrapped(f"Training supplies: {supplied}", 0)]
    if part.takes_others:
        lines += ["", "Other keys are passed on unchanged."]
    place = _place(base)
    lines += ["", f"In a config{place and f', under {place}'}:", ""]
    lines += textwrap.indent(snippet(part), "  ").splitlines()
    return "\n".join(lines)


def arguments_text(arguments: Iterable[Argument]) -> List[str]:
    """List the name, type and default of each argument, with its description below."""
    rows = [(each.name, type_text(each), default_text(each)) for each in arguments]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    widths[1] = min(widths[1], 30)
    lines: List[str] = []
    for argument, (name, kind, default) in zip(arguments, rows):
        line = f"  {name:{widths[0]}}  {kind:{widths[1]}}  "
        lines.append(f"{line}{textwrap.shorten(default, max(12, WIDTH - len(line)))}")
        for paragraph in argument.description.splitlines():
            lines += _wrapped(paragraph, 6)
    return lines


def type_text(argument: Argument) -> str:
    """Return the type in words, without null if that is the default."""
    form = argument.form if argument.default is not None else without_null(argument.form)
    return form.describe()


def default_text(argument: Argument) -> str:
    return "required" if argument.default is REQUIRED else json.dumps(argument.default)


def _summary(cls: type) -> str:
    return describe(cls).documentation.summary


def _row(part: Part) -> Tuple[str, str, str]:
    is_default = part.registry is not None and part.name == default_name(part.registry)
    return str(part.name), "default" if is_default else "", part.documentation.summary


def _place(registry: type) -> str:
    """Return the keys of a config, from the top, for a part."""
    return ".".join(places().get(registry, ()))


def _rows(rows: Iterable[Tuple[str, str, str]]) -> List[str]:
    """Format three columns; the last continues in further lines."""
    rows = list(rows)
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines = []
    for name, middle, text in rows:
        start = f"  {name:{widths[0]}}  "
        start += f"{middle:>{widths[1]}}  " if widths[1] else ""
        first, *rest = textwrap.wrap(text, WIDTH - len(start), break_on_hyphens=False) or [""]
        lines += [start + first, *(" " * len(start) + line for line in rest)]
    return [line.rstrip() for line in lines]


def _wrapped(text: str, indent: int) -> List[str]:
    space = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=space, subsequent_indent=space)

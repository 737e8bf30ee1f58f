import inspect
import re
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Set

_HEADING = re.compile(r"# (\w[\w ]*)$")
_PARAMETER = re.compile(r"(?P<names>\*{0,2}\w+(?:, \w+)*)(?: ?:(?: .*)?)?$")
_LIBRARY_PARAMETER = re.compile(r"(?P<indent>\s+)(?P<name>\w+) ?(?:\(.*?\))?: ?(?P<text>.*)$")
_LIBRARY_HEADING = re.compile(r"\w[\w ]*:$")
_OTHERS = re.compile(r"(Those|The (others|arguments) are those) of ")
_PAGE_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[#.][^)]*\)")  # within the library's own pages
_EXAMPLE = re.compile(r"```jsonnet\n(.*?)\n```", re.DOTALL)


@dataclass
class Documentation:
    """A docstring in pieces: the text, and the description of each parameter."""

    summary: str = ""
    """The first sentence."""
    body: str = ""
    """All but the parameters and the example."""
    parameters: Dict[str, str] = field(default_factory=dict)
    from_libraries: Set[str] = field(default_factory=set)
    """The parameters whose text is from a library."""
    notes: str = ""
    """Text about several parameters, such as a link to a library's documentation."""
    example: Optional[str] = None
    """The content of a jsonnet block."""


def read_docstring(docstring: Optional[str]) -> Documentation:
    """
    Read a docstring in AllenNLP's style, with a section `# Parameters`, or in the style of torch
    and timm, with `Args:`.
    """
    text = inspect.cleandoc(docstring or "")
    example = _EXAMPLE.search(text)
    body: List[str] = []
    sections = {"": body}
    current = body
    for line in _EXAMPLE.sub("", text).splitlines():
        heading = _HEADING.match(line)
        library_heading = line.strip() in ("Args:", "Arguments:", "Parameters:")
        if heading or library_heading:
            name = "Args" if library_heading else str(heading and heading[1])
            current = sections.setdefault(name, [])
            if name in ("Parameters", "Args", "Example", "Examples"):
                continue
            body.append(line)
            current = body
        elif current is sections.get("Args") and _LIBRARY_HEADING.match(line):
            current = body
            body.append(line)
        else:
            current.append(line)
    return Documentation(
        summary=_summary(text),
        body=re.sub(r"\n{3,}", "\n\n", "\n".join(body)).strip(),
        parameters={
            **_library_parameters(sections.get("Args", [])),
            **_parameters(sections.get("Parameters", [])),
        },
        notes=_notes(sections.get("Parameters", [])),
        example=example[1] if example else None,
    )


def _summary(text: str) -> str:
    """Return the first sentence, on one line and without links."""
    before = re.split(r"^# ", text, maxsplit=1, flags=re.MULTILINE)[0]
    paragraphs = [" ".join(each.split()) for each in before.strip().split("\n\n")]
    told = [each for each in paragraphs if not each.startswith("Registered as")]
    paragraph = re.sub(r"\[([^\]]+)\] ?\([^)]*\)", r"\1", told[0] if told else "")
    paragraph = re.sub(r":\w+:`(?:[\w.]+\.)?(\w+)`", r"`\1`", paragraph)
    paragraph = re.sub(r"`([^`<]+?) ?<https?:[^>]+>`_+", r"\1", paragraph)
    found = re.match(r".+?(?<!\bal)(?<!\be\.g)(?<!\bi\.e)\.(?= [A-Z`'\"]|$)", paragraph)
    sentence = found[0] if found else paragraph
    return sentence[:-1] + "." if sentence.endswith(":") else sentence


def _parameters(lines: List[str]) -> Dict[str, str]:
    found: Dict[str, List[str]] = {}
    current: List[str] = []
    for line in lines:
        match = _PARAMETER.match(line)
        if line.lstrip().startswith("!!!"):
            current = []  # an admonition
        elif match:
            current = []
            for name in match["names"].split(", "):
                found[name.lstrip("*")] = current
        elif line and not line.startswith(" "):
            current = []  # a sentence about several parameters
        else:
            current.append(line)
    return {name: _paragraphs(text) for name, text in found.items()}


def _notes(lines: List[str]) -> str:
    """Return the sentences between parameters, except references to another class."""
    text, inside = [], False
    for line in lines:
        if _PARAMETER.match(line):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        if not inside:
            text.append(line)
    paragraphs = re.split(r"\n\s*\n", "\n".join(text).strip())
    return "\n\n".join(each for each in paragraphs if not _OTHERS.match(each))


def _library_parameters(lines: List[str]) -> Dict[str, str]:
    found: Dict[str, List[str]] = {}
    indent, current = None, None
    for line in lines:
        match = _LIBRARY_PARAMETER.match(line)
        if match and indent in (None, match["indent"]):
            indent, current = match["indent"], found.setdefault(match["name"], [])
            current.append(match["text"])
        elif line.lstrip().startswith(".. "):
            current = None  # a directive of reStructuredText
        elif current is not None:
            current.append(line)
    return {name: _paragraphs(text) for name, text in found.items()}


def _paragraphs(lines: List[str]) -> str:
    """Return the text with each paragraph and list item on one line."""
    text = _PAGE_LINK.sub(r"\1", inspect.cleandoc("\n".join(lines)))
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*[-*] )", text)
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())

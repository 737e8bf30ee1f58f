"""Check labels, and show them so that different labels look different."""

import os
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Iterable, Optional, Union

from allennlp.common.checks import ConfigurationError

RESERVED = ("@@UNKNOWN@@", "@@PADDING@@", "@@NEWLINE@@")
"""Words with a special meaning in AllenNLP's vocabulary files."""


@lru_cache(maxsize=1 << 16)
def why_unwritable(label: str) -> Optional[str]:
    """Return why a vocabulary cannot save and read a label, or `None` if it can."""
    if not label.strip():
        return "it is empty"
    if "\n" in label or "\r" in label:
        return "it has a line break"
    for word in RESERVED:
        if word in label:
            return f"AllenNLP uses {word} for something else"
    try:
        label.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return None


def shown(text: str) -> str:
    """Return a text with escapes for characters that cannot be printed or distinguished."""
    if text.isprintable() and unicodedata.is_normalized("NFC", text):
        return text
    escaped = text.encode("unicode_escape").decode()
    # Python represents a byte that is not UTF-8 by one of these characters.
    return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", escaped)


def spelling(label: str) -> str:
    """Return a form that is the same for all labels that look alike."""
    return "".join(unicodedata.normalize("NFKC", label).casefold().split())


def same_looking(unknown: Iterable[str], known: Iterable[str]) -> str:
    """Return a hint to append to a message, if unknown labels look the same as known ones."""
    by_spelling = {spelling(label): label for label in known}
    others = ((each, by_spelling.get(spelling(each), each)) for each in unknown)
    pairs = [(each, other) for each, other in others if each != other]
    if not pairs:
        return ""
    named = ", ".join(f"'{shown(first)}' and '{shown(second)}'" for first, second in pairs[:3])
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    kinds = dict.fromkeys(_difference(*pair) for pair in pairs)
    return f" ({named}{more} differ only in {' or '.join(kinds)}: give them the same name)"


def _difference(label: str, other: str) -> str:
    """Return the only difference between two labels that look alike."""
    first, second = (unicodedata.normalize("NFC", each) for each in (label, other))
    if first == second:
        return "how their accents are encoded (Unicode NFC and NFD)"
    if first.casefold() == second.casefold():
        return "case"
    if "".join(first.split()) == "".join(second.split()):
        return "spaces"
    return "case, spaces or the form of a letter"


def check_vocabulary(directory: Union[str, os.PathLike]) -> None:
    """
    Check that the files of a vocabulary are text.

    # Raises

    `ConfigurationError` with the file and the line of the first byte that is not UTF-8.
    """
    for path in sorted(Path(directory).glob("*.txt")):
        content = path.read_bytes()
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise ConfigurationError(
                f"{path}, line {line}, is not text in UTF-8; expected a label on each line"
            ) from None

"""Write the table of a benchmark into its page of the docs."""

import re
from pathlib import Path

from allencv.runtime.whole_files import write_text

DOCS = Path(__file__).parent.parent / "docs"


def in_docs(page: str, program: str) -> "re.Match[str]":
    """Return the part of a page that a program writes, between its marks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"(<!-- made by {re.escape(program)} -->\n)(.*?)(<!-- end -->)", text, re.S)
    if found is None:
        raise ValueError(f"docs/{page} has no part made by {program}")
    return found


def write_docs(page: str, program: str, text: str) -> None:
    found = in_docs(page, program)
    whole = found.string[: found.start(2)] + text + "\n" + found.string[found.end(2) :]
    write_text(DOCS / page, whole)

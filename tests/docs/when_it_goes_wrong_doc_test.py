"""The messages on the page are those of the code."""

import ast
import re
from functools import lru_cache
from typing import Iterator, List

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "when_it_goes_wrong.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"```text\n(.*)\n```", PAGE)
FROM_THE_SYSTEM = ["No space left on device"]
"""What the operating system says, after the path."""
FEWEST_WORDS = 5
"""How many words of a message must be fixed in one string of the code, so that it is this one."""


def _fixed_texts(node: ast.AST) -> Iterator[str]:
    """The texts of a string or an f-string, without what is put into it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        for value in node.values:
            yield from _fixed_texts(value)


@lru_cache
def templates() -> List[List[str]]:
    """The fixed texts of each string in the package, in their order."""
    trees = [ast.parse(file.read_text("utf-8")) for file in (ROOT / "allencv").rglob("*.py")]
    texts = [list(_fixed_texts(node)) for tree in trees for node in ast.walk(tree)]
    return [each for each in texts if sum(len(text.split()) for text in each) >= FEWEST_WORDS]


def _is_said(message: str, texts: List[str]) -> bool:
    """Whether a message has these texts in their order; it may end before they do."""
    rest, words = message, 0
    for text in texts:
        _, found, after = rest.partition(text)
        if not found:
            begun = next((n for n in range(len(text), 0, -1) if rest.endswith(text[:n])), 0)
            return words + len(text[:begun].split()) >= FEWEST_WORDS
        rest, words = after, words + len(text.split())
    return words >= FEWEST_WORDS


def test_there_are_at_least_twenty_messages() -> None:
    assert len(MESSAGES) >= 20
    assert len(set(MESSAGES)) == len(MESSAGES) == PAGE.count("- **Fix**:")


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_of_the_code(message: str) -> None:
    if any(message.endswith(end) for end in FROM_THE_SYSTEM):
        return
    assert any(_is_said(message, texts) for texts in templates())


def test_a_message_that_nobody_says_is_found() -> None:
    invented = "allencv: the moon is made of cheese; expected a rock of some other kind"
    assert not any(_is_said(invented, texts) for texts in templates())

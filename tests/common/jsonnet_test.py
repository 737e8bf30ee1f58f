import json
from typing import Any

import _jsonnet
import pytest

from allencv.common.jsonnet import WIDTH, to_jsonnet


def evaluated(text: str) -> Any:
    return json.loads(_jsonnet.evaluate_snippet("test", text))


def test_a_short_value_is_one_line() -> None:
    value = {"type": "a", "two words": [1, 2.5, None, True], "text": "ü\n", "none": {}}
    text = to_jsonnet(value)
    assert text == '{ type: "a", "two words": [1, 2.5, null, true], text: "ü\\n", none: {} }'
    assert evaluated(text) == value


def test_a_long_value_has_a_line_for_each_part() -> None:
    value = {"first": ["x" * 40] * 3, "second": {"empty": {}}}
    text = to_jsonnet(value)
    line = f'    "{"x" * 40}",'
    assert text.splitlines() == [
        *("{", "  first: [", line, line, line, "  ],", "  second: { empty: {} },", "}")
    ]
    assert evaluated(text) == value


@pytest.mark.parametrize("length", [WIDTH - 12, WIDTH - 11])
def test_the_comma_counts(length: int) -> None:
    """The line `  key: ["..."],` has 12 characters more than its text."""
    lines = to_jsonnet({"key": ["x" * length], "other": "y" * WIDTH}).splitlines()
    expected = [f'  key: ["{"x" * length}"],']
    if length > WIDTH - 12:
        expected = ["  key: [", f'    "{"x" * length}",', "  ],"]
    assert lines[1:-2] == expected


@pytest.mark.parametrize(
    "key", ["local", "importstr", "selfish", "süß", "a.b", "1a", "", 'a "b"', "_a1"]
)
def test_any_key_is_evaluated(key: str) -> None:
    assert evaluated(to_jsonnet({key: 1})) == {key: 1}


def test_comments() -> None:
    value = {"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": {"g": 3}}
    comments = {"a.b": "one\ntwo", "a.d.0.e": "long " * 30}
    text = to_jsonnet(value, comments)
    assert text.splitlines() == [
        "{",
        "  a: {",
        "    // one two",
        "    b: { c: 1 },",
        "    d: [",
        "      {",
        f"        // {' '.join(['long'] * 16)}",
        f"        // {' '.join(['long'] * 14)}",
        "        e: 2,",
        "      },",
        "    ],",
        "  },",
        "  f: { g: 3 },",
        "}",
    ]
    assert evaluated(text) == value

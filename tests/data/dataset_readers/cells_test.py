from typing import Any, List, Optional

import pytest

from allencv.data.dataset_readers.cells import WrongCell, as_list, to_label, to_labels


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['Comedy', 'Drama']", ["Comedy", "Drama"]),  # pandas, of lists
        (' ["Comedy", "Drama"] ', ["Comedy", "Drama"]),  # JSON
        ('["it\'s", "caf\\u00e9"]', ["it's", "café"]),
        ("('Comedy', 'Drama')", ["Comedy", "Drama"]),
        ("{'Drama', 'Comedy'}", ["Comedy", "Drama"]),
        ("[1, 2.5]", [1, 2.5]),
        ("[]", []),
        ("['Comedy' 'Drama']", None),  # numpy's arrays: Python would make one text of it
        ("['Comedy'\n 'Drama']", None),
        ("[Comedy, Drama]", None),
        ("(1, 2)", None),
        ("('one')", None),
        ("{}", None),
        ("Comedy", None),
        ("[a]|[b]", None),
        ("[" * 10_000 + "]" * 10_000, None),
        ("['", None),
        ("", None),
    ],
)
def test_lists_as_text(text: str, expected: Optional[List[Any]]) -> None:
    assert as_list(text) == expected


@pytest.mark.parametrize(
    ("cell", "delimiter", "labels"),
    [
        (["x", 2], None, ["x", "2"]),
        ("['x', 'y']", None, ["x", "y"]),
        ("['x', 'y']", ",", ["x", "y"]),
        ("['x, y']", ",", ["x, y"]),
        ("['x']", "|", ["x"]),
        ("x| y ", "|", ["x", "y"]),
        ("[x]|[y]", "|", ["[x]", "[y]"]),
        ("(none)", "|", ["(none)"]),
        ("[]", ",", []),
        ("", None, []),
        (None, None, []),
        (float("nan"), ",", []),
    ],
)
def test_several_labels(cell: Any, delimiter: Optional[str], labels: List[str]) -> None:
    assert to_labels(cell, delimiter) == labels


@pytest.mark.parametrize(
    ("cell", "delimiter", "expected"),
    [
        ("x", None, "a list, or text and dataset_reader.labels_delimiter"),
        ("['x' 'y']", ",", "quotes and commas in a list, such as ['a', 'b']"),
        ("[x, y]", ",", "quotes and commas in a list, such as ['a', 'b']"),
        ("x||y", "|", "different labels with '|' between them"),
        ("['x', 'x']", None, "different labels"),
        ("['x', '']", None, "different labels"),
        ("[{'id': 16, 'name': 'Animation'}]", ",", "a list of text or numbers"),
        ([["x"]], None, "a list of text or numbers"),
    ],
)
def test_what_is_no_labels(cell: Any, delimiter: Optional[str], expected: str) -> None:
    with pytest.raises(WrongCell) as wrong:
        to_labels(cell, delimiter)
    assert wrong.value.expected == expected


def test_one_label() -> None:
    assert to_label(" big  cat ") == "big  cat"
    assert to_label(1.0) == "1.0"
    assert to_label("(unknown)") == "(unknown)"
    for cell in ("['cat', 'dog']", '["cat"]'):
        with pytest.raises(WrongCell) as wrong:
            to_label(cell)
        assert wrong.value.expected == "one label (labels_column reads lists)"
    for cell in ("", None, ["cat"]):
        with pytest.raises(WrongCell):
            to_label(cell)

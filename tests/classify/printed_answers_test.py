import io
import sys
from typing import Any, Dict

import pytest

from allencv.classify.printed_answers import listed_answer, print_answers, single_answer
from allencv.runtime.image_files import ImageFile
from tests.runtime.terminal_test import Terminal

DOG: Dict[str, Any] = {
    "path": "photos/rex.jpg",
    "label": "dog",
    "top_k": [{"label": "dog", "probability": 0.75}, {"label": "cat", "probability": 0.25}],
}
POSTER: Dict[str, Any] = {
    "path": "a.jpg",
    "labels": ["Drama", "Comedy"],
    "top_k": [
        {"label": "Drama", "probability": 0.8},
        {"label": "Comedy", "probability": 0.6},
        {"label": "War", "probability": 0.1},
    ],
}
BROKEN: Dict[str, Any] = {"path": "b\x1b[2J.jpg", "error": "b\x1b[2J.jpg: it is empty"}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


@pytest.mark.parametrize(("columns", "cells"), [(200, 40), (80, 40), (38, 24), (10, 1)])
def test_a_bar_for_each_label_of_a_single_image(columns: int, cells: int) -> None:
    filled = "█" * int(0.75 * cells) or "▊"
    assert single_answer(DOG, columns) == [
        "photos/rex.jpg: dog",
        f"  dog  {filled:{cells}}  75.0%",
        f"  cat  {'█' * (cells // 4) or '▎':{cells}}  25.0%",
    ]


def test_any_number_of_labels() -> None:
    assert single_answer(POSTER, 80)[0] == "a.jpg: Drama, Comedy"
    assert len(single_answer(POSTER, 80)) == 4
    assert listed_answer(POSTER, 7, 9) == "a.jpg    Drama 80.0%, Comedy 60.0%"
    few = {**POSTER, "top_k": POSTER["top_k"][:1]}
    assert listed_answer(few, 5, 9) == "a.jpg  Drama 80.0%, 1 more"
    none = {**POSTER, "labels": []}
    assert single_answer(none, 80)[0] == "a.jpg: no label"
    assert listed_answer(none, 5, 9) == "a.jpg  no label"


def test_the_labels_that_apply_are_coloured(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    title, drama, comedy, war = single_answer(POSTER, 80)
    assert title == "a.jpg: \x1b[1mDrama, Comedy\x1b[0m"
    assert ["\x1b[32m" in line for line in (drama, comedy, war)] == [True, True, False]


@pytest.mark.parametrize("decision", [{"is_unknown": True}, {"is_answered": False}])
def test_an_image_that_is_not_answered_has_no_green(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal, decision: Dict[str, bool]
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    for record, is_green in ((CAT, True), ({**CAT, **decision}, False)):
        for text in (listed_answer(record, 14, 3), "".join(single_answer(record, 80))):
            assert ("\x1b[32m" in text) == is_green


def test_control_characters_of_names_are_escaped() -> None:
    assert single_answer(BROKEN, 80) == [r"b\x1b[2J.jpg: error: it is empty"]
    assert listed_answer(BROKEN, 12, 3) == r"b\x1b[2J.jpg  error: it is empty"
    odd = {**DOG, "label": "d\x07g", "top_k": [{"label": "d\x07g", "probability": 1.0}]}
    assert listed_answer(odd, 9, 6) == r"...ex.jpg  d\x07g  ██████████ 100.0%"


def test_lines_are_as_wide_as_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    names = ["x" * 100, "犬" * 50, "short"]
    images = [ImageFile(name, name) for name in names]
    label = "a label of many words that goes on"
    top_k = [{"label": label, "probability": 0.5}]
    records: Any = [{"path": name, "stamp": None, "label": label, "top_k": top_k} for name in names]
    print_answers("text", {}, [label, "b"], images, [records[:2], records[2:]])
    lines = terminal.getvalue().splitlines()
    widths = [len(line) + line.count("犬") for line in lines]
    assert len(set(widths)) == 1
    assert widths[0] <= 60
    assert lines[0].startswith("..." + "x" * 16 + "  a label of many ...  █████ ")
    assert lines[2].startswith("short   ")


def test_each_batch_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Pipe(io.StringIO):
        def flush(self) -> None:
            seen.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Pipe())
    batches: Any = [[{**DOG, "stamp": None}], [{**DOG, "stamp": None}]]
    print_answers("jsonl", {}, ["dog"], [], batches)
    line = seen[0]
    assert line.startswith('{"path": "photos/rex.jpg", "label": "dog", ')
    assert seen[1] == line * 2


CAT: Dict[str, Any] = {
    **DOG,
    "label": "cat",
    "labels": ["cat"],
    "is_unknown": False,
    "is_answered": True,
}


def test_a_set_of_labels() -> None:
    lynx = {**CAT, "labels": ["cat", "lynx"]}
    assert single_answer(lynx, 80, 0.95)[0] == "photos/rex.jpg: cat or lynx (95%)"
    assert listed_answer(lynx, 14, 3) == "photos/rex.jpg  dog  ███████▌    75.0%  cat or lynx"
    assert single_answer(CAT, 80, 0.95)[0] == "photos/rex.jpg: cat"
    assert listed_answer(CAT, 14, 3) == listed_answer(DOG, 14, 3)
    many = {**CAT, "labels": list("abcde")}
    assert single_answer(many, 80, 0.999)[0] == "photos/rex.jpg: a, b, c or 2 more (99.9%)"


def test_possible_labels() -> None:
    poster = {**POSTER, "possible_labels": ["Drama", "Comedy", "War"], "is_answered": True}
    assert single_answer(poster, 80, 0.9)[0] == "a.jpg: Drama, Comedy, and possibly War (90%)"
    assert listed_answer(poster, 5, 9) == "a.jpg  Drama, Comedy, and possibly War"
    none = {**poster, "labels": [], "possible_labels": ["War", "Crime"]}
    assert listed_answer(none, 5, 9) == "a.jpg  possibly War and Crime"
    assert listed_answer({**poster, "possible_labels": ["Drama"]}, 5, 9) == listed_answer(
        POSTER, 5, 9
    )


def test_what_is_not_to_be_relied_on_is_said() -> None:
    unknown = {**CAT, "is_unknown": True, "is_answered": False}
    assert single_answer(unknown, 80)[:2] == ["photos/rex.jpg: unknown", "  most likely: cat"]
    assert listed_answer(unknown, 14, 3).endswith("75.0%  unknown")
    unsure = {**CAT, "is_answered": False, "labels": ["cat", "lynx"]}
    title, likely, *_ = single_answer(unsure, 80, 0.95)
    assert title == "photos/rex.jpg: not answered: hand to a person"
    assert likely == "  most likely: cat or lynx (95%)"
    end = "75.0%  cat or lynx  not answered: hand to a person"
    assert listed_answer(unsure, 14, 3).endswith(end)
    poster = {**POSTER, "is_answered": False}
    assert listed_answer(poster, 5, 9).endswith("Comedy 60.0%  not answered: hand to a person")

import io
import sys

import pytest

from allencv.runtime import terminal


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),  # as no-color.org says
        ({"NO_COLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_when_there_are_colours(
    variables: "dict[str, str]", expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert terminal.has_colors(Terminal()) == expected
    assert not terminal.has_colors(io.StringIO())
    styled = terminal.styled("a", terminal.BOLD, terminal.RED, stream=Terminal())
    assert styled == ("\x1b[1;31ma\x1b[0m" if expected else "a")
    assert terminal.styled("a", stream=Terminal()) == "a"


@pytest.mark.parametrize(
    ("text", "width", "end", "start"),
    [
        ("abc", 5, "abc  ", "abc  "),
        ("abcdef", 5, "ab...", "...ef"),
        ("犬犬犬", 6, "犬犬犬", "犬犬犬"),
        ("犬犬犬", 5, "犬...", "...犬"),
        ("犬犬犬", 4, "... ", "... "),
        ("e\u0301te", 4, "e\u0301te ", "e\u0301te "),
    ],
)
def test_text_of_a_width(text: str, width: int, end: str, start: str) -> None:
    assert terminal.fitted(text, width) == end
    assert terminal.fitted(text, width, keep_end=True) == start


@pytest.mark.parametrize(
    ("share", "expected", "ascii"),
    [
        (0.0, "    ", "    "),
        (0.5, "██  ", "##  "),
        (0.4, "█▋  ", "##  "),
        (0.999, "████", "####"),
        (1.0, "████", "####"),
    ],
)
def test_bars(share: float, expected: str, ascii: str) -> None:
    assert terminal.bar(share, 4, Terminal()) == expected
    assert terminal.bar(share, 4, io.StringIO()) == ascii


def test_a_notice_is_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with terminal.notice("loading torch"):
        assert stream.getvalue() == "loading torch ..."
    assert stream.getvalue() == "loading torch ...\r\x1b[K"
    with pytest.raises(KeyError), terminal.notice("reading"):
        raise KeyError
    assert stream.getvalue().endswith("reading ...\r\x1b[K")


def test_elsewhere_there_is_no_notice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with terminal.notice("loading torch"):
        pass
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with terminal.notice("loading torch"):
        pass
    assert capsys.readouterr().err == stream.getvalue() == ""


def test_a_notice_for_logs_is_a_line(capsys: pytest.CaptureFixture) -> None:
    with terminal.notice("loading torch", in_logs=True):
        assert capsys.readouterr().err == "loading torch ...\n"
    assert capsys.readouterr().err == ""


def test_a_closed_stream_is_no_terminal() -> None:
    """As with a log that is written while a process ends."""
    stream = Terminal()
    stream.close()
    assert not terminal.is_terminal(stream)


@pytest.mark.parametrize(
    ("line", "hanging", "expected"),
    [
        ("a b", 2, "a b"),
        ("  short    line of words", 2, "  short    line of\n    words"),
        ("one two three four five", 8, "one two three four\n        five"),
        ("in /a-long/path/of-a-file", 2, "in\n  /a-long/path/of-a-file"),
        ("", 2, ""),
    ],
)
def test_long_lines(
    line: str, hanging: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert terminal.wrapped(line, hanging) == expected

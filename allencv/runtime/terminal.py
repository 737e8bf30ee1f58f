"""Text for a terminal: colours, columns, bars, and a notice of what a command is doing."""

import logging
import os
import shutil
import sys
import textwrap
import unicodedata
from contextlib import contextmanager
from typing import Iterator, Optional, TextIO

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"
"""Styles, as ANSI codes."""
EIGHTHS = " ▏▎▍▌▋▊▉"
"""The end of a bar, by the number of eighths of a cell."""
ERASE_LINE = "\r\x1b[K"


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can erase a line and show colours."""
    return not stream.closed and stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colors(stream: TextIO) -> bool:
    """Return whether text on a stream has colours: in a terminal, unless `NO_COLOR` is set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def styled(text: str, *styles: str, stream: Optional[TextIO] = None) -> str:
    """Return a text in some styles, if the stream (default = standard output) shows colours."""
    if not styles or not has_colors(stream or sys.stdout):
        return text
    return f"\x1b[{';'.join(styles)}m{text}\x1b[0m"


def printable(text: str) -> str:
    """Return a text with escapes for control characters, which could change the terminal."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def width_of(text: str) -> int:
    """Return the number of columns that a text takes; Chinese characters take two."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def fitted(text: str, width: int, keep_end: bool = False) -> str:
    """Return a text of exactly `width` columns: filled with spaces, or cut at its end or start."""
    if width_of(text) > width:
        while text and width_of(text) > width - 3:
            text = text[1:] if keep_end else text[:-1]
        text = f"...{text}" if keep_end else f"{text}..."
    return text + " " * (width - width_of(text))


def wrapped(line: str, hanging: int = 2) -> str:
    """
    Return a line in as many lines as the terminal needs, or as 80 columns need where there is no
    terminal. The further ones are indented by `hanging` columns more. Words stay whole.
    """
    indent = line[: len(line) - len(line.lstrip())]
    columns = shutil.get_terminal_size().columns
    return textwrap.fill(
        line.strip(),
        width=columns,
        initial_indent=indent,
        subsequent_indent=indent + " " * min(hanging, columns * 2 // 3),
        break_long_words=False,
        break_on_hyphens=False,
    )


def bar(share: float, cells: int, stream: Optional[TextIO] = None) -> str:
    """Return a bar of `cells` columns that is filled to a `share` from 0 to 1."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    if not encoding.lower().startswith("utf"):
        return ("#" * round(share * cells)).ljust(cells)
    full, rest = divmod(round(share * cells * 8), 8)
    return f"{'█' * full}{EIGHTHS[rest] if rest else ''}".ljust(cells)


@contextmanager
def notice(text: str, in_logs: bool = False) -> Iterator[None]:
    """
    Show what a command is doing in a terminal, such as "loading torch", for as long as the `with`
    block runs. The line goes to standard error, and is erased at the end. Elsewhere, print a line
    with `in_logs`, and otherwise nothing.
    """
    stream = sys.stderr
    if not is_terminal(stream):
        if in_logs:
            print(f"{text} ...", file=stream, flush=True)
        yield
        return
    stream.write(f"{text} ...")
    stream.flush()
    try:
        yield
    finally:
        stream.write(ERASE_LINE)
        stream.flush()


def log_to_file_only(logger: str, message: str) -> None:
    """Write a message to the log files of the process: it is also printed in another way."""
    record = logging.LogRecord(logger, logging.INFO, __file__, 0, message, None, None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)

"""
Progress bars that fit the terminal, in place of AllenNLP's.

AllenNLP's `Tqdm` writes bars through an object that hides the terminal from tqdm, so that tqdm
knows neither its width nor its characters: bars wrap, and each update adds lines. Where there is
no terminal, AllenNLP writes ten updates per second into the log of a job.
"""

import sys
from typing import Any

from allennlp.common import Tqdm
from allennlp.common import logging as common_logging
from allennlp.common import tqdm as allennlp_tqdm

from allencv.runtime.terminal import is_terminal

SECONDS_BETWEEN, SECONDS_BETWEEN_LINES = 0.1, 5.0
"""The seconds between two updates, in a terminal and elsewhere."""
DELAY = 0.5
"""The seconds until a bar appears in a terminal: there is none for what is done at once."""


def are_plain_lines() -> bool:
    """Return whether each update is a line of its own: with `--file-friendly-logging`, too."""
    return common_logging.FILE_FRIENDLY_LOGGING or not is_terminal(sys.stderr)


class BarWriter(allennlp_tqdm.TqdmToLogsWriter):
    """Writes a bar to standard error and to the log of a run, as AllenNLP does."""

    @property
    def encoding(self) -> str:
        return sys.stderr.encoding

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    def fileno(self) -> int:
        return sys.stderr.fileno()

    def write(self, message: str) -> None:
        if are_plain_lines():
            message = allennlp_tqdm.replace_cr_with_newline(message)
            if not message.strip():
                return
        super().write(message)


def progress_bar(*args: Any, **kwargs: Any) -> Any:
    """Return a bar of tqdm. The arguments are tqdm's; a finished bar is erased by default."""
    is_plain = are_plain_lines()
    seconds = SECONDS_BETWEEN_LINES if is_plain else SECONDS_BETWEEN
    defaults = {
        "file": BarWriter(),
        "dynamic_ncols": True,
        "leave": False,
        "mininterval": seconds,
        "delay": seconds if is_plain else DELAY,
    }
    return allennlp_tqdm._tqdm(*args, **{**defaults, **kwargs})


Tqdm.tqdm = staticmethod(progress_bar)

import contextlib
import logging
import os
from typing import Any, Dict, Iterable, Iterator, List, Set

from allennlp.common import logging as common_logging
from allennlp.common import tqdm as allennlp_tqdm

from allencv.runtime.terminal import ERASE_LINE, RED, YELLOW, is_terminal, styled

SPARED = (
    "You provided a validation dataset but patience was set to None",
    "vocabulary serialization directory",
)
"""The beginnings of warnings that only repeat the config, or are about what always is so."""
LOG_FILE_ONLY = (
    "allencv.training.image_trainer",
    "allencv.training.parameter_groups",
    "allennlp.commands.evaluate",
    "allennlp.commands.train",
    "allennlp.common.meta",
    "allennlp.common.params",
    "allennlp.common.plugins",
    "allennlp.common.registrable",
    "allennlp.common.util",
    "allennlp.data.vocabulary",
    "allennlp.models.archival",
    "allennlp.nn.initializers",
)
"""The loggers whose information a user does not follow, such as the arguments of each part."""
NOT_FOLLOWED = (
    "Beginning training.",
    "Ended by: ",  # the error that the command prints last
    "Epoch duration: ",
    "Estimated training time remaining: ",
    "Pytorch version: ",
    "Ran out of patience.",  # the table of epochs says it
)
"""The beginnings of other information that only the log needs."""

_is_for_log_file_only = False
_log_file_only: Set[str] = set()


def is_followed(record: logging.LogRecord) -> bool:
    """
    Return whether a log record is part of the short progress view: not the arguments of each part
    that is built, nor the names of all parameters of the network.
    """
    message = record.getMessage()
    if record.levelno > logging.INFO:
        return not message.startswith(SPARED)
    return not (
        _is_for_log_file_only
        or record.name in LOG_FILE_ONLY
        or record.name in _log_file_only
        or message.startswith(NOT_FOLLOWED)
    )


@contextlib.contextmanager
def to_log_file_only() -> Iterator[None]:
    """Keep the information that is logged in the `with` block out of the short progress view."""
    global _is_for_log_file_only
    before, _is_for_log_file_only = _is_for_log_file_only, True
    try:
        yield
    finally:
        _is_for_log_file_only = before


@contextlib.contextmanager
def loggers_to_file_only(*names: str) -> Iterator[None]:
    """Keep the information of some loggers out of the short progress view in the `with` block."""
    added = set(names) - _log_file_only
    _log_file_only.update(added)
    try:
        yield
    finally:
        _log_file_only.difference_update(added)


def styled_as(*styles: str) -> Dict[str, Any]:
    """Return the `extra` of a log message that has these styles of `runtime.terminal`."""
    return {"styles": styles}


class ConsoleHandler(logging.StreamHandler):
    """Prints the short progress view: messages without times and modules, above progress bars."""

    def __init__(self, stream: Any, level: int, filters: Iterable[Any]) -> None:
        super().__init__(stream)
        self.setLevel(level)
        for each in (*filters, is_followed):
            self.addFilter(each)

    def format(self, record: logging.LogRecord) -> str:
        styles = getattr(record, "styles", ())
        if record.levelno > logging.INFO:
            styles = [YELLOW if record.levelno < logging.ERROR else RED]
        return styled(super().format(record), *styles, stream=self.stream)

    def emit(self, record: logging.LogRecord) -> None:
        bars = list(getattr(allennlp_tqdm._tqdm, "_instances", ()))
        for bar in bars:
            bar.clear()
        if is_terminal(self.stream):
            self.stream.write(ERASE_LINE)  # a notice
        super().emit(record)
        for bar in bars:
            bar.refresh()


@contextlib.contextmanager
def console_to_follow() -> Iterator[None]:
    """
    Make commands in the `with` block print a short progress view, without times and modules. The
    file out.log in the folder of a training run has everything. With ALLENNLP_DEBUG in the
    environment, everything is printed too.
    """
    if os.environ.get("ALLENNLP_DEBUG"):
        yield
        return
    root = logging.getLogger()
    before = list(root.handlers)
    prepare = common_logging.prepare_global_logging

    def prepare_and_thin(*args: Any, **kwargs: Any) -> None:
        prepare(*args, **kwargs)
        root.handlers = _to_follow(root.handlers)

    common_logging.prepare_global_logging = prepare_and_thin
    root.handlers = _to_follow(before)
    thinned = root.handlers
    try:
        yield
    finally:
        common_logging.prepare_global_logging = prepare
        if root.handlers is thinned:
            root.handlers = before


def _to_follow(handlers: List[logging.Handler]) -> List[logging.Handler]:
    """Return the handlers with those that print in AllenNLP's format replaced by ours."""
    return [
        ConsoleHandler(each.stream, each.level, each.filters)
        if type(each) is logging.StreamHandler
        else each
        for each in handlers
    ]

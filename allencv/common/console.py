import contextlib
import logging
import os
import sys
from typing import Any, Iterator

from allennlp.common import logging as common_logging

SPARED = ("You provided a validation dataset but patience was set to None",)
"""The beginnings of warnings that only repeat the config."""


def is_followed(record: logging.LogRecord) -> bool:
    """
    Return whether a log record is part of the short progress view: not the arguments of each part
    that is built, nor the names of all parameters of the network.
    """
    message = record.getMessage()
    if record.name == "allennlp.common.util":
        return record.levelno > logging.INFO or message.startswith("Metrics: ")
    return record.name != "allennlp.common.params" and not message.startswith(SPARED)


@contextlib.contextmanager
def console_to_follow() -> Iterator[None]:
    """
    Make training runs that begin in the `with` block print a short progress view, without times and
    modules. The file out.log in the run's folder has everything. With ALLENNLP_DEBUG in the
    environment, everything is printed too.
    """
    prepare = common_logging.prepare_global_logging

    def prepare_and_thin(*args: Any, **kwargs: Any) -> None:
        prepare(*args, **kwargs)
        for handler in logging.getLogger().handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.addFilter(is_followed)
                handler.setFormatter(logging.Formatter("%(message)s"))

    if not os.environ.get("ALLENNLP_DEBUG"):
        common_logging.prepare_global_logging = prepare_and_thin
    try:
        yield
    finally:
        common_logging.prepare_global_logging = prepare

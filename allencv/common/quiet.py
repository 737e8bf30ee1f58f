import logging
import warnings
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def quiet(level: int = logging.WARNING, hide_warnings: bool = True) -> Iterator[None]:
    """Hide log records at `level` or below, and Python's warnings unless told otherwise."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        if hide_warnings:
            warnings.simplefilter("ignore")
        if level > disabled:  # each `disable` visits all loggers
            logging.disable(level)
        try:
            yield
        finally:
            if level > disabled:
                logging.disable(disabled)

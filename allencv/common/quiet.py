import logging
import warnings
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Hide Python's warnings, and log records at `level` or below."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(level)
        try:
            yield
        finally:
            logging.disable(disabled)

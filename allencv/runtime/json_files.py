"""JSON that somebody else has written."""

import json
import os
from typing import Any, Union

from allencv.runtime.regular_files import open_regular


def parse_json(text: Union[str, bytes]) -> Any:
    """Parses JSON. Raises `ValueError` for anything else, and for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Union[str, os.PathLike]) -> Any:
    """
    Reads a file of JSON in UTF-8.

    # Raises

    `OSError` if there is no such file, or a pipe, which may have no end. `ValueError` for anything
    but JSON.
    """
    with open_regular(path) as file:
        return parse_json(file.read().decode("utf-8"))

"""Read JSON from untrusted sources."""

import json
import os
from typing import Any, Union

from allencv.runtime.regular_files import open_regular


def parse_json(text: Union[str, bytes]) -> Any:
    """Parse JSON. Raise `ValueError` for anything else, and for too deep nesting."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Union[str, os.PathLike]) -> Any:
    """
    Read a JSON file in UTF-8.

    # Raises

    `OSError` if the file does not exist or is a pipe, which may have no end. `ValueError` for
    anything but JSON.
    """
    with open_regular(path) as file:
        return parse_json(file.read().decode("utf-8"))

"""The keys of a config for data paths, in messages."""

import json
from typing import Any, Mapping

from allencv.runtime.json_files import parse_json

PATH_KEYS = (
    "train_data_path",
    "validation_data_path",
    "test_data_path",
    "calibration_data_path",
)
KEYS = "train_data_path, validation_data_path or test_data_path"
"""The keys in a reader's message, as a reader does not know the key of its path."""


def with_key(message: str, key: str) -> str:
    """Replace `KEYS` in a reader's message by the key of its path, or by another name of it."""
    return message.replace(KEYS, key)


def with_one_key(message: str, paths: Mapping[str, Any]) -> str:
    """
    Replace `KEYS` in a reader's message by the key of the path in the message; `paths` are those of
    a config. If several keys have that path, use the first.
    """
    named = {}
    for key in PATH_KEYS:
        path = paths.get(key)
        text = str(path.get("path", path) if isinstance(path, Mapping) else path)
        if path is not None and text in message:
            named[key] = len(text)
    return with_key(message, max(named, key=named.__getitem__)) if named else message


def data_text(data: Any) -> str:
    """Return a data path as the text that `data_of_text` understands."""
    return data if isinstance(data, str) else json.dumps(data)


def data_of_text(text: str) -> Any:
    """Return the data path of a text: an object if it is JSON of one. Raise `ValueError`."""
    return parse_json(text) if text.startswith("{") else text

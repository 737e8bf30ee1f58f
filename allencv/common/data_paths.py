"""The keys of a config that say what readers are to read, in messages."""

from typing import Any, Mapping

PATH_KEYS = ("train_data_path", "validation_data_path", "test_data_path")
KEYS = "train_data_path, validation_data_path or test_data_path"
"""What a reader says, which does not know under which key its path is."""


def with_one_key(message: str, paths: Mapping[str, Any]) -> str:
    """
    Return a reader's message with the key of the path that it names in place of all keys; `paths`
    are those of a config. Where several keys have that path, it is the first.
    """
    named = {}
    for key in PATH_KEYS:
        path = paths.get(key)
        text = str(path.get("path", path) if isinstance(path, Mapping) else path)
        if path is not None and text in message:
            named[key] = len(text)
    return message.replace(KEYS, max(named, key=named.__getitem__)) if named else message

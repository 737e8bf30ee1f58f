"""Finds the image and the label among the files of a sample in a shard."""

import json
from typing import Any, Dict, List, Optional, Tuple, Union

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.messages import cut
from allencv.data.dataset_readers.shards import ShardFile
from allencv.runtime.images import IMAGE_SUFFIXES

RawLabel = Union[None, str, Tuple[str, ...]]
"""The label in a file: one, several, or `None` in a dataset without labels."""


class IncompleteSample(ConfigurationError):
    """A sample of a shard lacks its image or its label."""


class SampleFiles:
    """
    Says which files of a sample are read.

    # Parameters

    image_keys, label_key, label_field
        See `WebDatasetReader`.
    """

    def __init__(
        self, image_keys: Optional[List[str]], label_key: Optional[str], label_field: str
    ) -> None:
        self.image_keys = None if image_keys is None else [_extension(key) for key in image_keys]
        self.label_keys = [] if label_key is None else [*map(_extension, label_key.split(";"))]
        self.label_field = label_field

    def is_wanted(self, extension: str) -> bool:
        return extension in self.label_keys or self._is_image(extension)

    def find(self, name: str, files: Dict[str, ShardFile]) -> Tuple[ShardFile, Optional[str]]:
        """Return the image file and the extension of the label file. Raise `IncompleteSample`."""
        order = files if self.image_keys is None else self.image_keys
        image = next((files[key] for key in order if key in files and self._is_image(key)), None)
        has = ", ".join(f".{extension}" for extension in files) or "nothing"
        if image is None:
            keys = ", ".join(self.image_keys or ["jpg", "png", "..."])
            raise _incomplete(f"{name} has no image: expected one of {keys}, but it has {has}")
        if not self.label_keys:
            return image, None
        label_key = next((key for key in self.label_keys if key in files), None)
        if label_key is None:
            expected = " or ".join(f".{key}" for key in self.label_keys)
            raise _incomplete(f"{name} has no label: expected {expected}, but it has {has}")
        return image, label_key

    def label(self, name: str, key: Optional[str], files: Dict[str, ShardFile]) -> RawLabel:
        """Return the label in the file with the extension `key`."""
        if key is None:
            return None
        label = self._content(name, key, files[key]())
        if isinstance(label, list):
            return tuple(_text(name, key, each) for each in label)
        return _text(name, key, label)

    def _is_image(self, extension: str) -> bool:
        if self.image_keys is None:
            return f".{extension}" in IMAGE_SUFFIXES
        return extension in self.image_keys

    def _content(self, name: str, key: str, data: bytes) -> Any:
        try:
            text = data.decode("utf-8-sig")
            value = json.loads(text) if key.endswith("json") else text.strip()
        except ValueError as error:
            raise ConfigurationError(f"{name}: .{key} is damaged: {error}") from error
        if isinstance(value, str):
            return value
        label = value.get(self.label_field) if isinstance(value, dict) else None
        if label is None:
            keys = ", ".join(value) if isinstance(value, dict) else type(value).__name__
            raise IncompleteSample(
                f"{name} has no label: expected '{self.label_field}' (dataset_reader.label_field) "
                f"in .{key}, which has {keys}"
            )
        return label


def _text(name: str, key: str, label: Any) -> str:
    if not isinstance(label, (str, int)) or isinstance(label, bool) or label == "":
        raise ConfigurationError(
            f"{name} has the label {cut(label)} in .{key}; expected a text or a number"
        )
    return str(label)


def _extension(key: str) -> str:
    return key.strip().lower().lstrip(".")


def _incomplete(what: str) -> IncompleteSample:
    return IncompleteSample(
        f"{what} (dataset_reader.image_keys and label_key); the files of a sample must share their "
        "name up to the first dot and be adjacent, as with tar --sort=name"
    )

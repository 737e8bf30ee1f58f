"""The user's options about the data, and their names in messages."""

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator, Optional

from allennlp.common.checks import ConfigurationError

from allencv.common.data_paths import KEYS, PATH_KEYS

SINGLE, MULTI = "single", "multi"
"""The tasks: one label an image, or any number."""
SPLITS, CLASSES = "splits", "classes"
"""The layouts: what the folders in a folder are."""
NO_COLUMN = "none"
"""In place of the name of a column: none."""


@dataclass
class TableColumns:
    """The user's options for a table or a list; those that are `None` are inferred."""

    image_column: Optional[str] = None
    label_column: Optional[str] = None
    image_root: Optional[str] = None
    split_column: Optional[str] = None
    """A column, or `"none"`."""
    task: Optional[str] = None
    """`"single"` or `"multi"`."""
    label_delimiter: Optional[str] = None
    missing_labels: Optional[str] = None
    """`"skip"` or `"keep"`."""
    delimiter: Optional[str] = None
    encoding: Optional[str] = None

    def __post_init__(self) -> None:
        r"""Read "\t", as typed in a shell, as a tab."""
        self.delimiter = "\t" if self.delimiter == r"\t" else self.delimiter
        self.label_delimiter = "\t" if self.label_delimiter == r"\t" else self.label_delimiter


@dataclass
class FolderOptions:
    """The user's options for folders; those that are `None` are inferred."""

    layout: Optional[str] = None
    """`"splits"` or `"classes"`."""
    recursive: Optional[bool] = None
    label_pattern: Optional[str] = None
    validation: Optional[str] = None
    """The path of the validation data; likewise `test`."""
    test: Optional[str] = None


ARGUMENTS = {
    "labels_column": "label_column",
    "label_columns": "label_column",
    "labels_delimiter": "label_delimiter",
    "image_pattern": "image_column",
}
"""Options for arguments of readers that have another name."""
KNOWN = {*TableColumns.__annotations__, *FolderOptions.__annotations__}


@contextmanager
def named_as_options() -> Iterator[None]:
    """Make errors of the readers name options of the command, not keys of a config."""

    def option(found: "re.Match[str]") -> str:
        name = ARGUMENTS.get(found[1], found[1])
        return f"--{name.replace('_', '-')}" if name in KNOWN else found[0]

    try:
        yield
    except ConfigurationError as error:
        message = re.sub(r"dataset_reader\.(\w+)", option, error.message).replace(KEYS, "DATA")
        for key, name in zip(PATH_KEYS, ("DATA", "--validation", "--test")):
            message = message.replace(f"({key})", f"({name})")
        raise ConfigurationError(message) from error

"""What the user says about the data, and the names of these options in messages."""

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
"""In place of a name: no column of the table."""


@dataclass
class TableColumns:
    """What the user says about a table or a list; what is `None` is found out."""

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
        """Let a tab be typed as a shell has it."""
        self.delimiter = "\t" if self.delimiter == r"\t" else self.delimiter
        self.label_delimiter = "\t" if self.label_delimiter == r"\t" else self.label_delimiter


@dataclass
class FolderOptions:
    """What the user says about folders; what is `None` is found out."""

    layout: Optional[str] = None
    """`"splits"` or `"classes"`."""
    recursive: Optional[bool] = None
    label_pattern: Optional[str] = None
    validation: Optional[str] = None
    """The path of the validation data; so the `test` data."""
    test: Optional[str] = None


ARGUMENTS = {
    "labels_column": "label_column",
    "label_columns": "label_column",
    "labels_delimiter": "label_delimiter",
    "image_pattern": "image_column",
}
"""Arguments of readers that have another name as options."""
KNOWN = {*TableColumns.__annotations__, *FolderOptions.__annotations__}


@contextmanager
def named_as_options() -> Iterator[None]:
    """Let errors of the readers name the options of the command and not the keys of a config."""

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

"""Finds out how data lies: which reader reads it, and which parts it has."""

import inspect
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.files import IMAGE_SUFFIXES, suffixes
from allencv.data.dataset_readers.tables import FORMATS
from allencv.fitting.table_columns import TableColumns, find_columns

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation", "dev")
TEST = ("test", "testing")
LISTS = (".txt",)

HOLD_OUT = {"fraction": 0.2, "by": "stratified"}


@dataclass
class FoundData:
    """Data as a config names it, and what was inferred about it."""

    reader: Dict[str, Any]
    """Type and arguments of the reader, without transforms."""
    train_path: Any
    validation_path: Any
    test_path: Any = None
    split: Optional[Dict[str, Any]] = None
    """How validation images are held out, where they have no place of their own."""
    notes: List[str] = field(default_factory=list)


def find_data(data: str, columns: TableColumns, root: str = "data") -> FoundData:
    """
    What `data` is: a folder with `train` and `val`, or with a folder for each class, or with a
    table; a table (CSV, TSV, JSON lines, Parquet) or a list (.txt); or the name of a data set of
    torchvision, which is then in `root` or downloaded there.

    # Raises

    `ConfigurationError` if it is none of these, or which of several cannot be told.
    """
    if os.path.isdir(data):
        return _in_folder(data, columns)
    if os.path.isfile(data):
        return _in_file(data, columns)
    from torchvision import datasets

    names = {
        name.lower(): name for name in datasets.__all__ if inspect.isclass(getattr(datasets, name))
    }
    if data.lower() in names:
        return _of_torchvision(names[data.lower()], root)
    raise ConfigurationError(
        f"DATA is {data!r}; expected a folder, a table or a list that is there, or the name of a "
        "data set in torchvision.datasets, such as CIFAR10"
    )


def _in_folder(folder: str, columns: TableColumns) -> FoundData:
    entries = sorted(Path(folder).iterdir())
    by_name = {entry.name.lower(): str(entry) for entry in entries if entry.is_dir()}
    train, validation, test = (
        next((by_name[name] for name in names if name in by_name), None)
        for names in (TRAIN, VALIDATION, TEST)
    )
    if train is not None:
        return _of_parts(train, validation, test)
    tables = [entry for entry in entries if suffixes(entry.name)[0] in FORMATS]
    if len(tables) == 1:
        found = _in_file(str(tables[0]), columns)
        found.notes.insert(0, f"{tables[0].name} in the folder is the table")
        return found
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise ConfigurationError(f"{folder} has several tables ({names}); expected DATA to be one")
    if not by_name:
        raise ConfigurationError(
            f"{folder} has no folders and no table; expected a folder of images for each class, "
            "folders train and val with these, or a table"
        )
    reader = {"type": "image_folder"}
    note = "a folder for each class; a fifth of each is held out for validation"
    return FoundData(reader, folder, folder, split=dict(HOLD_OUT), notes=[note])


def _of_parts(train: str, validation: Optional[str], test: Optional[str]) -> FoundData:
    reader: Dict[str, Any] = {"type": "image_folder"}
    # A test set without labels is nothing to evaluate on.
    if test is not None and not any(entry.is_dir() for entry in Path(test).iterdir()):
        test = None
    if validation is None:
        note = f"a fifth of each class in {train} is held out for validation"
        return FoundData(reader, train, train, test, dict(HOLD_OUT), [note])
    return FoundData(reader, train, validation, test, notes=[f"{train} and {validation}"])


def _in_file(file: str, columns: TableColumns) -> FoundData:
    if suffixes(file)[0] in LISTS:
        reader, note = _list_reader(file)
    elif suffixes(file)[0] in FORMATS:
        reader, note = find_columns(file, columns)
    else:
        raise ConfigurationError(
            f"DATA is the file {file!r}; expected a table ({', '.join(FORMATS)}) or a list "
            f"({', '.join(LISTS)})"
        )
    notes = [note, "a fifth of the images is held out for validation"]
    return FoundData(reader, file, file, split=dict(HOLD_OUT), notes=notes)


def _list_reader(file: str) -> "tuple[Dict[str, Any], str]":
    """The delimiter is the one behind the suffix of the first image."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        first = next((line.strip() for line in lines if line.strip()), "")
    for delimiter, name in (("\t", "a tab"), (" ", "a space"), (",", "a comma")):
        path, found, label = first.rpartition(delimiter)
        if found and label and os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES:
            reader: Dict[str, Any] = {"type": "image_list", "delimiter": delimiter}
            if delimiter == "\t" and set(label.split(",")) <= {"0", "1"} and "," in label:
                reader = {"type": "image_list", "multi_label": True}
            return reader, f"lines of a path and a label, with {name} between them"
    raise ConfigurationError(
        f"{file}: the first line is {first[:80]!r}; expected 'path label', with a space, a tab or "
        "a comma between them"
    )


def _of_torchvision(name: str, root: str) -> FoundData:
    from torchvision import datasets

    parameters = inspect.signature(getattr(datasets, name)).parameters
    reader: Dict[str, Any] = {"type": "torchvision_dataset", "dataset": name}
    if "download" in parameters:
        reader["download"] = True
    if "train" in parameters:
        key, parts = "train", list[Any]([True, False])
    elif "split" in parameters:
        key, parts = "split", ["train", _split_name(name, root, reader)]
    else:
        raise ConfigurationError(
            f"torchvision's {name} has no part for validation (neither 'train' nor 'split' among "
            "its arguments); expected a config of your own, with the reader torchvision_dataset"
        )
    train, validation = ({"root": root, key: part} for part in parts)
    note = f"torchvision's {name}; validated on its part {key}={validation[key]}"
    return FoundData(reader, train, validation, notes=[note])


def _split_name(name: str, root: str, reader: Dict[str, Any]) -> str:
    """The part for validation, which not all data sets call by the same name."""
    from allennlp.common import Params
    from allennlp.data import DatasetReader

    error: Optional[Exception] = None
    for split in ("val", "valid", "validation", "test"):
        try:
            DatasetReader.from_params(Params(dict(reader))).read_samples(
                {"root": root, "split": split}
            )
            return split
        except ConfigurationError as refused:
            error = refused
    raise ConfigurationError(str(error))

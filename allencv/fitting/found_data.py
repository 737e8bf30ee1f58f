"""Find out which reader reads the given data, and which parts they have."""

import inspect
import os
from typing import Any, Dict, Optional, Sequence, Tuple, Union

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.binary_files import what_it_is
from allencv.data.dataset_readers.files import read_text, suffixes
from allencv.data.dataset_readers.image_list_reader import LABELLED
from allencv.data.dataset_readers.messages import cut
from allencv.data.remote import open_file
from allencv.fitting.data_parts import FoundData, in_parts, in_table
from allencv.fitting.folder_layout import find_in_folder
from allencv.fitting.options import (
    MULTI,
    SINGLE,
    FolderOptions,
    TableColumns,
    named_as_options,
)
from allencv.fitting.shard_folders import in_shards
from allencv.runtime.images import is_named_as_image
from allencv.runtime.path_tables import FORMATS, LISTS

FOR_FOLDERS = ("layout", "recursive", "label_pattern", "validation", "test", "task")
USED: Dict[str, Sequence[str]] = {
    "image_folder": FOR_FOLDERS,
    "image_table": (*TableColumns.__annotations__, "layout", "validation", "test"),
    "image_list": ("image_root", "task", "delimiter", "encoding", "validation", "test"),
    "torchvision_dataset": ("task",),
    "webdataset": ("validation", "test"),
}
"""The options that have an effect, by the type of the reader."""


@named_as_options()
def find_data(
    data: str,
    columns: TableColumns,
    root: str = "data",
    folders: Optional[FolderOptions] = None,
) -> FoundData:
    """
    Find out what `data` is: a folder with `train` and `val`, a folder for each class, a table, or
    shards; a table (CSV, TSV, JSON lines, Parquet), a list (.txt) or tar files; or the name of a
    dataset of torchvision, in `root` or downloaded there.

    The user's options in `columns` and `folders` come first, then names, then the cells of tables.
    `notes` of the result list each guess, with the option that overrides it.

    # Raises

    `ConfigurationError` if it is none of these, or ambiguous.
    """
    folders = folders or FolderOptions()
    _check_places(data, folders)
    if (in_tars := in_shards(data, folders)) is not None:
        found = in_tars
    elif os.path.isdir(data):
        found = find_in_folder(data, columns, folders)
    elif os.path.isfile(data):
        found = _in_file(data, columns, folders)
    else:
        found = _named(data, root)
    _check_options(found.reader["type"], vars(columns) | vars(folders))
    return found


def _check_places(data: str, folders: FolderOptions) -> None:
    """Raise an error if validation or test data contain DATA."""
    real = os.path.realpath(data)
    for key in ("validation", "test"):
        given = getattr(folders, key)
        if given is None or not os.path.exists(given):
            continue
        other = os.path.realpath(given)
        is_above = os.path.isdir(other) and real.startswith(os.path.join(other, ""))
        if other == real or is_above:
            where = "the folder that DATA is in" if is_above else "DATA itself"
            raise ConfigurationError(f"--{key} is {given!r}, {where}; expected other images")


def _check_options(reader_type: str, options: Dict[str, object]) -> None:
    """Raise an error for an option without effect."""
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None and name not in USED[reader_type]:
            raise ConfigurationError(
                f"{option} is {value!r}, but it has no effect on DATA, which is read by "
                f"{reader_type}: leave it out"
            )
    if options["task"] == MULTI and reader_type in ("image_folder", "torchvision_dataset"):
        raise ConfigurationError(
            f"--task is multi, but {reader_type} reads one label per image; for several labels, "
            "give a table as DATA"
        )
    if options["task"] == SINGLE and options["label_delimiter"] is not None:
        raise ConfigurationError(
            f"--label-delimiter is {options['label_delimiter']!r} and --task is single; expected "
            "one of them"
        )


def _in_file(file: str, columns: TableColumns, folders: FolderOptions) -> FoundData:
    if suffixes(file)[0] in LISTS:
        reader, note = _list_reader(file, columns)
        return in_parts(FoundData(reader, file, file, notes=[note]), None, None, folders)
    if suffixes(file)[0] not in FORMATS:
        with open_file(file) as opened:
            what = what_it_is(opened.read(1 << 16))
        raise ConfigurationError(
            f"DATA is the file {file!r}{f', {what}' if what else ''}; expected a folder, a table "
            f"({', '.join(FORMATS)}) or a list ({', '.join(LISTS)})"
        )
    return in_parts(in_table(file, columns, folders), None, None, folders)


def _list_reader(file: str, columns: TableColumns) -> Tuple[Dict[str, Any], str]:
    """Return a reader with the delimiter after the first image, and a note."""
    lines = read_text(file, columns.encoding or "utf-8").splitlines()
    filled = filter(None, map(str.strip, lines))
    first = next(filled, "")
    reader: Dict[str, Any] = {"type": "image_list"}
    for key in ("image_root", "encoding"):
        if (value := getattr(columns, key)) is not None:
            reader[key] = value
    names = {"\t": "a tab", " ": "a space", ",": "a comma"}
    for delimiter in names if columns.delimiter is None else [columns.delimiter]:
        path, found, label = first.rpartition(delimiter)
        if found and label and is_named_as_image(path):
            between = f"with {names.get(delimiter, repr(delimiter))} between them (--delimiter)"
            has_flags = delimiter == "\t" and set(label.split(",")) <= {"0", "1"} and "," in label
            if columns.task == MULTI and not has_flags:
                raise ConfigurationError(
                    f"--task is multi; {file} has the label {label!r}; expected a 0 or 1 for each "
                    "label after a tab, such as '0,1,0', or a table"
                )
            if has_flags and columns.task != SINGLE:
                note = f"lines of a path and a 0 or 1 for each label, {between}"
                return reader | {"multi_label": True}, f"{note}; any number per image (--task)"
            note = f"lines of a path and a label, {between}; one per image (--task)"
            return reader | {"delimiter": delimiter}, note
    raise _not_a_list(file, first, next(filled, None))


def _not_a_list(file: str, first: str, second: Optional[str]) -> ConfigurationError:
    """Return an error with the first line and the expected format."""
    found = f"{file}: the first line is {cut(first)}"
    if labelled := LABELLED.match(first):
        label = labelled["label"]
        between = first[labelled.end("path") : labelled.start("label")].strip()
        if len(between) == 1 and between not in label:
            return ConfigurationError(f"{found}; expected --delimiter {between!r}")
        return ConfigurationError(
            f"{found}; expected one character between the path and the label {label!r} that is not "
            "in either, such as a tab (--delimiter)"
        )
    advice = " (--delimiter)"
    if second is not None and LABELLED.match(second):
        advice = f", as in the second line: remove a header and comments{advice}"
    return ConfigurationError(
        f"{found}; expected a path and a label, such as 'photos/1.jpg cat', with a space, a tab or "
        f"a comma between them{advice}"
    )


def _named(data: str, root: str) -> FoundData:
    from torchvision import datasets

    names = {
        name.lower(): name for name in datasets.__all__ if inspect.isclass(getattr(datasets, name))
    }
    if data.lower() in names:
        return _of_torchvision(names[data.lower()], root)
    raise ConfigurationError(
        f"DATA is {data!r}; expected an existing folder, table or list, or the name of a dataset "
        "in torchvision.datasets, such as CIFAR10"
    )


def _of_torchvision(name: str, root: str) -> FoundData:
    from torchvision import datasets

    parameters = inspect.signature(getattr(datasets, name)).parameters
    reader: Dict[str, Any] = {"type": "torchvision_dataset", "dataset": name}
    train: Union[str, bool]
    validation: Union[str, bool]
    if "download" in parameters:
        reader["download"] = True
    if "train" in parameters:
        key, train, validation = "train", True, False
    elif "split" in parameters:
        key, train, validation = "split", "train", _split_name(name, root, reader)
    else:
        raise ConfigurationError(
            f"torchvision's {name} has no part for validation (no argument 'train' or 'split'); "
            "expected a config of your own, with the reader torchvision_dataset"
        )
    note = f"torchvision's {name}; validation: its part {key}={validation}"
    paths = {"root": root, key: train}, {"root": root, key: validation}
    return FoundData(reader, *paths, notes=[note])


def _split_name(name: str, root: str, reader: Dict[str, Any]) -> str:
    """Return the name of the validation part, which differs between datasets."""
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

"""Data as in a config, and their parts for training, validation, test and calibration."""

import os
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Union

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.messages import some
from allencv.fitting.options import NO_COLUMN, FolderOptions, TableColumns
from allencv.fitting.table_columns import find_columns

DataPath = Union[str, Dict[str, Union[str, bool]]]
"""A data path of a config: a path, or a dictionary for readers that take one."""
VALIDATION = 0.2
HOLD_OUT = {"fraction": VALIDATION, "by": "stratified"}
CALIBRATION, LEAST_CALIBRATION, MOST_CALIBRATION = 0.1, 200, 2000
"""
The share of the images at `train_path` that are held out for calibration, and the least and most
images. With 200, a set of labels with a level of 0.95 holds the right label for 0.95 of new images,
plus or minus 0.03. With 2,000 it is 0.01, and more images are better used in training.
"""
DIVISIBLE = ("image_folder", "image_table", "image_list")
"""The readers that hold images out."""


@dataclass
class FoundData:
    """Data as in a config, and what was inferred about them."""

    reader: Dict[str, Any]
    """Type and arguments of the reader, without transforms."""
    train_path: DataPath
    validation_path: Optional[DataPath]
    """`None` for training data alone that cannot be divided, such as shards."""
    test_path: Optional[DataPath] = None
    split: Optional[Dict[str, Any]] = None
    """How validation images are held out, if there are no separate ones."""
    calibration_path: Optional[DataPath] = None
    calibration_fraction: Optional[float] = None
    """The share of the images at `train_path` to hold out for calibration."""
    notes: List[str] = field(default_factory=list)


def in_parts(
    found: FoundData,
    validation: Optional[str],
    test: Optional[str],
    options: FolderOptions,
    calibration: Optional[str] = None,
) -> FoundData:
    """
    Return the data with validation and test parts: those that the user gives, or else those that
    were found. Without validation data, hold out a fifth of the training data.

    # Parameters

    calibration : `str`, optional
        The calibration data that were found.
    """
    validation, test = options.validation or validation, options.test or test
    if isinstance(found.train_path, dict):
        if other := validation or test or calibration:
            raise ConfigurationError(
                f"{found.train_path['path']} is ambiguous: if its column "
                f"{found.reader['split_column']} has the splits, leave out {other}; "
                "if the files are the splits, use --split-column none"
            )
        return found
    for key, path in (("validation", validation), ("test", test)):
        if path is not None and os.path.isdir(path) != os.path.isdir(found.train_path):
            if not os.path.exists(path):
                raise ConfigurationError(
                    f"--{key} is {path!r}, which does not exist; expected a folder, like DATA"
                )
            raise ConfigurationError(
                f"--{key} is {path!r}; expected a path to data of the same kind as "
                f"{found.train_path}"
            )
    found.notes.append(f"training: {found.train_path}")
    if validation is not None:
        found.validation_path, found.split = validation, None
        found.notes.append(f"validation: {validation}")
    else:
        found.split = hold_out(found.train_path)
        found.notes.append("validation: a fifth of these images, held out (--validation)")
    if test is not None:
        found.test_path = test
        found.notes.append(f"test: {test}, evaluated at the end")
    found.calibration_path = calibration
    return found


def decide_calibration(found: FoundData, is_wanted: bool) -> None:
    """Note whether the calibration data that were found are used."""
    if found.calibration_path is None:
        return
    place = found.calibration_path
    if isinstance(place, dict):
        place = f"rows with the split {place['split']}"
    if is_wanted:
        found.notes.append(
            f"calibration: {place}, on which the trained model learns when not to answer "
            "(--no-calibration)"
        )
    else:
        found.notes.append(f"not used: {place} (--no-calibration)")
        found.calibration_path = None


def hold_out(data_path: DataPath) -> Dict[str, Any]:
    return {**HOLD_OUT, "of": data_path}


def calibration_fraction(found: FoundData, num_train: int) -> Optional[float]:
    """
    Return the share of images to hold out for calibration, or `None` if there are too few, or if
    there are other images for it.

    # Parameters

    num_train : `int`
        The number of training images, without those that are held out for validation.
    """
    if found.calibration_path is not None or found.reader.get("type") not in DIVISIBLE:
        return None
    images = num_train if found.split is None else num_train / (1 - VALIDATION)
    if CALIBRATION * images < LEAST_CALIBRATION:
        return None
    return float(f"{min(CALIBRATION, MOST_CALIBRATION / images):.2g}")


def note_unused(found: FoundData, names: List[str]) -> None:
    if names:
        found.notes.append(f"not used: {some(names)}")


def in_table(file: str, columns: TableColumns, options: FolderOptions) -> FoundData:
    """Return the data in a table: all for training, or in the splits of one of its columns."""
    if (options.validation or options.test) and columns.split_column is None:
        columns = replace(columns, split_column=NO_COLUMN)
    table = find_columns(file, columns)
    found = FoundData(table.reader, file, file, notes=table.notes)
    if not table.splits:
        return found
    paths: Dict[str, DataPath] = {
        part: {"path": file, "split": value} for part, value in table.splits.items()
    }
    found.train_path, found.test_path = paths["train"], paths.get("test")
    found.calibration_path = paths.get("calibration")
    found.validation_path = paths.get("validation", found.train_path)
    if "validation" not in paths:
        found.split = hold_out(found.train_path)
        found.notes.append("validation: a fifth of the training rows, held out")
    return found


def one_of_each(folder: str, parts: Dict[str, List[str]], options: FolderOptions) -> Dict[str, str]:
    """
    Return the path of each part. If there are several, the user must choose.

    # Raises

    `ConfigurationError` if a part has several paths and the user has not chosen one.
    """
    given = {"validation": options.validation, "test": options.test}
    several = {part: paths for part, paths in parts.items() if len(paths) > 1}
    for part, paths in several.items():
        if given.get(part) is None:
            names = " or ".join(os.path.basename(path) for path in paths)
            advice = f"choose one with --{part}" if part in given else "move the others elsewhere"
            raise ConfigurationError(
                f"{folder} is ambiguous: the {part} data may be {names}: {advice}"
            )
    return {part: path for part, (path, *_) in parts.items() if part not in several}

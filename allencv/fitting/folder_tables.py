"""Find the data in the tables of a folder."""

import os
from typing import Dict, List, Optional

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.messages import some
from allencv.data.split_names import group_by_part
from allencv.fitting.data_parts import FoundData, in_parts, in_table, note_unused, one_of_each
from allencv.fitting.folder_content import Folder
from allencv.fitting.options import FolderOptions, TableColumns
from allencv.fitting.table_columns import find_columns


def in_tables(folder: Folder, columns: TableColumns, options: FolderOptions) -> FoundData:
    """Read the only table, or one for each split: train.csv and test.csv."""
    table = _main_table(folder)
    if table is None:
        raise _several(folder)
    found = in_table(table, columns, options)
    found.notes.insert(0, f"{os.path.basename(table)} in the folder is the table")
    chosen = one_of_each(folder.path, _tables_by_part(folder), options)
    others = {part: path for part, path in chosen.items() if path != table}
    if "test" in others and not _has_columns_of(others["test"], found, columns):
        others.pop("test")  # without labels, there is nothing to evaluate
    found = in_parts(
        found, others.get("validation"), others.get("test"), options, others.get("calibration")
    )
    used = [table, *others.values(), found.validation_path, found.test_path]
    note_unused(found, [os.path.basename(each) for each in folder.tables if each not in used])
    return found


def _main_table(folder: Folder) -> Optional[str]:
    """Return the only table, or one for training."""
    if len(folder.tables) == 1:
        return folder.tables[0]
    return next(iter(_tables_by_part(folder).get("train", [])), None)


def _tables_by_part(folder: Folder) -> Dict[str, List[str]]:
    return group_by_part([(os.path.basename(file).split(".")[0], file) for file in folder.tables])


def in_tables_of_splits(
    train: Folder, parts: Dict[str, Folder], columns: TableColumns, options: FolderOptions
) -> FoundData:
    """Read a table in each split, as on Hugging Face: train/metadata.csv."""
    if len(train.classes()) > 1:
        raise table_or_folders(train)
    if len(train.tables) > 1:
        raise _several(train)
    paths: Dict[str, Optional[str]] = {}
    found = in_table(train.tables[0], columns, options)
    for part, each in parts.items():
        same = os.path.join(each.path, os.path.basename(train.tables[0]))
        if same in each.tables:
            paths[part] = same
        else:
            name = os.path.basename(same)
            found.notes.append(f"{each.path} is not used: it has no {name}")
    return in_parts(
        found, paths.get("validation"), paths.get("test"), options, paths.get("calibration")
    )


def has_images_in_table(folder: Folder, columns: TableColumns) -> bool:
    return any(_is_of_images(table, columns) for table in folder.tables)


def _is_of_images(table: str, columns: TableColumns) -> bool:
    try:
        find_columns(table, columns)
    except ConfigurationError as error:
        return "has paths of images" not in error.message
    return True


def _has_columns_of(table: str, found: FoundData, columns: TableColumns) -> bool:
    try:
        return find_columns(table, columns).reader == found.reader
    except ConfigurationError:
        return False


def _several(folder: Folder) -> ConfigurationError:
    names = some([os.path.basename(table) for table in folder.tables])
    return ConfigurationError(
        f"{folder.path} has several tables ({names}); expected DATA to be one of them (and "
        "--validation and --test others)"
    )


def table_or_folders(folder: Folder) -> ConfigurationError:
    """Return an error for labels that may be in a table or the names of folders."""
    table = _main_table(folder) or folder.tables[0]
    return ConfigurationError(
        f"{folder.path} is ambiguous: if the labels are in the table, give {table} as DATA; if "
        f"they are the names of the folders, {some(list(folder.classes()))}, use --layout classes"
    )

"""Find the data in folders for training, validation, test and calibration."""

import os
from typing import Dict, List

from allennlp.common.checks import ConfigurationError

from allencv.common.label_text import same_looking
from allencv.data.dataset_readers.messages import some
from allencv.data.split_names import group_by_part, part_in
from allencv.fitting.class_folders import given_inside, of_classes
from allencv.fitting.data_parts import FoundData, in_parts, note_unused, one_of_each
from allencv.fitting.folder_content import Folder, innermost
from allencv.fitting.folder_tables import has_images_in_table, in_tables_of_splits
from allencv.fitting.options import SPLITS, FolderOptions, TableColumns


def find_parts(folder: Folder, options: FolderOptions) -> Dict[str, List[str]]:
    """
    Return the folders called train, val, test and calibration, or similar. With `--layout splits`,
    a word of the name is enough.
    """
    found = group_by_part([(name, path) for name, path in folder.folders.items()])
    if options.layout == SPLITS:
        by_word: Dict[str, List[str]] = {}
        for name, path in folder.folders.items():
            if (part := part_in(name)) and part not in found:
                by_word.setdefault(part, []).append(path)
        found |= by_word
    return found


def in_splits(
    folder: Folder, found_parts: Dict[str, List[str]], columns: TableColumns, options: FolderOptions
) -> FoundData:
    """
    Return the data in the folders of `find_parts`.

    # Raises

    `ConfigurationError` if the folders are ambiguous.
    """
    named = {os.path.basename(path) for paths in found_parts.values() for path in paths}
    chosen = one_of_each(folder.path, found_parts, options)
    parts = {part: innermost(path) for part, path in chosen.items()}
    train = parts.pop("train")
    paths = {part: each.path for part, each in parts.items()}
    others = [name for name in folder.classes() if name not in named]
    classes = set(train.classes())
    has_common = "validation" in parts and classes & set(parts["validation"].classes())
    if others and not has_common and options.layout is None:
        raise ConfigurationError(
            f"{folder.path} is ambiguous: if the folders {some(sorted(named))} are splits, and "
            f"{some(others)} not used, use --layout splits; if all of them are classes, use "
            "--layout classes"
        )
    if train.tables and not (classes and not has_images_in_table(train, columns)):
        return in_tables_of_splits(train, parts, columns, options)
    found = of_classes(train, options)
    for part, each in parts.items():
        of_part = set(each.classes())
        if options.label_pattern is None and not classes & of_part:
            if hint := same_looking(sorted(of_part), classes):
                raise ConfigurationError(
                    f"the class folders in {each.path} have other names than those in "
                    f"{train.path}{hint}"
                )
            why = f"its folders ({some(sorted(of_part))})" if of_part else "it has no folders that"
            why += " are not classes of the training data" if of_part else " are classes"
            found.notes.append(f"{each.path} is not used: {why}")
            del paths[part]
    found = in_parts(
        found, paths.get("validation"), paths.get("test"), options, paths.get("calibration")
    )
    found.notes.append("the folders are splits (--layout)")
    split_names = {os.path.basename(path) for path in chosen.values()}
    left = sorted(named - split_names - set(given_inside(folder, options)))
    note_unused(found, [*others, *left, *map(os.path.basename, folder.tables)])
    return found

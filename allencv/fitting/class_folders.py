"""Recognise folders of images whose names are the labels, one for each class."""

import os
from typing import Any, Dict, List, Set

from allennlp.common.checks import ConfigurationError

from allencv.common.label_text import shown
from allencv.data.dataset_readers.messages import some
from allencv.data.split_names import part_in
from allencv.fitting.data_parts import FoundData
from allencv.fitting.files_of_splits import WORDS
from allencv.fitting.folder_content import Folder, innermost, is_split
from allencv.fitting.options import FolderOptions

INNER = "([^/]+)/[^/]+$"
"""The label pattern for the folder that an image is in."""


def of_classes(folder: Folder, options: FolderOptions) -> FoundData:
    """Return a folder of classes, all for training."""
    reader: Dict[str, Any] = {"type": "image_folder"}
    if options.label_pattern is not None:
        reader["label_pattern"] = options.label_pattern
        note = "labels: in the paths of the images, by --label-pattern"
        return FoundData(reader, folder.path, folder.path, notes=[note])
    given = given_inside(folder, options)
    classes = {name: each for name, each in folder.classes().items() if name not in given}
    if not classes:
        raise _no_classes(folder)
    _check_names(folder, classes, options)
    reader |= _recursive(folder, classes, options)
    names = [f"{shown(name)}/" for name in classes]
    notes = [f"labels: the folders in {folder.path}: {some(names)} (--layout)"]
    if reader.get("recursive") and options.recursive is None:
        notes.append("the images are in folders inside the class folders (--recursive)")
    if given:
        reader["exclude"] = [f"{name}/*" for name in given]
    return FoundData(reader, folder.path, folder.path, notes=notes)


def given_inside(folder: Folder, options: FolderOptions) -> List[str]:
    """Return the folders in it that the user gives as validation and test data."""
    given = {os.path.realpath(path) for path in (options.validation, options.test) if path}
    return [name for name, path in folder.folders.items() if os.path.realpath(path) in given]


def _no_classes(folder: Folder) -> ConfigurationError:
    if folder.has_images():
        return ConfigurationError(
            f"{folder.path} has images, but no class folders and no table; expected a folder for "
            "each class, a table with the labels, or --label-pattern for labels in the names of "
            "the files"
        )
    return ConfigurationError(
        f"{folder.path} has no folders with images and no table; expected a folder of images for "
        "each class, folders train and val with these, or a table"
    )


def _check_names(folder: Folder, classes: Dict[str, Folder], options: FolderOptions) -> None:
    """Raise an error for a class that may be test images."""
    check_splits(folder, classes, options)
    parts = {name: part_in(name) for name in classes}
    doubtful = [
        name
        for name, part in parts.items()
        if part == "test" or (part == "validation" and not classes[name].has_images())
    ]
    if doubtful and options.layout is None:
        name = doubtful[0]
        raise ConfigurationError(
            f"{folder.path} is ambiguous: if {name}/ is a class, use --layout classes; if it "
            f"holds {WORDS[str(parts[name])]} images, use --{parts[name]} "
            f"{os.path.join(folder.path, name)}, or move it elsewhere"
        )


def check_splits(folder: Folder, classes: Dict[str, Folder], options: FolderOptions) -> None:
    """Raise an error for classes that may be splits, such as seg_train and seg_test."""
    parts = {name: part for name in classes if (part := part_in(name))}
    training = [name for name, part in parts.items() if part == "train"]
    if options.layout is not None or not training:
        return
    has_classes = is_split(folder.folders[training[0]], options)
    if len(parts) == len(classes) or (has_classes and set(parts.values()) != {"train"}):
        are_splits = f"the folders {some(list(parts))} are splits"
        way = "--layout splits"
        if not has_classes:
            are_splits += ", with the labels in the names of the files"
            way += " --label-pattern"
        raise ConfigurationError(
            f"{folder.path} is ambiguous: if {are_splits}, use {way}; if the folders "
            f"{some(list(classes))} are classes, use --layout classes"
        )


def _recursive(
    folder: Folder, classes: Dict[str, Folder], options: FolderOptions
) -> Dict[str, Any]:
    if options.recursive is not None:
        return {"recursive": True} if options.recursive else {}
    nested = [name for name, each in classes.items() if not each.has_images()]
    if not nested:
        return {}
    inner = [tuple(innermost(classes[name].path).classes()) for name in nested]
    names: Set[str] = {name for of_class in inner for name in of_class}
    has_common = len(names) > 1 and len(names) < sum(map(len, inner))
    if len(nested) < len(classes) or has_common:
        raise ConfigurationError(
            f"{folder.path} is ambiguous: if the labels are the outer folders, "
            f"{some(list(classes))}, use --recursive; if they are the folders inside these, "
            f"{some(sorted(names))}, use --label-pattern '{INNER}'"
        )
    return {"recursive": True}

"""Find out what the folders in a folder are: splits, classes, or the images of a table."""

import os
from typing import Any, Dict, List, Optional, Set, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.common.label_text import same_looking, shown
from allencv.data.dataset_readers.files import suffixes
from allencv.data.dataset_readers.messages import some
from allencv.data.dataset_readers.tables import FORMATS
from allencv.fitting.data_parts import FoundData, in_parts, in_table, note_unused
from allencv.fitting.files_of_splits import WORDS
from allencv.fitting.options import CLASSES, SPLITS, FolderOptions, TableColumns
from allencv.fitting.split_names import part_in, part_of
from allencv.fitting.table_columns import find_columns
from allencv.runtime.image_files import FOLDERS_OF_OTHER_PROGRAMS
from allencv.runtime.images import is_image

DEPTH = 6
"""How many levels of folders are searched for images: links may form a cycle."""
INNER = "([^/]+)/[^/]+$"
"""The label pattern for the folder that an image is in."""


class Folder:
    """The content of a folder, without hidden files and folders of other programs."""

    def __init__(self, path: str) -> None:
        self.path = path
        with os.scandir(path) as entries:
            found = sorted(
                (e.name, e.is_dir()) for e in entries if e.name[0] != "." and not _is_circle(e)
            )
        self.folders = {
            name: os.path.join(path, name)
            for name, is_folder in found
            if is_folder and name.lower() not in FOLDERS_OF_OTHER_PROGRAMS
        }
        self._files = [os.path.join(path, name) for name, is_folder in found if not is_folder]
        self.tables = [file for file in self._files if suffixes(file)[0] in FORMATS]

    def has_images(self) -> bool:
        return any(is_image(file) for file in self._files if file not in self.tables)

    def has_images_below(self, depth: int = DEPTH) -> bool:
        """Return whether it has images, at any level."""
        return self.has_images() or (
            depth > 0
            and any(Folder(path).has_images_below(depth - 1) for path in self.folders.values())
        )

    def classes(self) -> Dict[str, "Folder"]:
        """Return the folders in this one that have images, at any level."""
        folders = {name: Folder(path) for name, path in self.folders.items()}
        return {name: folder for name, folder in folders.items() if folder.has_images_below()}


def _is_circle(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a link to a folder that contains it."""
    if not entry.is_symlink():
        return False
    target = os.path.join(os.path.realpath(entry.path), "")
    return os.path.join(os.path.realpath(os.path.dirname(entry.path)), "").startswith(target)


def find_in_folder(path: str, columns: TableColumns, options: FolderOptions) -> FoundData:
    """
    Return the data in a folder.

    # Raises

    `ConfigurationError` if there are no data, or if the folders are ambiguous.
    """
    folder = _innermost(path)
    notes = [] if folder.path == path else [f"the data are in {folder.path}"]
    if empty := _beside(path, folder.path):
        notes.append(f"not used, as they have no images: {some(empty)}")
    parts = _parts(folder, options)
    if options.layout == SPLITS and "train" not in parts:
        raise ConfigurationError(
            f"--layout is splits; expected a folder train in {folder.path}, which has "
            f"{some(list(folder.folders))}"
        )
    if options.layout is None and "train" in parts and not _is_split(parts["train"][0], options):
        parts = {}  # a class of that name, or the images of a table
    if options.layout != CLASSES and "train" in parts:
        found = _in_splits(folder, parts, columns, options)
    elif options.label_pattern is not None:
        _check_splits(folder, folder.classes(), options)
        found = in_parts(_of_classes(folder, options), None, None, options)
    else:
        found = _in_table_or_classes(folder, columns, options)
    found.notes[:0] = notes
    return found


def _innermost(path: str) -> Folder:
    """Return the folder itself, or follow the only folder in it that has images."""
    folder = Folder(path)
    while not folder.tables and not folder.has_images():
        inner = list(folder.classes().values())
        if len(inner) != 1 or inner[0].has_images():
            break
        (folder,) = inner
    return folder


def _beside(outer: str, inner: str) -> List[str]:
    """Return the folders beside the path from outer to inner."""
    found: List[str] = []
    while inner != outer:
        parent, name = os.path.split(inner)
        found += [path for other, path in Folder(parent).folders.items() if other != name]
        inner = parent
    return found


def _parts(folder: Folder, options: FolderOptions) -> Dict[str, List[str]]:
    """
    Return the folders called train, val and test, or similar. With `--layout splits`, a word of the
    name is enough.
    """
    found = _by_part([(name, path) for name, path in folder.folders.items()])
    if options.layout == SPLITS:
        by_word: Dict[str, List[str]] = {}
        for name, path in folder.folders.items():
            if (part := part_in(name)) and part not in found:
                by_word.setdefault(part, []).append(path)
        found |= by_word
    return found


def _by_part(named: List[Tuple[str, str]]) -> Dict[str, List[str]]:
    """Group the named paths by part."""
    found: Dict[str, List[str]] = {}
    for name, path in named:
        if part := part_of(name):
            found.setdefault(part, []).append(path)
    return found


def _one_of_each(
    folder: Folder, parts: Dict[str, List[str]], options: FolderOptions
) -> Dict[str, str]:
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
                f"{folder.path} is ambiguous: the {part} data may be {names}: {advice}"
            )
    return {part: path for part, (path, *_) in parts.items() if part not in several}


def _is_split(path: str, options: FolderOptions) -> bool:
    """Return whether a folder, unlike that of a class, has classes or a table."""
    train = _innermost(path)
    has_labels = options.label_pattern is not None and train.has_images()
    return bool(has_labels or train.tables or train.classes())


def _in_splits(
    folder: Folder, found_parts: Dict[str, List[str]], columns: TableColumns, options: FolderOptions
) -> FoundData:
    named = {os.path.basename(path) for paths in found_parts.values() for path in paths}
    chosen = _one_of_each(folder, found_parts, options)
    parts = {part: _innermost(path) for part, path in chosen.items()}
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
    if train.tables and not (classes and not _has_images_in_table(train, columns)):
        return _in_tables_of_splits(train, parts, columns, options)
    found = _of_classes(train, options)
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
    found = in_parts(found, paths.get("validation"), paths.get("test"), options)
    found.notes.append("the folders are splits (--layout)")
    split_names = {os.path.basename(path) for path in chosen.values()}
    left = sorted(named - split_names - set(_given_inside(folder, options)))
    note_unused(found, [*others, *left, *map(os.path.basename, folder.tables)])
    return found


def _in_tables_of_splits(
    train: Folder, parts: Dict[str, Folder], columns: TableColumns, options: FolderOptions
) -> FoundData:
    """Read a table in each split, as on Hugging Face: train/metadata.csv."""
    if len(train.classes()) > 1:
        raise _table_or_folders(train, train.tables[0])
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
    return in_parts(found, paths.get("validation"), paths.get("test"), options)


def _in_table_or_classes(
    folder: Folder, columns: TableColumns, options: FolderOptions
) -> FoundData:
    by_part = _by_part([(os.path.basename(file).split(".")[0], file) for file in folder.tables])
    table = by_part["train"][0] if "train" in by_part else None
    table = folder.tables[0] if len(folder.tables) == 1 else table
    if options.layout == CLASSES or not folder.tables:
        return in_parts(_of_classes(folder, options), None, None, options)
    class_folders = [name for name in folder.classes() if not part_of(name)]
    if table is None and len(class_folders) < 2:
        raise _several(folder)
    if len(class_folders) > 1:
        if any(_is_of_images(each, columns) for each in folder.tables):
            raise _table_or_folders(folder, table or folder.tables[0])
        return in_parts(_of_classes(folder, options), None, None, options)
    found = in_table(str(table), columns, options)
    found.notes.insert(0, f"{os.path.basename(str(table))} in the folder is the table")
    chosen = _one_of_each(folder, by_part, options)
    others = {part: path for part, path in chosen.items() if path != table}
    if "test" in others and not _has_columns_of(others["test"], found, columns):
        others.pop("test")  # without labels, there is nothing to evaluate
    found = in_parts(found, others.get("validation"), others.get("test"), options)
    used = [table, *others.values(), found.validation_path, found.test_path]
    note_unused(found, [os.path.basename(each) for each in folder.tables if each not in used])
    return found


def _is_of_images(table: str, columns: TableColumns) -> bool:
    try:
        find_columns(table, columns)
    except ConfigurationError as error:
        return "has paths of images" not in error.message
    return True


def _has_images_in_table(folder: Folder, columns: TableColumns) -> bool:
    return any(_is_of_images(table, columns) for table in folder.tables)


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


def _table_or_folders(folder: Folder, table: str) -> ConfigurationError:
    return ConfigurationError(
        f"{folder.path} is ambiguous: if the labels are in the table, give {table} as DATA; if "
        f"they are the names of the folders, {some(list(folder.classes()))}, use --layout classes"
    )


def _of_classes(folder: Folder, options: FolderOptions) -> FoundData:
    """Return a folder of classes, all for training."""
    reader: Dict[str, Any] = {"type": "image_folder"}
    if options.label_pattern is not None:
        reader["label_pattern"] = options.label_pattern
        note = "labels: in the paths of the images, by --label-pattern"
        return FoundData(reader, folder.path, folder.path, notes=[note])
    given = _given_inside(folder, options)
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


def _given_inside(folder: Folder, options: FolderOptions) -> List[str]:
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
    _check_splits(folder, classes, options)
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


def _check_splits(folder: Folder, classes: Dict[str, Folder], options: FolderOptions) -> None:
    """Raise an error for classes that may be splits, such as seg_train and seg_test."""
    parts = {name: part for name in classes if (part := part_in(name))}
    training = [name for name, part in parts.items() if part == "train"]
    if options.layout is not None or not training:
        return
    has_classes = _is_split(folder.folders[training[0]], options)
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
    inner = [tuple(_innermost(classes[name].path).classes()) for name in nested]
    names: Set[str] = {name for of_class in inner for name in of_class}
    has_common = len(names) > 1 and len(names) < sum(map(len, inner))
    if len(nested) < len(classes) or has_common:
        raise ConfigurationError(
            f"{folder.path} is ambiguous: if the labels are the outer folders, "
            f"{some(list(classes))}, use --recursive; if they are the folders inside these, "
            f"{some(sorted(names))}, use --label-pattern '{INNER}'"
        )
    return {"recursive": True}

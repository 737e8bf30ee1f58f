"""Find out what the folders in a folder are: splits, classes, or the images of a table."""

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.messages import some
from allencv.data.split_names import part_of
from allencv.fitting.class_folders import check_splits, of_classes
from allencv.fitting.data_parts import FoundData, in_parts
from allencv.fitting.folder_content import Folder, beside, innermost, is_split
from allencv.fitting.folder_tables import has_images_in_table, in_tables, table_or_folders
from allencv.fitting.options import CLASSES, SPLITS, FolderOptions, TableColumns
from allencv.fitting.split_folders import find_parts, in_splits


def find_in_folder(path: str, columns: TableColumns, options: FolderOptions) -> FoundData:
    """
    Return the data in a folder.

    # Raises

    `ConfigurationError` if there are no data, or if the folders are ambiguous.
    """
    folder = innermost(path)
    notes = [] if folder.path == path else [f"the data are in {folder.path}"]
    if empty := beside(path, folder.path):
        notes.append(f"not used, as they have no images: {some(empty)}")
    parts = find_parts(folder, options)
    if options.layout == SPLITS and "train" not in parts:
        raise ConfigurationError(
            f"--layout is splits; expected a folder train in {folder.path}, which has "
            f"{some(list(folder.folders))}"
        )
    if options.layout is None and "train" in parts and not is_split(parts["train"][0], options):
        parts = {}  # a class of that name, or the images of a table
    if options.layout != CLASSES and "train" in parts:
        found = in_splits(folder, parts, columns, options)
    elif options.label_pattern is not None:
        check_splits(folder, folder.classes(), options)
        found = in_parts(of_classes(folder, options), None, None, options)
    else:
        found = _in_tables_or_classes(folder, columns, options)
    found.notes[:0] = notes
    return found


def _in_tables_or_classes(
    folder: Folder, columns: TableColumns, options: FolderOptions
) -> FoundData:
    if options.layout != CLASSES and folder.tables:
        class_folders = [name for name in folder.classes() if not part_of(name)]
        if len(class_folders) < 2:
            return in_tables(folder, columns, options)
        if has_images_in_table(folder, columns):
            raise table_or_folders(folder)
    return in_parts(of_classes(folder, options), None, None, options)

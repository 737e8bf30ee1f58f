"""Open one part of a dataset: its training, validation or test images."""

from typing import Any, Dict, NamedTuple, Optional

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader
from allencv.data.inspection import image_reader
from allencv.fitting.found_data import find_data
from allencv.fitting.options import FolderOptions, TableColumns

PARTS = ("train", "validation", "test")


class OnePart(NamedTuple):
    reader: ImageDatasetReader
    path: Any


def part_of_data(
    data: str, split: Optional[str], columns: TableColumns, root: str, folders: FolderOptions
) -> OnePart:
    """
    Find out how to read one part of `data`; see `find_data`. If training and validation data are
    not separate, they are one part.

    # Raises

    `ConfigurationError` if the data are ambiguous, lack the part, or have several and `split` is
    `None`.
    """
    found = find_data(data, columns, root, folders)
    paths: Dict[str, Any] = {"train": found.train_path, "test": found.test_path}
    paths["validation"] = None if found.split is not None else found.validation_path
    part = _part(data, paths, split)
    reader = image_reader(Params({"reader": dict(found.reader)}), "reader")
    return OnePart(reader, paths[part])


def part_of_config(file: str, params: Params, split: Optional[str]) -> OnePart:
    """
    Build the reader of one part of a config's data.

    # Raises

    `ConfigurationError` if the config lacks the part, or has several and `split` is `None`.
    """
    paths = {part: params.pop(f"{part}_data_path", None, keep_as_dict=True) for part in PARTS}
    part = _part(file, paths, split)
    is_other = part != "train" and params.get("validation_dataset_reader") is not None
    reader = image_reader(params, "validation_dataset_reader" if is_other else "dataset_reader")
    return OnePart(reader, paths[part])


def _part(data: str, paths: Dict[str, Any], split: Optional[str]) -> str:
    parts = [part for part in PARTS if paths.get(part) is not None]
    has = ", ".join(parts) or "no data"
    if split is not None and split not in parts:
        raise ConfigurationError(f"--split is {split}, but '{data}' has only {has}")
    if split is None and len(parts) != 1:
        raise ConfigurationError(f"'{data}' has {has}; choose one of them with --split")
    return split or parts[0]

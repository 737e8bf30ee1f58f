"""Opens datasets of the library `datasets`, and their images."""

import json
import os
from functools import lru_cache
from glob import has_magic
from typing import Any, Dict, Iterator, List, Optional, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.common.nearest_names import not_one_of
from allencv.data.dataset_readers.messages import KEYS, cut
from allencv.data.remote import image_source
from allencv.runtime import ImageError, ImageSource
from allencv.runtime.installing import pip_install

SAVED = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` writes beside the data."""


class OpenTable:
    """
    The images of an open dataset. Another process gets only the arguments, and opens them again
    once.
    """

    def __init__(self, arguments: str, column: str, data: Any) -> None:
        self.arguments = arguments
        self.column = column
        self.data = data

    def __reduce__(self) -> Tuple[Any, ...]:
        return _open, (self.arguments, self.column)

    def __deepcopy__(self, memo: Any) -> "OpenTable":
        return self


@lru_cache(maxsize=4)
def _open(arguments: str, column: str) -> OpenTable:
    data = load(json.loads(arguments), streaming=False)
    return OpenTable(arguments, column, undecoded(data, [column]))


class TableImage:
    """An image in a dataset."""

    def __init__(self, table: OpenTable, index: int) -> None:
        self.table = table
        self.index = index

    def __call__(self) -> Any:
        return _resolved(self.table.data[self.index][self.table.column])

    def __str__(self) -> str:
        return f"{described(json.loads(self.table.arguments))}[{self.index}]"


class StreamedImage:
    """An image read together with its row."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value

    def __call__(self) -> Any:
        return _resolved(self.value)

    def __str__(self) -> str:
        return self.name


def library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigurationError(
            f'the dataset_reader "huggingface" needs {pip_install("datasets")}: {error}'
        ) from error
    return datasets


def load(arguments: Dict[str, Any], streaming: bool) -> Any:
    datasets = library()
    path, split = arguments["path"], arguments.get("split")
    is_local = os.path.isabs(path) or path.startswith(".")
    if is_local and not os.path.exists(path) and not has_magic(path):
        raise ConfigurationError(f"'{path}' ({KEYS}) does not exist; expected a folder or a file")
    try:
        if any(os.path.isfile(os.path.join(path, name)) for name in SAVED):
            data = datasets.load_from_disk(path)
            data = _part(data, split, arguments)
            return data.to_iterable_dataset() if streaming else data
        data = _part(datasets.load_dataset(**arguments, streaming=streaming), None, arguments)
        # Some files do not declare their columns and must be inspected.
        return data._resolve_features() if streaming and data.features is None else data
    except ConfigurationError:
        raise
    except Exception as error:  # each format and protocol has its own errors
        raise ConfigurationError(f"{described(arguments)} ({KEYS}): {reason(error)}") from error


def _part(data: Any, split: Optional[str], arguments: Dict[str, Any]) -> Any:
    """Return the requested split of a dataset, or the only one."""
    if not isinstance(data, dict):
        if split is not None and split != str(data.split):
            raise ConfigurationError(
                f"split '{split}' of '{arguments['path']}' (dataset_reader.split) does not exist; "
                f"it holds {f'the split {data.split}' if data.split else 'no splits'}"
            )
        return data
    if split is not None and split not in data:
        raise not_one_of(f"the split of '{arguments['path']}' (dataset_reader.split)", split, data)
    if split is None and len(data) != 1:
        raise not_one_of(f"the split of '{arguments['path']}' (dataset_reader.split)", split, data)
    return data[split] if split is not None else next(iter(data.values()))


def undecoded(data: Any, columns: List[str]) -> Any:
    """Return some columns of a dataset, with the images as stored in the files."""
    datasets = library()
    data = data.select_columns(columns)
    for column in columns:
        if isinstance(data.features[column], datasets.Image):
            data = data.cast_column(column, datasets.Image(decode=False))
    return data


def paths(table: OpenTable) -> Iterator[Optional[str]]:
    """Yield the path of each image that is a separate file, and `None` for the others."""
    import pyarrow.compute as pc
    import pyarrow.types as pt

    for rows in table.data.with_format("arrow").iter(batch_size=1000):
        column = rows[table.column]
        fields = {field.name for field in column.type} if pt.is_struct(column.type) else set()
        embedded: List[Any] = [None] * len(column)
        paths: List[Any] = [None] * len(column)
        if "bytes" in fields:
            embedded = pc.is_valid(pc.struct_field(column, "bytes")).to_pylist()
        if "path" in fields:
            paths = pc.struct_field(column, "path").to_pylist()
        elif pt.is_string(column.type) or pt.is_large_string(column.type):
            paths = column.to_pylist()
        for has_bytes, path in zip(embedded, paths):
            yield path if path and os.path.isabs(path) and not has_bytes else None


def _resolved(value: Any) -> ImageSource:
    """Return an image as stored in a row: bytes, a path or URL, or both in a dictionary."""
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if not isinstance(value, (str, bytes)):
        raise ImageError(f"no image; the row holds {cut(value)}")
    found = value if isinstance(value, bytes) else image_source(value)
    try:
        return found() if callable(found) else found
    except ImageError as error:
        raise ImageError(f"{found!s}: {error}") from error


def described(arguments: Dict[str, Any]) -> str:
    files = arguments.get("data_files")
    name = files if isinstance(files, str) else arguments["path"] if not files else str(files)
    split = arguments.get("split")
    return f"'{name}'" if split is None else f"'{name}' {split}"


def reason(error: BaseException) -> str:
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    return " ".join(f"{error or type(error).__name__}{cause}".split())

"""Find data in shards: folders of tar files, as `allencv pack` writes them."""

import glob
import os
from typing import Any, Dict, Optional

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.shard_index import INDEX
from allencv.data.remote import is_remote
from allencv.fitting.data_parts import FoundData, note_unused, one_of_each
from allencv.fitting.files_of_splits import WORDS
from allencv.fitting.folder_content import Folder
from allencv.fitting.options import FolderOptions
from allencv.fitting.split_folders import find_parts

TAR = ".tar"


def in_shards(data: str, options: FolderOptions) -> Optional[FoundData]:
    """
    Return the data of a folder of shards, of folders `train` and `val` of shards, or of a path of
    tar files. Return `None` for other data. Tar files without an index count only in a folder that
    has no images: they may be what was downloaded.

    # Raises

    `ConfigurationError` if the folders are ambiguous, or for validation or test data of another
    kind.
    """
    if not os.path.isdir(data):
        is_path = data.endswith(TAR) and not is_remote(data)
        return _of_parts({"train": data}, options) if is_path else None
    if (path := _shards_in(data)) is not None:
        return _of_parts({"train": path}, options)
    folder = Folder(data)
    parts = find_parts(folder, options)
    if not any(map(_shards_in, parts.get("train", ()))):
        return None
    found: Dict[str, str] = {}
    others = []
    for part, each in one_of_each(data, parts, options).items():
        if (path := _shards_in(each)) is None:
            others.append(f"{each} (no shards)")
        else:
            found[part] = path
    data_in_shards = _of_parts(found, options)
    note_unused(data_in_shards, others)
    return data_in_shards


def _of_parts(paths: Dict[str, str], options: FolderOptions) -> FoundData:
    for part in ("validation", "test"):
        given = getattr(options, part)
        if given is None:
            continue
        path = _shards_in(given) if os.path.isdir(given) else given
        if path is None or not (path.endswith(TAR) or os.path.isdir(path)):
            raise ConfigurationError(f"--{part} is {given!r}; expected shards, like DATA")
        paths[part] = path
    notes = [f"{WORDS[part]}: {path}" for part, path in paths.items() if part != "calibration"]
    reader: Dict[str, Any] = {"type": "webdataset"}
    if not all(map(_is_indexed, paths.values())):
        reader["streaming"] = False  # a stream has no number of steps
        notes.append("shards without an index, which are listed first (allencv pack --index-only)")
    return FoundData(
        reader,
        paths["train"],
        paths.get("validation"),
        paths.get("test"),
        calibration_path=paths.get("calibration"),
        notes=notes,
    )


def _is_indexed(path: str) -> bool:
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    return os.path.isfile(os.path.join(folder, INDEX))


def _shards_in(folder: str) -> Optional[str]:
    """Return a data path for the shards in a folder, or `None` if it has other data."""
    if _is_indexed(folder):
        return folder
    pattern = os.path.join(glob.escape(folder), f"*{TAR}")
    inside = Folder(folder)
    if not glob.glob(pattern) or inside.tables or inside.has_images_below():
        return None
    return pattern

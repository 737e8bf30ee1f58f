"""
The index of a folder of shards: a JSON file beside them that says where each image is and which
label it has, so that nothing needs to be scanned.
"""

import json
import os
from array import array
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from allennlp.common.checks import ConfigurationError

from allencv.data import remote
from allencv.data.dataset_readers.sample_files import IncompleteSample, RawLabel, SampleFiles
from allencv.data.dataset_readers.shards import ShardFile, read_groups
from allencv.runtime.whole_files import write_text

INDEX = "allencv_index.json"
"""The name of the index in the folder of the shards."""
VERSION = 1


@dataclass
class IndexedShard:
    """The images of one shard, in the order of the file."""

    name: str
    size: int
    """In bytes."""
    files: List[str] = field(default_factory=list)
    """The name of each image in the tar file."""
    starts: "array[int]" = field(default_factory=lambda: array("Q"))
    sizes: "array[int]" = field(default_factory=lambda: array("Q"))
    """The position and the number of bytes of each image."""
    codes: "array[int]" = field(default_factory=lambda: array("I"))
    """The label of each image, by its place in `labels`."""
    labels: List[RawLabel] = field(default_factory=list)
    """The different labels, in the order of their first images."""
    label_keys: List[str] = field(default_factory=list)
    """The extensions of the label files."""
    skipped: int = 0
    """The number of incomplete samples."""

    def images(self, shard: str) -> Iterator[Tuple[ShardFile, int]]:
        """Yield each image of the shard at a path, and the code of its label."""
        for name, start, size, code in zip(self.files, self.starts, self.sizes, self.codes):
            yield ShardFile(shard, name, None, start, size), code

    def counts(self) -> Dict[str, int]:
        """Return the number of images with each label."""
        counts: Counter[str] = Counter()
        for code, count in Counter(self.codes).items():
            label = self.labels[code]
            for name in [label] if isinstance(label, str) else label or ():
                counts[name] += count
        return dict(sorted(counts.items()))


@dataclass
class ShardIndex:
    """
    What an index holds.

    # Parameters

    made_with : `Dict[str, Any]`
        The arguments of the reader that say which files are read: `image_keys`, `label_key` and
        `label_field`.
    shards : `Dict[str, IndexedShard]`
        The shards by name, in order.
    """

    made_with: Dict[str, Any]
    shards: Dict[str, IndexedShard]

    def __len__(self) -> int:
        return sum(len(shard.files) for shard in self.shards.values())

    def counts(self) -> Dict[str, int]:
        return total(self.shards.values())

    def fits(self, files: SampleFiles) -> bool:
        """Return whether a reader that reads `files` finds what this index holds."""
        same_images = self.made_with["image_keys"] == files.image_keys
        used = {key for shard in self.shards.values() for key in shard.label_keys}
        skipped = any(shard.skipped for shard in self.shards.values())
        same_labels = (
            files.label_keys == self.made_with["label_keys"]
            or (not files.label_keys and not skipped)
            # With several, the first that a sample has is read.
            or (len(used) == 1 and {*files.label_keys} == used)
        )
        same_field = self.made_with["label_field"] == files.label_field
        return same_images and same_labels and (same_field or not _has_json(files.label_keys))

    def write(self, folder: Union[str, os.PathLike]) -> None:
        """Write the index into the folder of the shards, as a whole or not at all."""
        content = {
            "version": VERSION,
            "images": len(self),
            "labels": self.counts(),
            "made_with": self.made_with,
            "shards": [_as_json(shard) for shard in self.shards.values()],
        }
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        write_text(Path(folder) / INDEX, text + "\n", errors="surrogateescape")


def total(shards: Iterable[IndexedShard]) -> Dict[str, int]:
    """Return the number of images with each label in several shards."""
    counts: Counter[str] = Counter()
    for shard in shards:
        counts.update(shard.counts())
    return dict(sorted(counts.items()))


def index_shard(path: str, files: SampleFiles, skips: bool = False) -> IndexedShard:
    """
    Read the headers and labels of a shard. `skips` leaves out incomplete samples and counts them.

    # Raises

    `ConfigurationError` for a shard that is compressed or remote, or an incomplete sample.
    """
    if remote.is_remote(path):
        raise ConfigurationError(f"'{path}' is remote; expected shards in a folder, to index them")
    shard = IndexedShard(os.path.basename(path), os.path.getsize(path))
    codes: Dict[RawLabel, int] = {}
    label_keys = set()
    for key, group in read_groups(path, files.is_wanted):
        name = f"sample '{key}' of '{path}'"
        if any(file.data is not None for file in group.values()):
            raise ConfigurationError(
                f"'{path}' is compressed; expected uncompressed tar files, to index them"
            )
        try:
            image, label_key = files.find(name, group)
            label = files.label(name, label_key, group)
        except IncompleteSample:
            if not skips:
                raise
            shard.skipped += 1
            continue
        label_keys.update([] if label_key is None else [label_key])
        shard.files.append(image.name)
        shard.starts.append(image.start)
        shard.sizes.append(image.size)
        shard.codes.append(codes.setdefault(label, len(codes)))
    shard.labels, shard.label_keys = list(codes), sorted(label_keys)
    return shard


def made_with(files: SampleFiles) -> Dict[str, Any]:
    return {
        "image_keys": files.image_keys,
        "label_keys": files.label_keys,
        "label_field": files.label_field,
    }


def find_index(folder: Union[str, os.PathLike]) -> Optional[ShardIndex]:
    """
    Return the index of a folder on this machine, or `None` if it has none.

    # Raises

    `ConfigurationError` for a damaged index.
    """
    file = os.path.join(folder, INDEX)
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return _read_index(file, stat.st_mtime_ns, stat.st_size)


def find_shard(path: str) -> Optional[Tuple[ShardIndex, IndexedShard]]:
    """
    Return what the index beside a shard says about it, or `None` without an index.

    # Raises

    `ConfigurationError` if the index is damaged or does not fit the shard.
    """
    folder, name = os.path.split(path)
    index = None if remote.is_remote(path) else find_index(folder)
    if index is None:
        return None
    shard = index.shards.get(name)
    if shard is None:
        raise stale(folder, f"it does not list '{name}'")
    if (size := os.path.getsize(path)) != shard.size:
        raise stale(folder, f"'{name}' has {size} bytes, and {shard.size} in the index")
    return index, shard


def stale(folder: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"'{os.path.join(folder, INDEX)}' does not fit its shards: {why}; expected an index made "
        f"anew: allencv pack --index-only {folder or '.'}"
    )


@lru_cache(maxsize=4)
def _read_index(file: str, mtime: int, size: int) -> ShardIndex:
    try:
        content = json.loads(Path(file).read_bytes().decode("utf-8", "surrogateescape"))
        version = content["version"]
        if version == VERSION:
            shards = {each["name"]: _from_json(each) for each in content["shards"]}
            index = ShardIndex(content["made_with"], shards)
            if (len(index), index.counts()) != (content["images"], content["labels"]):
                raise ValueError("its sums are wrong")
            return index
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        folder = os.path.dirname(file) or "."
        raise ConfigurationError(
            f"'{file}' is damaged ({reason}); expected an index made anew: "
            f"allencv pack --index-only {folder}"
        ) from error
    raise ConfigurationError(
        f"'{file}' has version {version}; expected {VERSION}: use a newer AllenCV, or delete it"
    )


def _as_json(shard: IndexedShard) -> Dict[str, Any]:
    return {
        "name": shard.name,
        "bytes": shard.size,
        "images": len(shard.files),
        "counts": shard.counts(),
        "skipped": shard.skipped,
        "label_keys": shard.label_keys,
        "labels": shard.labels,
        "codes": shard.codes.tolist(),
        "starts": shard.starts.tolist(),
        "sizes": shard.sizes.tolist(),
        "files": shard.files,
    }


def _from_json(content: Dict[str, Any]) -> IndexedShard:
    labels = [tuple(each) if isinstance(each, list) else each for each in content["labels"]]
    shard = IndexedShard(
        name=content["name"],
        size=content["bytes"],
        files=content["files"],
        starts=array("Q", content["starts"]),
        sizes=array("Q", content["sizes"]),
        codes=array("I", content["codes"]),
        labels=labels,
        label_keys=content["label_keys"],
        skipped=content["skipped"],
    )
    lengths = {len(shard.files), len(shard.starts), len(shard.sizes), len(shard.codes)}
    if lengths != {content["images"]} or max(shard.codes, default=-1) >= len(labels):
        raise ValueError(f"'{shard.name}' has lists of different lengths")
    return shard


def _has_json(keys: List[str]) -> bool:
    return any(key.endswith("json") for key in keys)

"""Pack images into shards, tar files of samples as `WebDatasetReader` reads them; index shards."""

import glob
import hashlib
import json
import os
import random
import re
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Sequence, TypeVar

from allennlp.common import Tqdm
from allennlp.common.checks import ConfigurationError

from allencv.common.label_text import shown, why_unwritable
from allencv.data.dataset_readers import WebDatasetReader
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader
from allencv.data.dataset_readers.messages import some
from allencv.data.dataset_readers.sample_files import SampleFiles
from allencv.data.dataset_readers.shard_index import (
    INDEX,
    IndexedShard,
    ShardIndex,
    find_index,
    index_shard,
    made_with,
)
from allencv.data.packed_samples import PackedSamples, in_shards, write_shard
from allencv.data.samples import SampleList
from allencv.runtime.errors import InputError
from allencv.runtime.file_locks import lock
from allencv.runtime.whole_files import write_text

UNFINISHED = ".allencv_pack.json"
"""The file in the folder of the shards that says what is packed, until all shards are written."""
LEFTOVER = re.compile(r"\.allencv-[0-9a-f]{32}\.(tar|json)")
"""The name of a file that a killed process was writing."""

T = TypeVar("T")


@dataclass(frozen=True)
class PackOptions:
    """
    How images are packed.

    # Parameters

    max_images, max_bytes : `int`, optional
        The size of a shard, as a number of images or of bytes: one of the two.
    seed : `int`, optional (default = `0`)
        The seed of the random order; `None` keeps the order of the data.
    numbered : `bool`, optional (default = `False`)
        Whether to name samples by numbers instead of the paths of the images.
    """

    max_images: Optional[int] = None
    max_bytes: Optional[int] = None
    seed: Optional[int] = 0
    numbered: bool = False


@dataclass(frozen=True)
class Packed:
    """The index of packed shards, and the number of them that an earlier call has written."""

    index: ShardIndex
    kept: int


def pack(
    reader: ImageDatasetReader, data_path: Any, folder: str, options: PackOptions, workers: int
) -> Packed:
    """
    Write the images that a reader lists into shards in `folder`, with an index. Files are copied
    byte for byte. The finished shards of an interrupted call are kept, and the result is the same
    as that of one call.

    # Raises

    `ConfigurationError` for data without images and for a label that cannot be written;
    `InputError` if two images have the same name, or `folder` holds anything else; `ImageError` for
    an image that cannot be read; `OSError` for a shard that cannot be written.
    """
    samples = SampleList(islice(reader.read_samples(data_path), reader.max_instances))
    if not samples:
        raise ConfigurationError(f"{type(reader).__name__} found no image in {data_path}")
    has_labels = _check_labels(samples)
    packed = PackedSamples(samples, options.numbered)
    order = list(range(len(samples)))
    if options.seed is not None:
        random.Random(options.seed).shuffle(order)
    with ThreadPoolExecutor(workers) as executor:
        sizes = array("Q", executor.map(packed.size, range(len(samples))))
    shards = in_shards(order, sizes, options.max_images, options.max_bytes)
    files = SampleFiles(None, "cls;json" if has_labels else None, "label")

    def write(number: int) -> IndexedShard:
        path = os.path.join(folder, f"shard-{number:06d}.tar")
        if not os.path.exists(path):
            images = shards[number]
            write_shard(path, (file for image in images for file in packed.files(image)))
        indexed = index_shard(path, files)
        if len(indexed.files) != len(shards[number]):
            raise InputError(f"'{path}' was changed; delete it, and run the command again")
        return indexed

    made_from = _digest(packed, sizes, shards)
    with _begun(folder, made_from) as finished:
        if finished is not None:
            return Packed(finished, len(finished.shards))
        kept = len(glob.glob(os.path.join(glob.escape(folder), "shard-*.tar")))
        indexed = _in_threads(write, range(len(shards)), workers, "packing")
        index = ShardIndex(made_with(files), {each.name: each for each in indexed}, made_from)
        index.write(folder)
    return Packed(index, kept)


def index_shards(reader: WebDatasetReader, data_path: Any, workers: int) -> ShardIndex:
    """
    Index existing shards, and write the index beside them. A folder stands for its `*.tar`.

    # Raises

    `ConfigurationError` for shards in several folders, or that cannot be indexed.
    """
    if isinstance(data_path, str) and os.path.isdir(data_path):
        data_path = os.path.join(glob.escape(data_path), "*.tar")
    shards = reader.shards(data_path)
    folders = sorted({os.path.dirname(shard) for shard in shards})
    if len(folders) > 1:
        raise ConfigurationError(
            f"{data_path} has shards in {some(folders)}; expected those of one folder"
        )
    skips = reader.on_incomplete == "skip"

    def index(shard: str) -> IndexedShard:
        return index_shard(shard, reader.files, skips)

    indexed = _in_threads(index, shards, workers, "indexing")
    made = ShardIndex(made_with(reader.files), {each.name: each for each in indexed})
    if not len(made):
        raise ConfigurationError(f"{data_path} has no samples")
    made.write(folders[0])
    return made


def _in_threads(
    function: Callable[[T], IndexedShard], items: Sequence[T], workers: int, what: str
) -> List[IndexedShard]:
    with ThreadPoolExecutor(workers) as executor:
        try:
            results = executor.map(function, items)
            return list(Tqdm.tqdm(results, total=len(items), desc=what, unit="shard"))
        except BaseException:
            executor.shutdown(cancel_futures=True)  # do not start the others
            raise


def _check_labels(samples: SampleList) -> bool:
    """Return whether the images have labels. Raise an error if a label cannot be written."""
    kinds = set()
    for index in samples.one_of_each_label():
        image, label, labels, _ = samples[index]
        kinds.add(label is not None or labels is not None)
        for each in [label] if label is not None else labels or []:
            reason = why_unwritable(each)
            if reason is not None:
                raise ConfigurationError(
                    f"the label '{shown(each)}' of {shown(str(image))} cannot be kept in a "
                    f"vocabulary: {reason}; expected another name"
                )
    if len(kinds) > 1:
        raise ConfigurationError("some images have labels and others have none; expected one kind")
    return kinds.pop()


def _digest(packed: PackedSamples, sizes: Sequence[int], shards: List[List[int]]) -> str:
    """Return a hash of what the shards will hold, except of the images' content."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(f"shard of {len(shard)}\n".encode())
        for image in shard:
            line = json.dumps([packed.keys[image], packed.label(image), sizes[image]])
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()


@contextmanager
def _begun(folder: str, made_from: str) -> Iterator[Optional[ShardIndex]]:
    """
    Prepare the folder, and keep other processes from packing into it. Yield the index if all shards
    are already there.

    # Raises

    `InputError` if the folder holds anything else, or another process packs into it.
    """
    os.makedirs(folder, exist_ok=True)
    advice = "expected a new folder, or the data and options that it was packed with"
    index = find_index(folder)
    if index is not None:
        if index.made_from != made_from:
            raise InputError(f"'{folder}' holds other shards (see {INDEX}); {advice}")
        WebDatasetReader().num_images(folder)  # refuses an index that does not fit
        yield index
        return
    plan = Path(folder, UNFINISHED)
    if not plan.exists():
        if names := sorted(os.listdir(folder)):
            raise InputError(f"'{folder}' holds {some(names)}; expected a new or empty folder")
        write_text(plan, json.dumps({"made_from": made_from}) + "\n")
    with plan.open() as file:
        try:
            lock(file.fileno())
        except BlockingIOError:
            raise InputError(f"another process is packing into '{folder}'") from None
        if made_from not in file.read():
            raise InputError(f"'{folder}' holds unfinished shards of other data; {advice}")
        for name in filter(LEFTOVER.fullmatch, os.listdir(folder)):
            os.unlink(os.path.join(folder, name))
        yield None
    plan.unlink()

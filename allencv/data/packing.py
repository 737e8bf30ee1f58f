"""Pack images into shards, tar files of samples as `WebDatasetReader` reads them; index shards."""

import glob
import hashlib
import json
import os
import random
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

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
from allencv.data.pack_record import ADVICE, OpenRecord, open_record, read_record
from allencv.data.packed_samples import PackedSamples, content_of, in_shards, write_shard
from allencv.data.samples import SampleList
from allencv.runtime.errors import InputError

LOOKED_AT = 1000
"""The number of images that a thread looks at in one call."""

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


class PlannedShard(NamedTuple):
    """A shard to write: its name, the numbers of its images, and a hash of when they changed."""

    name: str
    images: List[int]
    stamp: str


def pack(
    reader: ImageDatasetReader, data_path: Any, folder: str, options: PackOptions, workers: int
) -> Packed:
    """
    Write the images that a reader lists into shards in `folder`, with an index. Files are copied
    byte for byte. The finished shards of an interrupted call are kept unless their images were
    modified since, and the result is the same as that of one call.

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
    sizes, plan = _plan(packed, options, workers)
    made_from = _digest(packed, sizes, plan)
    files = SampleFiles(None, "cls;json" if has_labels else None, "label")
    finished = _finished(folder, made_from, plan, packed, files)
    if finished is not None:
        return Packed(finished, len(plan))
    with open_record(folder, made_from) as record:
        kept = {shard.name for shard in plan if _is_kept(folder, shard, record)}

        def write(shard: PlannedShard) -> IndexedShard:
            path = os.path.join(folder, shard.name)
            is_new = shard.name not in kept
            if is_new:
                write_shard(path, (file for image in shard.images for file in packed.files(image)))
            indexed = index_shard(path, files)
            if not packed.are(shard.images, indexed):
                raise InputError(f"'{path}' was changed; delete it, and run the command again")
            if is_new:
                record.add(shard.name, shard.stamp)
            return indexed

        indexed = _in_threads(write, plan, workers, "packing")
        index = ShardIndex(made_with(files), {each.name: each for each in indexed})
        index.write(folder)
    return Packed(index, len(kept))


def _plan(
    packed: PackedSamples, options: PackOptions, workers: int
) -> Tuple[Sequence[int], List[PlannedShard]]:
    """Return the size of each sample, and the shards to write."""
    order = list(range(len(packed.samples)))
    sizes, times = array("Q"), array("q")

    def look_at(some: Sequence[int]) -> List[Tuple[int, int]]:
        return [packed.size_and_time(index) for index in some]

    # Many in each call, as the executor holds a kilobyte for every call.
    calls = [order[first : first + LOOKED_AT] for first in range(0, len(order), LOOKED_AT)]
    with ThreadPoolExecutor(workers) as executor:
        for found in executor.map(look_at, calls):
            sizes.extend(size for size, _ in found)
            times.extend(time for _, time in found)
    if options.seed is not None:
        random.Random(options.seed).shuffle(order)
    shards = in_shards(order, sizes, options.max_images, options.max_bytes)
    return sizes, [
        PlannedShard(f"shard-{number:06d}.tar", images, _stamp(times, images))
        for number, images in enumerate(shards)
    ]


def _is_kept(folder: str, shard: PlannedShard, record: OpenRecord) -> bool:
    """Return whether a shard is there, and its images were not modified since."""
    is_there = os.path.exists(os.path.join(folder, shard.name))
    return is_there and record.stamps.get(shard.name) == shard.stamp


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


def _digest(packed: PackedSamples, sizes: Sequence[int], plan: Sequence[PlannedShard]) -> str:
    """Return a hash of what the shards will hold, except of the images' content."""
    digest = hashlib.sha256()
    for shard in plan:
        digest.update(f"shard of {len(shard.images)}\n".encode())
        for image in shard.images:
            line = json.dumps([packed.keys[image], packed.label(image), sizes[image]])
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _stamp(times: "array[int]", images: Sequence[int]) -> str:
    """Return a hash of when the images were modified."""
    return hashlib.sha256(array("q", (times[image] for image in images)).tobytes()).hexdigest()


def _finished(
    folder: str,
    made_from: str,
    plan: Sequence[PlannedShard],
    packed: PackedSamples,
    files: SampleFiles,
) -> Optional[ShardIndex]:
    """
    Return the index of a folder that holds the planned shards, or `None` if some are missing.

    # Raises

    `InputError` if the folder holds other shards, or other images in them.
    """
    index = find_index(folder)
    if index is None:
        return None
    record = read_record(folder)
    if record.made_from != made_from or index.made_with != made_with(files):
        raise InputError(f"'{folder}' holds other shards (see {INDEX}); {ADVICE}")
    there = index.shards.keys() & set(os.listdir(folder))
    if any(shard.name not in there for shard in plan):
        return None
    WebDatasetReader().num_images(folder)  # refuses an index that does not fit
    for shard in plan:
        indexed = index.shards[shard.name]
        path = os.path.join(folder, shard.name)
        if not packed.are(shard.images, indexed):
            raise InputError(f"'{path}' does not hold what was packed; {ADVICE}")
        if record.stamps.get(shard.name) == shard.stamp:
            continue
        # The images may be copies, modified at other times.
        for image, (file, _) in zip(shard.images, indexed.images(path)):
            if content_of(packed.samples[image].image, packed.keys[image]) != file():
                raise InputError(
                    f"the image of '{file}' has changed since it was packed; expected a new folder "
                    "for the shards"
                )
    return index

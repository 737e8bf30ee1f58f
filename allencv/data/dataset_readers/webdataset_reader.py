import logging
import os
from collections import Counter
from itertools import islice
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.common.nearest_names import not_one_of
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.dataset_readers.messages import KEYS, some
from allencv.data.dataset_readers.sample_files import IncompleteSample, RawLabel, SampleFiles
from allencv.data.dataset_readers.shard_index import (
    IndexedShard,
    find_index,
    find_shard,
    stale,
    total,
)
from allencv.data.dataset_readers.shards import find_shards, read_groups
from allencv.data.dataset_readers.sharing import consumer
from allencv.data.remote import is_remote

logger = logging.getLogger(__name__)

ON_INCOMPLETE = ("raise", "skip")

Labels = Tuple[Optional[str], Optional[List[str]]]
"""The label of an image or its labels, or neither."""


@DatasetReader.register("webdataset")
class WebDatasetReader(ImageDatasetReader):
    """
    Reads shards: tar files in which the files of a sample are adjacent and share their name up to
    the first dot, `000017.jpg` and `000017.cls`
    ([WebDataset](https://github.com/webdataset/webdataset)). Shards may be compressed (gzip, bzip2,
    xz), and may be anywhere that [fsspec](https://filesystem-spec.readthedocs.io) reads:
    `https://`, `s3://`, `gs://`, `hf://`.

    The data path is a path with braces, `data/train-{000..146}.tar`, a glob, `data/*.tar`, a folder
    with an index (`allencv pack`), or a list of these. Shards come in the order of the braces, the
    list and the index, or sorted for a glob; samples in the order of the file.

    With an index beside them, shards are listed without being read, and each image is read when it
    is decoded. Without one, shards are read from front to back, once per epoch. For a plain local
    tar file, only headers and labels are read then, and images when they are decoded; otherwise the
    bytes of an image are held until its batch is made.

    Registered as a `DatasetReader` with name "webdataset".

    # Parameters

    image_keys : `List[str]`, optional (default = `None`)
        The extensions of the image, preferred first: `["left.png", "png"]`. `None` takes the first
        file of a sample with an image extension.
    label_key : `str`, optional (default = `"cls;json"`)
        The extension of the label file, whose text is the label, such as "cat" or "3". A "json"
        file has it under `label_field`. With several extensions, the first that a sample has is
        read. `None` reads images without labels.
    label_field : `str`, optional (default = `"label"`)
        The key of the label in a JSON file. A list gives an image several `labels`.
    classes : `Union[Dict[str, str], List[str]]`, optional (default = `None`)
        The name of each label or, as a list, of each class index.
    on_incomplete : `str`, optional (default = `"raise"`)
        What to do if a sample has no image or label: "raise" stops with its shard and key; "skip"
        leaves it out, logs it, and counts it in `samples_skipped`.
    streaming : `bool`, optional (default = `None`)
        Whether a data loader reads shard by shard and does not list all images first. A list can be
        shuffled as a whole, and takes no memory for the images of plain local tar files. `None`
        lists shards with an index, and streams others.
    transforms, color_mode, value_range, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` when reading, if shards do not exist, a sample is incomplete, or an index
    is damaged or does not fit its shards; `ImageError` for a shard that is damaged or cut short.
    """

    samples_survive_a_fork = True

    def __init__(
        self,
        image_keys: Optional[List[str]] = None,
        label_key: Optional[str] = "cls;json",
        label_field: str = "label",
        classes: Optional[Union[Dict[str, str], List[str]]] = None,
        on_incomplete: str = "raise",
        streaming: Optional[bool] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_incomplete not in ON_INCOMPLETE:
            raise not_one_of("dataset_reader.on_incomplete", on_incomplete, ON_INCOMPLETE)
        self.files = SampleFiles(image_keys, label_key, label_field)
        # Store both kinds as names by label text.
        names = classes if isinstance(classes, dict) else dict(enumerate(classes or []))
        self.classes = {str(label): name for label, name in names.items()}
        self.on_incomplete = on_incomplete
        self.streaming = streaming
        self.samples_skipped = 0

    def shards(self, file_path: Any) -> List[str]:
        """Return the shards at `file_path`, in order; each can be read alone."""
        patterns = [file_path] if isinstance(file_path, (str, os.PathLike)) else file_path
        if not isinstance(patterns, (list, tuple)) or not patterns:
            raise ConfigurationError(
                f"{file_path!r} ({KEYS}); expected a path of shards, such as "
                "'data/train-{000..009}.tar' or 'data/*.tar', or a list of paths"
            )
        shards = [shard for pattern in patterns for shard in _shards_at(os.fspath(pattern))]
        shard, times = Counter(shards).most_common(1)[0]
        if times > 1:
            raise ConfigurationError(
                f"'{shard}' ({KEYS}) is named {times} times; expected each shard once"
            )
        return shards

    def num_shards(self, file_path: Any) -> int:
        """Return how many shares `read_shard` can read without reading anything twice."""
        return 1 if self.max_instances else len(self.shards(file_path))

    def streams(self, file_path: Any) -> bool:
        """Return whether a data loader reads shard by shard and does not list all images."""
        if self.streaming is not None:
            return self.streaming
        return self._all_indexed(file_path) is None

    def num_images(self, file_path: Any) -> Optional[int]:
        indexed = self._all_indexed(file_path)
        if indexed is None:
            return None
        count = sum(len(shard.files) for shard in indexed)
        return count if self.max_instances is None else min(count, self.max_instances)

    def shard_sizes(self, file_path: Any) -> Dict[str, Optional[int]]:
        return {
            shard: None if is_remote(shard) else os.path.getsize(shard)
            for shard in self.shards(file_path)
        }

    def label_counts(self, file_path: Any) -> Optional[Dict[str, int]]:
        indexed = None if self.max_instances else self._all_indexed(file_path)
        if indexed is None or not self.files.label_keys:
            return None
        counts: Counter[str] = Counter()
        for label, count in total(indexed).items():
            counts[self._class(f"the index of {file_path}", label)] += count
        return dict(counts)

    def _all_indexed(self, file_path: Any) -> Optional[List[IndexedShard]]:
        found = [self._indexed(shard) for shard in self.shards(file_path)]
        known = [each for each in found if each is not None]
        return known if len(known) == len(found) else None

    def read_samples(self, file_path: Any) -> Iterator[Sample]:
        return self.read_shard(file_path, 0, 1)

    def read_shard(self, file_path: Any, index: int, count: int) -> Iterator[Sample]:
        """
        Yield share `index` of `count` shares, which may be read at the same time. Together they
        hold each sample once, always in the same order.

        A share is every `count`-th shard. With fewer shards than that, or with `max_instances`,
        every share reads all shards and takes every `count`-th sample.
        """
        shards = self.shards(file_path)
        if count <= len(shards) and self.max_instances is None:
            yield from self._samples(shards[index::count])
        else:
            samples = islice(self._samples(shards), self.max_instances)
            yield from islice(samples, index, None, count)

    def read_share(self, file_path: Any) -> Iterator[Sample]:
        return self.read_shard(file_path, *consumer(self))

    def _samples(self, shards: List[str]) -> Iterator[Sample]:
        for shard in shards:
            indexed = self._indexed(shard)
            if indexed is not None:
                yield from self._listed(shard, indexed)
                continue
            for key, files in read_groups(shard, self.files.is_wanted):
                name = f"sample '{key}' of '{shard}'"
                try:
                    image, label_key = self.files.find(name, files)
                    label = self.files.label(name, label_key, files)
                    yield Sample(image, *self._named(name, label))
                except IncompleteSample as error:
                    if self.on_incomplete == "raise":
                        raise
                    self.samples_skipped += 1
                    logger.warning("Left out: %s", error)

    def _listed(self, shard: str, indexed: IndexedShard) -> Iterator[Sample]:
        """Yield the samples of a shard from its index."""
        if indexed.skipped:
            self.samples_skipped += indexed.skipped
            logger.warning("Left out: %d incomplete samples of '%s'", indexed.skipped, shard)
        labels: Dict[int, Labels] = {}  # by code: an index may have a million images
        for image, code in indexed.images(shard):
            if code not in labels:
                label = indexed.labels[code] if self.files.label_keys else None
                labels[code] = self._named(f"'{image}'", label)
            yield Sample(image, *labels[code])

    def _indexed(self, shard: str) -> Optional[IndexedShard]:
        """Return what an index says about a shard, unless it is for other files of the samples."""
        found = find_shard(shard)
        if found is None:
            return None
        index, indexed = found
        if not index.fits(self.files) or (indexed.skipped and self.on_incomplete == "raise"):
            return None
        return indexed

    def _named(self, name: str, label: RawLabel) -> Labels:
        """Return the label of a sample, or its labels, by the names of the classes."""
        if isinstance(label, tuple):
            return None, [self._class(name, each) for each in label]
        return None if label is None else self._class(name, label), None

    def _class(self, name: str, label: str) -> str:
        if not self.classes:
            return label
        if label not in self.classes:
            raise ConfigurationError(
                f"{name} has the label '{label}', which is not in dataset_reader.classes: "
                f"{some(list(self.classes))}"
            )
        return self.classes[label]


def _shards_at(pattern: str) -> List[str]:
    """Return the shards of a pattern, or those in the index of a folder."""
    folder = os.path.expanduser(pattern)
    index = find_index(folder) if os.path.isdir(folder) else None
    if index is None:
        return find_shards(pattern)
    files = {name for name in os.listdir(folder) if name.endswith(".tar")}
    files -= {name for name in files if name.startswith(".")}
    if missing := [name for name in index.shards if name not in files]:
        raise stale(folder, f"'{missing[0]}' does not exist")
    if unknown := sorted(files - index.shards.keys()):
        raise stale(folder, f"it does not list '{unknown[0]}'")
    return [os.path.join(folder, name) for name in index.shards]

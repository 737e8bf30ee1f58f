import json
import logging
import os
from collections import Counter
from itertools import islice
from typing import Any, Dict, Iterator, List, Optional, Union

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance

from allencv.common.nearest_names import not_one_of
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.dataset_readers.messages import KEYS, cut, some
from allencv.data.dataset_readers.shards import ShardFile, find_shards, read_groups
from allencv.data.dataset_readers.sharing import consumer
from allencv.runtime.images import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

ON_INCOMPLETE = ("raise", "skip")


class IncompleteSample(ConfigurationError):
    """A sample of a shard lacks its image or its label."""


@DatasetReader.register("webdataset")
class WebDatasetReader(ImageDatasetReader):
    """
    Reads shards: tar files in which the files of a sample are adjacent and share their name up to
    the first dot, `000017.jpg` and `000017.cls`
    ([WebDataset](https://github.com/webdataset/webdataset)). Shards may be compressed (gzip, bzip2,
    xz), and may be anywhere that [fsspec](https://filesystem-spec.readthedocs.io) reads:
    `https://`, `s3://`, `gs://`, `hf://`.

    The data path is a path with braces, `data/train-{000..146}.tar`, a glob, `data/*.tar`, or a
    list of these. Shards come in the order of the braces and of the list, or sorted for a glob;
    samples in the order of the file.

    Shards are read from front to back, once per epoch. For a plain local tar file, only headers and
    labels are read then, and images when they are decoded; otherwise the bytes of an image are held
    until its batch is made.

    Registered as a `DatasetReader` with name "webdataset".

    # Parameters

    image_keys : `List[str]`, optional (default = `None`)
        The extensions of the image, preferred first: `["left.png", "png"]`. `None` takes the first
        file of a sample with an image extension.
    label_key : `str`, optional (default = `"cls"`)
        The extension of the label file, whose text is the label, such as "cat" or "3". A "json"
        file has it under `label_field`. `None` reads images without labels.
    label_field : `str`, optional (default = `"label"`)
        The key of the label in a JSON file. A list gives an image several `labels`.
    classes : `Union[Dict[str, str], List[str]]`, optional (default = `None`)
        The name of each label or, as a list, of each class index.
    on_incomplete : `str`, optional (default = `"raise"`)
        What to do if a sample has no image or label: "raise" stops with its shard and key; "skip"
        leaves it out, logs it, and counts it in `samples_skipped`.
    streaming : `bool`, optional (default = `True`)
        Whether a data loader reads shard by shard and does not list all images first. A list can be
        shuffled as a whole, and takes no memory for the images of plain local tar files.
    transforms, color_mode, value_range, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` when reading, if shards do not exist or a sample is incomplete;
    `ImageError` for a shard that is damaged or cut short.
    """

    def __init__(
        self,
        image_keys: Optional[List[str]] = None,
        label_key: Optional[str] = "cls",
        label_field: str = "label",
        classes: Optional[Union[Dict[str, str], List[str]]] = None,
        on_incomplete: str = "raise",
        streaming: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_incomplete not in ON_INCOMPLETE:
            raise not_one_of("dataset_reader.on_incomplete", on_incomplete, ON_INCOMPLETE)
        self.image_keys = None if image_keys is None else [_extension(key) for key in image_keys]
        self.label_key = None if label_key is None else _extension(label_key)
        self.label_field = label_field
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
        shards = [shard for pattern in patterns for shard in find_shards(os.fspath(pattern))]
        shard, times = Counter(shards).most_common(1)[0]
        if times > 1:
            raise ConfigurationError(
                f"'{shard}' ({KEYS}) is named {times} times; expected each shard once"
            )
        return shards

    def num_shards(self, file_path: Any) -> int:
        """Return how many shares `read_shard` can read without reading anything twice."""
        return 1 if self.max_instances else len(self.shards(file_path))

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

    def _read(self, file_path: Any) -> Iterator[Instance]:
        for sample in self.read_shard(file_path, *consumer(self)):
            yield self.text_to_instance(*sample)

    def _samples(self, shards: List[str]) -> Iterator[Sample]:
        for shard in shards:
            for key, files in read_groups(shard, self._is_wanted):
                try:
                    yield self._sample(f"sample '{key}' of '{shard}'", files)
                except IncompleteSample as error:
                    if self.on_incomplete == "raise":
                        raise
                    self.samples_skipped += 1
                    logger.warning("Left out: %s", error)

    def _is_wanted(self, extension: str) -> bool:
        return extension == self.label_key or self._is_image(extension)

    def _is_image(self, extension: str) -> bool:
        if self.image_keys is None:
            return f".{extension}" in IMAGE_SUFFIXES
        return extension in self.image_keys

    def _sample(self, name: str, files: Dict[str, ShardFile]) -> Sample:
        order = files if self.image_keys is None else self.image_keys
        image = next((files[key] for key in order if key in files and self._is_image(key)), None)
        has = ", ".join(f".{extension}" for extension in files) or "nothing"
        if image is None:
            keys = ", ".join(self.image_keys or ["jpg", "png", "..."])
            raise _incomplete(f"{name} has no image: expected one of {keys}, but it has {has}")
        if self.label_key is None:
            return Sample(image)
        if self.label_key not in files:
            raise _incomplete(f"{name} has no label: expected .{self.label_key}, but it has {has}")
        label = self._label(name, files[self.label_key]())
        if isinstance(label, list):
            return Sample(image, labels=[self._class(name, each) for each in label])
        return Sample(image, self._class(name, label))

    def _label(self, name: str, data: bytes) -> Any:
        """Return the content of a label file."""
        try:
            text = data.decode("utf-8-sig")
            value = json.loads(text) if str(self.label_key).endswith("json") else text.strip()
        except ValueError as error:
            raise ConfigurationError(f"{name}: .{self.label_key} is damaged: {error}") from error
        if isinstance(value, str):
            return value
        label = value.get(self.label_field) if isinstance(value, dict) else None
        if label is None:
            keys = ", ".join(value) if isinstance(value, dict) else type(value).__name__
            raise IncompleteSample(
                f"{name} has no label: expected '{self.label_field}' (dataset_reader.label_field) "
                f"in .{self.label_key}, which has {keys}"
            )
        return label

    def _class(self, name: str, label: Any) -> str:
        if not isinstance(label, (str, int)) or isinstance(label, bool) or label == "":
            raise ConfigurationError(
                f"{name} has the label {cut(label)} in .{self.label_key}; expected a text or a "
                "number"
            )
        if not self.classes:
            return str(label)
        if str(label) not in self.classes:
            raise ConfigurationError(
                f"{name} has the label '{label}', which is not in dataset_reader.classes: "
                f"{some(list(self.classes))}"
            )
        return self.classes[str(label)]


def _extension(key: str) -> str:
    return key.lower().lstrip(".")


def _incomplete(what: str) -> IncompleteSample:
    return IncompleteSample(
        f"{what} (dataset_reader.image_keys and label_key); the files of a sample must share their "
        "name up to the first dot and be adjacent, as with tar --sort=name"
    )

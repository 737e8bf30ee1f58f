import json
import logging
import os
from collections import Counter
from itertools import islice
from typing import Any, Dict, Iterator, List, Optional, Union

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance

from allencv.common.checks import not_one_of
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
    Reads shards: tar files in which the files of a sample stand side by side and share their name
    up to the first dot, `000017.jpg` and `000017.cls`
    ([WebDataset](https://github.com/webdataset/webdataset)). Shards may be compressed (gzip, bzip2,
    xz), and may lie wherever [fsspec](https://filesystem-spec.readthedocs.io) reads: `https://`,
    `s3://`, `gs://`, `hf://`.

    What is to be read is a path with braces, `data/train-{000..146}.tar`, a glob, `data/*.tar`, or
    a list of these. The order is that of the braces and of the list, sorted for a glob, and within
    a shard that of the file.

    Shards are read from front to back, once each epoch. Of a plain tar file on this machine only
    the headers and the labels are read, and an image when it is decoded; elsewhere the bytes of an
    image are held until its batch is made.

    Registered as a `DatasetReader` with name "webdataset".

    # Parameters

    image_keys : `List[str]`, optional (default = `None`)
        The extensions of the image, the preferred first: `["left.png", "png"]`. `None` takes the
        first file of a sample whose extension is an image's.
    label_key : `str`, optional (default = `"cls"`)
        The extension of the file with the label: its text, such as "cat" or "3". A "json" holds it
        under `label_field`. `None` reads images without labels.
    label_field : `str`, optional (default = `"label"`)
        The key of the label in a JSON file. A list there makes several `labels`.
    classes : `Union[Dict[str, str], List[str]]`, optional (default = `None`)
        What the labels mean: the name of each label or, as a list, of each class index.
    on_incomplete : `str`, optional (default = `"raise"`)
        What to do about a sample without an image or a label: "raise" stops with its shard and
        key; "skip" leaves it out, logs it, and counts it in `samples_skipped`.
    streaming : `bool`, optional (default = `True`)
        Whether a data loader is to read along instead of listing all images first. A list, which
        can be shuffled as a whole, costs no memory for the images of plain tar files on this
        machine.
    transforms, color_mode, value_range, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` when read, if there are no such shards, or a sample is incomplete;
    `ImageError` for a shard that is damaged or has been cut short.
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
        # Both kinds as names by the text of a label.
        names = classes if isinstance(classes, dict) else dict(enumerate(classes or []))
        self.classes = {str(label): name for label, name in names.items()}
        self.on_incomplete = on_incomplete
        self.streaming = streaming
        self.samples_skipped = 0

    def shards(self, file_path: Any) -> List[str]:
        """The shards at `file_path`, of which each can be read alone, in order."""
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
        """As how many shares `read_shard` can read without reading anything twice."""
        return 1 if self.max_instances else len(self.shards(file_path))

    def read_samples(self, file_path: Any) -> Iterator[Sample]:
        return self.read_shard(file_path, 0, 1)

    def read_shard(self, file_path: Any, index: int, count: int) -> Iterator[Sample]:
        """
        The share of number `index` of `count` that read at the same time; together they read each
        sample once, and always in the same order.

        Each takes every `count`-th shard. If there are fewer shards than that, or with
        `max_instances`, all read all shards, and each takes every `count`-th sample.
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
        has = ", ".join(f".{extension}" for extension in files) or "none of them"
        if image is None:
            keys = ", ".join(self.image_keys or ["jpg", "png", "..."])
            raise _incomplete(f"{name} has no image: expected one of {keys}, and it has {has}")
        if self.label_key is None:
            return Sample(image)
        if self.label_key not in files:
            raise _incomplete(f"{name} has no label: expected .{self.label_key}, and it has {has}")
        label = self._label(name, files[self.label_key]())
        if isinstance(label, list):
            return Sample(image, labels=[self._class(name, each) for each in label])
        return Sample(image, self._class(name, label))

    def _label(self, name: str, data: bytes) -> Any:
        """What stands in the file of a label."""
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
                f"{name} has the label '{label}', which is none of dataset_reader.classes: "
                f"{some(list(self.classes))}"
            )
        return self.classes[str(label)]


def _extension(key: str) -> str:
    return key.lower().lstrip(".")


def _incomplete(what: str) -> IncompleteSample:
    return IncompleteSample(
        f"{what} (dataset_reader.image_keys and label_key); the files of a sample have one name up "
        "to the first dot, and stand side by side, as tar --sort=name puts them"
    )

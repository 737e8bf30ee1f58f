import json
import os
from itertools import islice
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.common.nearest_names import not_one_of
from allencv.data.dataset_readers.huggingface_data import (
    OpenTable,
    StreamedImage,
    TableImage,
    described,
    library,
    load,
    paths,
    reason,
    undecoded,
)
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.dataset_readers.messages import KEYS, cut
from allencv.data.dataset_readers.sharing import consumer
from allencv.data.dataset_readers.unique_samples import UniqueSamples
from allencv.runtime import ImageError

ARGUMENTS = ("path", "name", "data_dir", "data_files", "split", "revision", "cache_dir")
"""The allowed keys of a data path: arguments of `datasets.load_dataset`."""

FILES = {".parquet": "parquet", ".arrow": "arrow"}


@DatasetReader.register("huggingface")
class HuggingFaceReader(ImageDatasetReader):
    """
    Reads datasets through the library [datasets](https://huggingface.co/docs/datasets). The data
    path is

    * the name of a dataset on the Hugging Face hub, "uoft-cs/cifar100";
    * a folder of images or Parquet files, as on the hub;
    * a folder written by `save_to_disk`;
    * Parquet or Arrow files: a path, a glob, or a list of these; or
    * a dictionary of arguments of `load_dataset`, such as
      `{"path": "uoft-cs/cifar100", "split": "test"}`: path, name, data_dir, data_files, split,
      revision, cache_dir.

    The library caches the data in a file and reads only what is needed. AllenCV decodes the images,
    as always.

    Needs `pip install "datasets>=5.0"`. Registered as a `DatasetReader` with name
    "huggingface".

    # Parameters

    split : `str`, optional (default = `None`)
        The part to read, "train" or "train[:10%]", unless the data path names another. Not needed
        if there is only one.
    image_column : `str`, optional (default = `None`)
        The column of the images: of type Image, file contents, or paths. Not needed if there is
        only one of type Image.
    label_column : `str`, optional (default = `None`)
        The column of the label or the list of labels: class labels (which become their names), text
        or integers. Not needed if there is only one column of class labels. A label of null or -1
        means no label.
    streaming : `bool`, optional (default = `False`)
        Whether to read row by row from the source, without a full copy on this machine.
    transforms, color_mode, value_range, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` when reading, if data or columns do not exist, or the library is missing.
    """

    def __init__(
        self,
        split: Optional[str] = None,
        image_column: Optional[str] = None,
        label_column: Optional[str] = None,
        streaming: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.split = split
        self.image_column = image_column
        self.label_column = label_column
        self.streaming = streaming

    def num_shards(self, file_path: Any) -> int:
        """Return how many shares `read_shard` can read without reading anything twice."""
        if self.max_instances:
            return 1
        return int(load(self._arguments(file_path), streaming=True).num_shards)

    def read_samples(self, file_path: Any) -> Iterable[Sample]:
        return self.read_shard(file_path, 0, 1) if self.streaming else self._list(file_path)

    def read_shard(self, file_path: Any, index: int, count: int) -> Iterator[Sample]:
        """
        Yield share `index` of `count` shares, which may be read at the same time. Together they
        hold each sample once, always in the same order.

        When streaming, a share is every `count`-th file of the data. With fewer files than that, or
        with `max_instances`, every share reads all rows and takes every `count`-th.
        """
        if not self.streaming:
            samples: Iterator[Sample] = iter(self._list(file_path))
        else:
            arguments = self._arguments(file_path)
            data = load(arguments, streaming=True)
            if count <= data.num_shards and self.max_instances is None:
                data = data.shard(num_shards=count, index=index, contiguous=False)
                index, count = 0, 1
            samples = self._stream(data, arguments)
        yield from islice(islice(samples, self.max_instances), index, None, count)

    def read_share(self, file_path: Any) -> Iterable[Sample]:
        if not self.streaming:
            return super().read_share(file_path)
        return self.read_shard(file_path, *consumer(self))

    def _arguments(self, file_path: Any) -> Dict[str, Any]:
        """Return the arguments of `load_dataset` for a data path."""
        if isinstance(file_path, dict):
            for key in file_path:
                if key not in ARGUMENTS:
                    raise not_one_of(f"a key of a data path ({KEYS})", key, ARGUMENTS)
            arguments = dict(file_path)
        elif isinstance(file_path, (list, tuple)) and file_path:
            arguments = {"data_files": [os.fspath(path) for path in file_path]}
        elif isinstance(file_path, (str, os.PathLike)):
            arguments = {"path": os.path.expanduser(file_path)}
        else:
            arguments = {}
        files = arguments.get("data_files", arguments.get("path"))
        first = files[0] if isinstance(files, list) and files else files
        suffix = os.path.splitext(str(first))[1]
        if suffix in FILES and arguments.get("path", first) == first:
            arguments.update(path=FILES[suffix], data_files=files)
        if not isinstance(arguments.get("path"), str):
            raise ConfigurationError(
                f"{file_path!r} ({KEYS}); expected a folder, the name of a dataset, files "
                f"{', '.join(FILES)}, or a dictionary of {', '.join(ARGUMENTS)}"
            )
        if self.split is not None:
            arguments.setdefault("split", self.split)
        return arguments

    def _list(self, file_path: Any) -> List[Sample]:
        arguments = self._arguments(file_path)
        data = load(arguments, streaming=False)
        image, label, name = self._columns(data.features, arguments)
        table = OpenTable(json.dumps(arguments), image, undecoded(data, [image]))
        labels = data.select_columns([label])[:][label] if label else [None] * len(data)
        where = described(arguments)
        unique = UniqueSamples(where, "row")
        for index, (path, value) in enumerate(zip(paths(table), labels)):
            source = TableImage(table, index) if path is None else path
            unique.add(index, _sample(source, value, name, f"{where}[{index}]"), path)
        unique.check()
        if not unique.samples:
            raise ConfigurationError(f"{where} ({KEYS}) has no rows; expected one for each image")
        return unique.samples

    def _stream(self, data: Any, arguments: Dict[str, Any]) -> Iterator[Sample]:
        image, label, name = self._columns(data.features, arguments)
        where, number = described(arguments), 0
        try:
            for row in undecoded(data, [image, *([label] if label else [])]):
                source = StreamedImage(f"{where}[{number}]", row[image])
                yield _sample(source, row.get(label), name, str(source))
                number += 1
        except (ConfigurationError, ImageError):
            raise
        except Exception as error:  # each format and protocol has its own errors
            raise ImageError(f"{where}: {reason(error)} (after {number} rows)") from error

    def _columns(
        self, features: Dict[str, Any], arguments: Dict[str, Any]
    ) -> Tuple[str, Optional[str], Callable[[Any], str]]:
        """Return the columns of images and labels, and a function from a label to its name."""
        datasets = library()
        where = described(arguments)
        image = _column("image_column", self.image_column, features, datasets.Image, where)
        feature = features[image] if image is not None else None
        of_files = isinstance(feature, datasets.Image) or (
            isinstance(feature, dict) and {"bytes", "path"} & set(feature)
        )
        kinds = ("binary", "large_binary", "string", "large_string")
        if image is None or not (of_files or getattr(feature, "dtype", None) in kinds):
            raise ConfigurationError(
                f"dataset_reader.image_column is {self.image_column!r}; expected a column of images"
                f", of bytes or of paths, and {where} has {_types(features)}"
            )
        label = _column("label_column", self.label_column, features, datasets.ClassLabel, where)
        if label is None:
            return image, None, str
        feature = getattr(features[label], "feature", features[label])
        if isinstance(feature, datasets.ClassLabel):
            return image, label, feature.int2str
        dtype = str(getattr(feature, "dtype", ""))
        if not dtype.startswith(("int", "uint", "bool", "string", "large_string")):
            raise ConfigurationError(
                f"dataset_reader.label_column is '{label}'; expected class labels, texts or "
                f"integers, and {where} has {_types(features)}"
            )
        return image, label, _text


def _sample(source: Any, value: Any, name: Callable[[Any], str], place: str) -> Sample:
    try:
        if isinstance(value, list):
            return Sample(source, labels=[name(each) for each in value])
        return Sample(source, None if value is None or value == -1 else name(value))
    except ValueError as error:
        raise ConfigurationError(
            f"{place}: the label is {cut(value)} (dataset_reader.label_column): {error}"
        ) from None


def _text(value: Any) -> str:
    text = str(value).strip()
    if not text:
        raise ValueError("expected a text that is not empty")
    return text


def _column(
    key: str, given: Optional[str], features: Dict[str, Any], kind: type, where: str
) -> Optional[str]:
    """Return the given column, or the only one of its kind, if any."""
    if given is not None:
        if given not in features:
            raise not_one_of(f"dataset_reader.{key} for {where}", given, features)
        return given
    of_kind = [
        name for name, each in features.items() if isinstance(getattr(each, "feature", each), kind)
    ]
    if len(of_kind) > 1:
        raise not_one_of(f"dataset_reader.{key} for {where}", given, of_kind)
    return of_kind[0] if of_kind else None


def _types(features: Dict[str, Any]) -> str:
    return ", ".join(
        f"{name} ({getattr(feature, 'dtype', None) or type(feature).__name__})"
        for name, feature in features.items()
    )

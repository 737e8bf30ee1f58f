import inspect
import json
import logging
import os
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from operator import index as to_index
from operator import itemgetter
from typing import Any, Dict, List, Optional, Set, Tuple

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from filelock import FileLock
from torchvision import datasets

from allencv.common.nearest_names import not_one_of
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.dataset_readers.messages import KEYS
from allencv.runtime import ImageError
from allencv.runtime.plurals import numbered

logger = logging.getLogger(__name__)

OURS = {"self", "transform", "target_transform", "transforms", "loader", "is_valid_file"}
"""Arguments that a config cannot give, or that belong to the reader."""

PAIRS = ("samples", "_samples", "imgs")
PATHS = ("_image_files", "_images")
TARGETS = ("targets", "_labels", "labels", "y")
"""Attributes in which torchvision's datasets keep paths and targets, if at all."""


class OpenDataset:
    """
    An open torchvision dataset. When sent to another process, only its name and arguments are
    sent, and it is opened there again, once.
    """

    def __init__(self, name: str, arguments: str) -> None:
        self.name = name
        self.arguments = arguments
        self.data = getattr(datasets, name)(**json.loads(arguments))

    def __reduce__(self) -> Tuple[Any, ...]:
        return _open, (self.name, self.arguments)

    def __deepcopy__(self, memo: Any) -> "OpenDataset":
        return self


@lru_cache(maxsize=4)
def _open(name: str, arguments: str) -> OpenDataset:
    return OpenDataset(name, arguments)


class DatasetImage:
    """An image in a torchvision dataset."""

    def __init__(self, dataset: OpenDataset, index: int) -> None:
        self.dataset = dataset
        self.index = index

    def __call__(self) -> Any:
        try:
            return self.dataset.data[self.index][0]
        except Exception as error:  # each dataset has its own errors
            raise ImageError(str(error)) from error

    def __str__(self) -> str:
        return f"{self.dataset.name}{self.dataset.arguments}[{self.index}]"


@DatasetReader.register("torchvision_dataset")
class TorchvisionDatasetReader(ImageDatasetReader):
    """
    Reads a [torchvision](https://docs.pytorch.org/vision/stable/datasets.html) dataset with one
    class per image: "CIFAR10", "Flowers102", "Food101", "ImageNet", "MNIST", ...

    The data path is the folder of the dataset (`root`), or a dictionary of its arguments, such as
    `{"root": "data", "split": "test"}`, which override `arguments`:

    ```
    dataset_reader: { type: "torchvision_dataset", dataset: "CIFAR10" },
    train_data_path: { root: "data", train: true },
    validation_data_path: { root: "data", train: false },
    ```

    The labels are the names of the classes, or their numbers if they have no names. If two classes
    have the same name, their numbers are added. Images without a class have no label. Images in
    separate files are sorted by path, others keep the order of the dataset. If a dataset gives
    classes only together with images, all images are read once.

    Registered as a `DatasetReader` with name "torchvision_dataset".

    # Parameters

    dataset : `str`, required
        The name of the class in `torchvision.datasets`, such as "OxfordIIITPet".
    arguments : `Dict[str, Any]`, optional (default = `None`)
        Arguments of the dataset, such as `{"split": "train"}`.
    download : `bool`, optional (default = `False`)
        Whether to download missing data. Some datasets must be fetched by hand.
    transforms, color_mode, value_range, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` for an unknown dataset or argument and, when reading, for a dataset that
    does not exist or does not have a class for each image.
    """

    def __init__(
        self,
        dataset: str,
        arguments: Optional[Dict[str, Any]] = None,
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if dataset not in _names():
            raise not_one_of("dataset_reader.dataset", dataset, _names())
        self.dataset = dataset
        self.arguments = dict(arguments or {})
        self.download = download
        self._known = _parameters(getattr(datasets, dataset))
        self._check("dataset_reader.arguments", self.arguments)
        if download and "download" not in self._known:
            raise ConfigurationError(
                f"dataset_reader.download is true; torchvision cannot download {dataset}: expected "
                "its files as https://docs.pytorch.org/vision/stable/datasets.html says"
            )

    def read_samples(self, file_path: Any) -> List[Sample]:
        dataset = self._dataset({**self.arguments, **self._further(file_path)})
        size = len(dataset.data)
        if not size:
            raise ConfigurationError(f"{self.dataset} has no image in {file_path!r} ({KEYS})")
        targets = self._kept_targets(dataset.data)
        if targets is None:
            logger.warning("%s is read once in full, to find its classes", self.dataset)
            targets = [self._target(dataset.data, index) for index in range(size)]
            names = []
        else:
            names = _class_names(dataset.data)
        largest = max((target for target in targets if target is not None), default=-1)
        if names and largest >= len(names):
            logger.warning(
                "%s names %s but has class %d: the labels are the numbers of the classes",
                self.dataset,
                numbered(len(names), "class"),
                largest,
            )
            names = []
        labels = [_label(names, target) for target in targets]
        paths = _paths(dataset.data)
        if paths is not None:
            pairs = sorted(zip(paths, labels), key=itemgetter(0))
            return [Sample(path, label) for path, label in pairs]
        return [Sample(DatasetImage(dataset, i), label) for i, label in enumerate(labels)]

    def _further(self, file_path: Any) -> Dict[str, Any]:
        """Return the arguments that a data path gives."""
        if isinstance(file_path, dict):
            self._check(KEYS, file_path)
            return file_path
        if not isinstance(file_path, (str, os.PathLike)) or "root" not in self._known:
            has_root = "a folder or " if "root" in self._known else ""
            keys = ", ".join(sorted(self._known - {"download"}))
            raise ConfigurationError(
                f"{file_path!r} ({KEYS}); {self.dataset} expected {has_root}a dictionary of its "
                f"arguments: {keys}"
            )
        return {"root": os.fspath(file_path)}

    def _check(self, key: str, arguments: Dict[str, Any]) -> None:
        known = self._known - {"download"}
        for name in arguments:
            if name not in known:
                raise not_one_of(f"a key of {self.dataset}'s arguments ({key})", name, known)

    def _dataset(self, arguments: Dict[str, Any]) -> OpenDataset:
        root = arguments.get("root")
        if root is not None:
            root = arguments["root"] = os.path.expanduser(root)
        try:
            if self.download and root is not None:
                os.makedirs(root, exist_ok=True)
                # One of several processes downloads; the others then find the files.
                with FileLock(os.path.join(root, f".{self.dataset}.lock")):
                    getattr(datasets, self.dataset)(**arguments, download=True)
            return OpenDataset(self.dataset, json.dumps(arguments))
        except Exception as error:  # each dataset has its own errors
            reason = " ".join(str(error).split()).split(". You can use download=True")[0]
            place = f" in '{root}'" if root is not None else ""
            is_missing = isinstance(error, (RuntimeError, OSError)) and not self.download
            hint = '; "download": true in the dataset_reader downloads missing files'
            raise ConfigurationError(
                f"{self.dataset}{place} ({KEYS}): {reason or type(error).__name__}"
                f"{hint if is_missing and 'download' in self._known else ''}"
            ) from error

    def _kept_targets(self, data: Any) -> Optional[List[Optional[int]]]:
        """Return the class of each image, if the dataset keeps a list of classes."""
        some: Dict[int, Optional[int]] = {}
        for index in (0, len(data) // 2, len(data) - 1):
            with suppress(ImageError):
                some[index] = self._target(data, index)
        for name in (*PAIRS, *TARGETS):
            kept: Any = getattr(data, name, None)
            if not hasattr(kept, "__len__") or len(kept) != len(data):
                continue
            with suppress(TypeError, ValueError):
                targets = [_index(each[1] if name in PAIRS else each) for each in kept]
                if all(targets[index] == target for index, target in some.items()):
                    return targets
        return None

    def _target(self, data: Any, index: int) -> Optional[int]:
        try:
            found = data[index]
        except Exception as error:  # each dataset has its own errors
            raise ImageError(f"{self.dataset}[{index}]: {error}") from error
        try:
            _, target = found
            return _index(target)
        except (TypeError, ValueError):
            parts = found if isinstance(found, tuple) else [found]
            kinds = ", ".join(type(part).__name__ for part in parts)
            raise ConfigurationError(
                f"dataset_reader.dataset is '{self.dataset}', whose item {index} is ({kinds});"
                " expected an image and the number of its class"
            ) from None


def _names() -> List[str]:
    """Return the names of torchvision's datasets."""
    found = ((name, getattr(datasets, name)) for name in datasets.__all__)
    kinds = [(name, each) for name, each in found if isinstance(each, type)]
    abstract = (datasets.VisionDataset, datasets.DatasetFolder)
    return [name for name, each in kinds if issubclass(each, abstract) and each not in abstract]


def _parameters(dataset: type) -> Set[str]:
    """Return the arguments of a dataset: its own, and with `**kwargs` those of its base."""
    known: Set[str] = set()
    for base in dataset.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            known |= {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
            if not any(each.kind is each.VAR_KEYWORD for each in parameters):
                break
    return known - OURS


def _index(target: Any) -> Optional[int]:
    """Return a class index; -1 and `None` mean an image without a class."""
    index = -1 if target is None else to_index(target)
    return None if index < 0 else index


def _paths(data: Any) -> Optional[List[str]]:
    """Return the paths of the images, if they are separate files."""
    for name in (*PAIRS, *PATHS):
        kept = getattr(data, name, None)
        if isinstance(kept, list) and len(kept) == len(data):
            paths = [each[0] if name in PAIRS else each for each in kept]
            if all(isinstance(path, (str, os.PathLike)) for path in paths):
                return [os.fspath(path) for path in paths]
    return None


def _class_names(data: Any) -> List[str]:
    """Return the names of the classes, made unique; empty if the dataset has no names."""
    given = getattr(data, "classes", None) or getattr(data, "categories", None)
    if given is None:
        indices = getattr(data, "class_to_idx", {})
        given = sorted(indices, key=indices.__getitem__)
    # ImageNet's classes have several names each.
    names = [name if isinstance(name, str) else ", ".join(name) for name in given]
    times = Counter(names)
    return [f"{name} ({i})" if times[name] > 1 else name for i, name in enumerate(names)]


def _label(names: List[str], target: Optional[int]) -> Optional[str]:
    if target is None:
        return None
    return names[target] if names else str(target)

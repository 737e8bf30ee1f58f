import logging
from itertools import islice
from typing import Any, Dict, Iterator, List, Optional, Tuple

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance

from allencv.common.nearest_names import not_one_of
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample

logger = logging.getLogger(__name__)

KEY = "from_reader"
"""The metadata key for the name of the reader of an image."""


@DatasetReader.register("concat")
class ConcatReader(ImageDatasetReader):
    """
    Reads several datasets, each with its own reader, as one. The readers follow each other in the
    alphabetical order of their names (jsonnet keeps no other order). Each image gets the transforms
    of its own reader; the labels of all readers are combined. The metadata of an image name its
    reader under `from_reader`.

    The data path is a dictionary with a path for each reader name, or `null` to skip a reader:
    `"train_data_path": {"photos": "photos/train", "posters": "posters/train.csv"}`.

    A single image, as in `predict`, gets the transforms of the first reader.

    Registered as a `DatasetReader` with name "concat".

    # Example

    ```jsonnet
    {
      type: "concat",
      readers: {
        photos: { type: "image_folder" },
        posters: { type: "image_table", image_column: "file", label_column: "label" },
      },
    }
    ```

    # Parameters

    readers : `Dict[str, DatasetReader]`, required
        Readers of images, with the same `color_mode` and `label_namespace`.
    max_instances : `int`, optional (default = `None`)
        The maximum number of images in total.

    # Raises

    `ConfigurationError` when reading, if the paths do not match the readers.
    """

    def __init__(
        self,
        readers: Dict[str, DatasetReader],
        max_instances: Optional[int] = None,
        serialization_dir: Optional[str] = None,
    ) -> None:
        if not readers:
            raise ConfigurationError("dataset_reader.readers is empty; expected one or more")
        for name, reader in readers.items():
            if not isinstance(reader, ImageDatasetReader) or isinstance(reader, ConcatReader):
                raise ConfigurationError(
                    f"dataset_reader.readers.{name} is a {type(reader).__name__}; expected a "
                    "reader of images (list the readers of a concat reader here directly)"
                )
        self.readers: Dict[str, Any] = dict(sorted(readers.items()))
        name, first = next(iter(self.readers.items()))
        for other, reader in self.readers.items():
            for key in ("color_mode", "label_namespace"):
                if getattr(reader, key) != getattr(first, key):
                    raise ConfigurationError(
                        f"dataset_reader.readers.{other}.{key} is '{getattr(reader, key)}'; "
                        f"expected '{getattr(first, key)}', as readers.{name} has"
                    )
        super().__init__(
            first.transforms,
            first.color_mode,
            first.label_namespace,
            max_instances,
            serialization_dir,
        )
        self.value_range = first.value_range

    def read_samples(self, file_path: Any) -> Iterator[Sample]:
        # Check all paths before reading anything.
        return self._samples(self._paths(file_path))

    def _samples(self, paths: List[Tuple[str, Any]]) -> Iterator[Sample]:
        for name, path in paths:
            reader, count = self.readers[name], 0
            origin = {KEY: name}
            for sample in islice(reader.read_samples(path), reader.max_instances):
                metadata = {**sample.metadata, **origin} if sample.metadata else origin
                yield sample._replace(metadata=metadata)
                count += 1
            logger.info("%s: %d images from %s", name, count, path)

    def _paths(self, file_path: Any) -> List[Tuple[str, Any]]:
        """Return the names of the readers, each with its path."""
        names = list(self.readers)
        if isinstance(file_path, Params):
            file_path = file_path.as_dict(quiet=True)
        if not isinstance(file_path, dict):
            raise ConfigurationError(
                f"the path is {file_path!r}; expected a dictionary with a path for each of "
                f"dataset_reader.readers, {', '.join(names)}"
            )
        for name in file_path:
            if name not in self.readers:
                raise not_one_of("a key of the paths for dataset_reader.readers", name, names)
        missing = [name for name in names if name not in file_path]
        if missing:
            raise ConfigurationError(
                f"the paths are for {', '.join(file_path) or 'no reader'}; expected one for "
                f"{', '.join(missing)} of dataset_reader.readers too, or null to skip it"
            )
        return [(name, file_path[name]) for name in names if file_path[name] is not None]

    def text_to_instance(
        self,
        image: Any,
        label: Optional[str] = None,
        labels: Optional[Any] = None,
        metadata: Optional[Dict[str, Any]] = None,
    ) -> Instance:
        """Make an instance with the reader that `metadata` names, or with the first."""
        name = (metadata or {}).get(KEY, next(iter(self.readers)))
        return self.readers[name].text_to_instance(image, label, labels, metadata)

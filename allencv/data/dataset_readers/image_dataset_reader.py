import os
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Union,
)

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.data import DatasetReader, Field, Instance
from allennlp.data.fields import LabelField, MetadataField, MultiLabelField

from allencv.common.checks import CheckedFromParams
from allencv.common.label_text import shown, why_unwritable
from allencv.common.nearest_names import not_one_of
from allencv.common.short_repr import short_repr
from allencv.data.fields import ImageField
from allencv.data.transforms import ImageTransform
from allencv.data.transforms.image_transform import InTurn
from allencv.runtime import COLOR_MODES, ImageError, ImageSource
from allencv.runtime.value_ranges import checked_range


class Sample(NamedTuple):
    """
    One image of a dataset before it becomes an `Instance`: no pixels.

    `image` is a source for `ImageField`. An image has one `label`, or several `labels` (an empty
    list is an image without labels), or neither.
    """

    image: Union[ImageSource, Callable[[], ImageSource]]
    label: Optional[str] = None
    labels: Optional[Sequence[str]] = None
    metadata: Optional[Dict[str, Any]] = None


class ImageDatasetReader(CheckedFromParams, DatasetReader):
    """
    The base class of image readers. A subclass lists its `Sample`s in `read_samples`; this class
    makes an `Instance` of each. An instance holds the source and the transforms of the image, but
    no pixels.

    The fields of an instance are `image` (`ImageField`), `label` (`LabelField`) or `labels`
    (`MultiLabelField`) if there are any, and `metadata` (`MetadataField` with the key `image`: the
    path).

    # Parameters

    transforms : `List[ImageTransform]`, optional (default = `None`)
        Applied in order to the decoded `uint8` image `(channels, height, width)`, anew each time it
        is read. Without transforms, images keep their sizes.
    color_mode : `str`, optional (default = `"RGB"`)
        "RGB", "L" (one channel, grey) or "RGBA".
    label_namespace : `str`, optional (default = `"labels"`)
        The vocabulary namespace of the labels.
    max_instances : `int`, optional (default = `None`)
        The maximum number of images to read.
    value_range : `List[float]`, optional (default = `None`)
        `[black, white]`: the values that become black and white in images of more than 8 bits per
        channel, such as `[0, 4095]` for 12 bits and `[0, 1]` for floating point. Values between are
        mapped linearly, others are clipped. Images of 8 bits stay unchanged. By default 16-bit
        images keep their upper 8 bits, and floating point ranges from 0 to 255.
    """

    samples_survive_a_fork = False
    """
    Whether samples that are streamed in one process can be sent to forked processes and opened
    there: they hold bytes, or files that are opened anew, and no open file or connection. Each
    class says this for itself, because a subclass may give other samples.
    """

    def __init__(
        self,
        transforms: Optional[List[ImageTransform]] = None,
        color_mode: str = "RGB",
        label_namespace: str = "labels",
        max_instances: Optional[int] = None,
        serialization_dir: Optional[str] = None,
        value_range: Optional[List[float]] = None,
    ) -> None:
        if color_mode not in COLOR_MODES:
            raise not_one_of("dataset_reader.color_mode", color_mode, COLOR_MODES)
        if max_instances is not None and max_instances < 1:
            raise ConfigurationError(
                f"dataset_reader.max_instances is {max_instances}; expected at least 1"
            )
        try:
            self.value_range = checked_range(value_range)
        except ValueError as error:
            raise ConfigurationError(f"dataset_reader.{error}") from None
        if _is_no_file_name(label_namespace):
            raise ConfigurationError(
                f"dataset_reader.label_namespace is {label_namespace!r}; expected a valid file "
                "name, such as 'labels'"
            )
        super().__init__(
            max_instances=max_instances,
            manual_distributed_sharding=True,
            manual_multiprocess_sharding=True,
            serialization_dir=serialization_dir,
        )
        for field in (LabelField, MultiLabelField):
            # They would warn about entries that `LabelVocabulary` does not make.
            field._already_warned_namespaces.add(label_namespace)
        self.transforms = list(transforms or [])
        self.color_mode = color_mode
        self.label_namespace = label_namespace
        # The fields hold this, not the reader: they are copied and sent to other processes.
        self._transform = InTurn(self.transforms) if self.transforms else None

    def __repr__(self) -> str:
        return short_repr(self)

    def read_samples(self, file_path: Any) -> Iterable[Sample]:
        """List the samples at `file_path`, always in the same order, without decoding."""
        raise NotImplementedError

    def num_images(self, file_path: Any) -> Optional[int]:
        """Return the number of images at `file_path`, or `None` if only reading them would tell."""
        return None

    def label_counts(self, file_path: Any) -> Optional[Dict[str, int]]:
        """Return the number of images with each label, or `None` if only reading would tell."""
        return None

    def shard_sizes(self, file_path: Any) -> Dict[str, Optional[int]]:
        """
        Return the bytes of each shard at `file_path` by its name, `None` for one on another
        machine. A reader without shards, or that does not know their names, returns none.
        """
        return {}

    def reads_samples_alone(self) -> bool:
        """Return whether instances depend only on the samples, so that they can be made later."""
        return (
            type(self)._read is ImageDatasetReader._read
            and type(self).apply_token_indexers is DatasetReader.apply_token_indexers
        )

    def read_share(self, file_path: Any) -> Iterable[Sample]:
        """Return the samples for this process among the ranks and workers of AllenNLP's loaders."""
        return self.shard_iterable(self.read_samples(file_path))

    def _read(self, file_path: Any) -> Iterator[Instance]:
        for sample in self.read_share(file_path):
            yield self.text_to_instance(*sample)

    def text_to_instance(
        self,
        image: Union[ImageSource, Callable[[], ImageSource], torch.Tensor],
        label: Optional[str] = None,
        labels: Optional[Sequence[str]] = None,
        metadata: Optional[Dict[str, Any]] = None,
    ) -> Instance:
        """
        Make an instance of one image: a path, a URL (downloaded to AllenNLP's cache), the bytes of
        a file, a PIL image, an array, a tensor, or a function that returns one of these.

        # Raises

        `ImageError` for a URL that cannot be downloaded; other errors of the image appear when it
        is decoded. `ConfigurationError` for a label that a vocabulary cannot write.
        """
        _check_labels([*([] if label is None else [label]), *(labels or [])], image)
        is_url = isinstance(image, str) and "://" in image
        field = ImageField(
            _download(image) if is_url else image,
            self._transform,
            self.color_mode,
            value_range=self.value_range,
        )
        fields: Dict[str, Field] = {"image": field}
        if label is not None:
            fields["label"] = LabelField(label, self.label_namespace)
        if labels is not None:
            fields["labels"] = MultiLabelField(labels, self.label_namespace)
        fields["metadata"] = MetadataField(described(image, metadata))
        return Instance(fields)


def described(image: Any, metadata: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Return the metadata of an instance: the name of the image, and the given ones."""
    name = image if isinstance(image, str) else ImageField(image).name
    return {"image": name, **(metadata or {})}


def _is_no_file_name(namespace: str) -> bool:
    """Return whether a vocabulary cannot write a namespace to a file and find it again."""
    is_odd = any(character in namespace for character in "/\\*\0\r\n") or ".txt" in namespace
    return is_odd or namespace.startswith(".") or namespace in ("", "non_padded_namespaces")


def _check_labels(labels: Sequence[str], image: object) -> None:
    for label in labels:
        reason = why_unwritable(label) if isinstance(label, str) else None
        if reason is not None:
            name = shown(str(image)) if isinstance(image, (str, os.PathLike)) else "an image"
            raise ConfigurationError(
                f"the label '{shown(label)}' of {name} cannot be kept in a vocabulary: {reason}; "
                "expected another name"
            )


def _download(url: Any) -> str:
    try:
        return str(cached_path(url))
    except Exception as error:  # each protocol has its own errors
        raise ImageError(f"{url}: {error}") from error

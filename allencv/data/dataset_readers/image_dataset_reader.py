from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Union

import torch
from allennlp.common.file_utils import cached_path
from allennlp.data import DatasetReader, Field, Instance
from allennlp.data.fields import LabelField, MetadataField

from allencv.common.checks import CheckedFromParams, not_one_of
from allencv.data.fields import ImageField
from allencv.data.transforms import ImageTransform
from allencv.runtime import COLOR_MODES, ImageSource


class Sample(NamedTuple):
    """One image of a data set before it becomes an `Instance`: no pixels."""

    image: ImageSource
    label: Optional[str] = None


class ImageDatasetReader(CheckedFromParams, DatasetReader):
    """
    The base of the readers of images. A subclass lists its `Sample`s in `read_samples`; this class
    makes an `Instance` of each, which holds where the image is, and how it is to be transformed,
    but no pixels.

    The fields of an instance are `image` (`ImageField`), `label` (`LabelField`, if there is one)
    and `metadata` (`MetadataField` with the key `image`: the path).

    # Parameters

    transforms : `List[ImageTransform]`, optional (default = `None`)
        Applied in order to the decoded `uint8` image `(channels, height, width)`, afresh each time
        that it is read. Without any, images keep their sizes.
    color_mode : `str`, optional (default = `"RGB"`)
        "RGB", "L" (one channel, grey) or "RGBA".
    label_namespace : `str`, optional (default = `"labels"`)
        The vocabulary namespace of the labels.
    max_instances : `int`, optional (default = `None`)
        Read at most this many.
    """

    def __init__(
        self,
        transforms: Optional[List[ImageTransform]] = None,
        color_mode: str = "RGB",
        label_namespace: str = "labels",
        max_instances: Optional[int] = None,
        serialization_dir: Optional[str] = None,
    ) -> None:
        super().__init__(
            max_instances=max_instances,
            manual_distributed_sharding=True,
            manual_multiprocess_sharding=True,
            serialization_dir=serialization_dir,
        )
        if color_mode not in COLOR_MODES:
            raise not_one_of("dataset_reader.color_mode", color_mode, COLOR_MODES)
        self.transforms = list(transforms or [])
        self.color_mode = color_mode
        self.label_namespace = label_namespace

    def read_samples(self, file_path: Any) -> Iterable[Sample]:
        """Lists what is at `file_path`, always in the same order, without decoding anything."""
        raise NotImplementedError

    def read_all(self, file_path: Any) -> Iterator[Instance]:
        """
        Reads every instance, whatever the rank or worker: `read` gives each of these its share.
        """
        for index, sample in enumerate(self.read_samples(file_path)):
            if index == self.max_instances:
                return
            yield self.text_to_instance(*sample)

    def _read(self, file_path: Any) -> Iterator[Instance]:
        for sample in self.shard_iterable(self.read_samples(file_path)):
            yield self.text_to_instance(*sample)

    def text_to_instance(  # type: ignore[override]
        self,
        image: Union[ImageSource, torch.Tensor],
        label: Optional[str] = None,
        metadata: Optional[Dict[str, Any]] = None,
    ) -> Instance:
        """
        Makes an instance of one image: a path, a URL (downloaded into AllenNLP's cache), the bytes
        of a file, a PIL image, an array or a tensor, as `ImageField` takes them.
        """
        name = str(image) if isinstance(image, str) else None
        if name is not None and "://" in name:
            image = str(cached_path(name))
        field = ImageField(image, self._transform if self.transforms else None, self.color_mode)
        fields: Dict[str, Field] = {"image": field}
        if label is not None:
            fields["label"] = LabelField(label, self.label_namespace)
        fields["metadata"] = MetadataField({"image": name or field.name, **(metadata or {})})
        return Instance(fields)

    def _transform(self, image: torch.Tensor) -> torch.Tensor:
        for transform in self.transforms:
            image = transform(image)
        return image

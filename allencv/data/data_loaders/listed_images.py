import itertools
import logging
import os
from collections import Counter
from typing import Any, Dict, Iterable, Iterator, Optional, Sequence, Tuple

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Field, Instance, Vocabulary
from allennlp.data.fields import LabelField, MultiLabelField

from allencv.common.label_text import same_looking, shown
from allencv.data.class_weightings import ClassWeighting
from allencv.data.data_loaders.memory_cache import image_fields
from allencv.data.data_loaders.seeds import mix
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.fields import ImageField
from allencv.data.problems import similar_labels
from allencv.data.samples import Instances, SampleList

logger = logging.getLogger(__name__)

LABEL_KEYS = ("label", "labels")


class ListedImages:
    """
    All images of a listed dataset, in the order of each epoch.

    # Parameters

    reader, data_path, shuffle, class_weighting, repeats, seed
        See `ImageDataLoader`.
    """

    def __init__(
        self,
        reader: DatasetReader,
        data_path: Any,
        shuffle: bool,
        class_weighting: Optional[ClassWeighting],
        repeats: int,
        seed: int,
    ) -> None:
        self.instances = _read_all(reader, data_path)
        if not self.instances:
            raise ConfigurationError(f"{type(reader).__name__} found no image in {data_path}")
        self._shuffle = shuffle
        self._repeats = repeats
        self._seed = seed
        size = len(self.instances)
        counts = [f"{shown(label)} {count}" for label, count in sorted(self.labels().items())]
        listed = ", ".join(counts[:50]) + (", ..." if len(counts) > 50 else "")
        logger.info("%d images in %s: %s", size, shown(str(data_path)), listed or "unlabelled")
        for group in similar_labels(self.labels()) if shuffle else []:  # only the training data
            logger.warning("%s: labels that look the same: %s", data_path, group)
        self._weights = self._image_weights(class_weighting)

    def __len__(self) -> int:
        """Return the number of images in an epoch."""
        return len(self.instances)

    @property
    def num_images(self) -> int:
        """Return the number of images in an epoch, which `StreamedImages` may not know."""
        return len(self)

    def order(self, epoch: int) -> "np.ndarray":
        """Return the image at each place of an epoch."""
        size = len(self.instances)
        order = torch.arange(size)
        if self._shuffle:
            generator = torch.Generator().manual_seed(mix(self._seed, epoch))
            if self._weights is None:
                order = torch.randperm(size, generator=generator)
            else:
                order = torch.multinomial(self._weights, size, True, generator=generator)
        images = order.numpy()
        return images if self._repeats == 1 else np.repeat(images, self._repeats)[:size]

    def in_order(self) -> Iterator[Tuple[int, int]]:
        """Yield all images once, each after its place."""
        return enumerate(range(len(self)))

    def iter_instances(self) -> Iterator[Instance]:
        yield from self.instances

    def index_with(self, vocab: Vocabulary) -> None:
        instances: Iterable[Instance] = self.instances
        if isinstance(self.instances, Instances):
            # Instances are indexed when they are made; check here that this will work.
            self.instances.vocab = vocab
            instances = self.instances.one_of_each_label()
        for instance in instances:
            index_instance(instance, vocab)

    def survive_a_fork(self) -> bool:
        """
        Return whether forked processes can surely read the images. Code that is not ours may use an
        open file or a connection, which processes must not share.
        """
        is_ours = not isinstance(self.instances, Instances) or self.instances.are_plain
        for field in image_fields(self.instances[0]):
            source = field.source
            is_path = isinstance(source, (str, os.PathLike))
            is_opened_anew = type(source).__module__.startswith("allencv.")
            if not (is_path or is_opened_anew or (is_ours and not callable(source))):
                return False
        return True

    def identity(self) -> Dict[str, object]:
        """Return what identifies the images and labels. Readers of others have no hash."""
        instances = self.instances
        digest = instances.samples.digest() if isinstance(instances, Instances) else None
        return {"images": len(self), "labels": self.labels(), "sha256 of the list": digest}

    def labels(self) -> Dict[str, int]:
        """Return the number of images with each label."""
        if isinstance(self.instances, Instances):
            return self.instances.samples.labels()
        fields = (instance.fields.get(k) for instance in self.instances for k in LABEL_KEYS)
        return dict(Counter(str(label) for field in fields for label in field_labels(field)))

    def _image_weights(self, weighting: Optional[ClassWeighting]) -> Optional[torch.Tensor]:
        """Return the weight of each image for drawing an epoch."""
        if weighting is None:
            return None
        samples = self.instances.samples if isinstance(self.instances, Instances) else ()
        labels = [sample.label for sample in samples]
        if not self._shuffle or not labels or None in labels:
            raise ConfigurationError(
                'data_loader.class_weighting is set; expected "shuffle": true and an image reader '
                "that gives each image one label"
            )
        weights = weighting(self.labels())
        return torch.tensor([weights[str(label)] for label in labels], dtype=torch.float64)


def index_instance(instance: Instance, vocab: Vocabulary) -> None:
    """Index an instance. Raises `ConfigurationError` for a label missing from the vocabulary."""
    unknown = _unknown_label(instance, vocab)
    if unknown is not None:
        raise ConfigurationError(unknown)
    try:
        instance.index_fields(vocab)
    except KeyError as error:
        raise ConfigurationError(str(error)) from None


def field_labels(field: Optional[Field]) -> Sequence[str]:
    if isinstance(field, LabelField):
        return [field.label]
    return field.labels if isinstance(field, MultiLabelField) else []


def _read_all(reader: DatasetReader, data_path: Any) -> Sequence[Instance]:
    """Return every instance, even when distributed, where a reader gives each rank a share."""
    if isinstance(reader, ImageDatasetReader) and reader.reads_samples_alone():
        samples = itertools.islice(reader.read_samples(data_path), reader.max_instances)
        return Instances(reader, SampleList(samples))
    distributed_info = reader.get_distributed_info()
    reader._set_distributed_info(None)
    reader.shard_iterable = iter
    try:
        return list(reader.read(data_path))
    finally:
        del reader.shard_iterable
        reader._set_distributed_info(distributed_info)


def _unknown_label(instance: Instance, vocab: Vocabulary) -> Optional[str]:
    """Return an error message if the vocabulary lacks a label of an instance."""
    for field in instance.values():
        namespace = getattr(field, "_label_namespace", "")
        known = vocab.get_token_to_index_vocabulary(namespace)
        for label in field_labels(field):
            if label not in known and isinstance(label, str):
                images = [each.name for each in instance.values() if isinstance(each, ImageField)]
                names = ", ".join(map(shown, sorted(known))) or "nothing"
                return (
                    f"label '{shown(label)}' of {shown(', '.join(images))} is not in the "
                    f"vocabulary, whose namespace '{namespace}' holds {names}; train on images of "
                    f"it, or take it out{same_looking([label], known)}"
                )
    return None

import hashlib
import itertools
import logging
import os
from collections import Counter
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Sequence, Tuple

import torch
import torch.distributed as dist
from allennlp.common import util
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, DatasetReader, Field, Instance, TensorDict, Vocabulary
from allennlp.data.fields import LabelField, MultiLabelField
from allennlp.nn import util as nn_util

from allencv.common.checks import CheckedFromParams, not_one_of
from allencv.data.class_weightings import ClassWeighting
from allencv.data.data_loaders.workers import (
    Collated,
    Job,
    NoWorkers,
    ProcessWorkers,
    ThreadWorkers,
    Workers,
)
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.fields import ImageField
from allencv.data.samples import Instances, SampleList
from allencv.runtime import ImageError

logger = logging.getLogger(__name__)

WORKERS: Dict[str, Callable[..., Workers]] = {"thread": ThreadWorkers, "process": ProcessWorkers}
ON_ERROR = ("raise", "skip")
LABEL_KEYS = ("label", "labels")


@DataLoader.register("image")
class ImageDataLoader(CheckedFromParams, DataLoader):
    """
    Makes batches of images: decodes and transforms them in workers, afresh each epoch, while the
    model computes. Nothing decoded is kept; at most `prefetch_batches` batches wait to be used.

    The order of the epochs and what each random transform draws depend on the seed and the epoch
    alone: the same for any number of workers, threads or processes, and whether or not
    training was interrupted. In distributed training each rank takes its share of the same order:
    when shuffling, all ranks get the same number of images (some are used twice to fill up); else
    every image is used exactly once.

    Registered as a `DataLoader` with name "image".

    # Parameters

    reader : `DatasetReader`, required
        Any reader whose instances hold an `ImageField`. (In a config: the `dataset_reader`.)
    data_path : `Any`, required
        What the reader is to read. (In a config: `train_data_path` and its like.)
    batch_size : `int`, optional (default = `32`)
    shuffle : `bool`, optional (default = `False`)
    class_weighting : `ClassWeighting`, optional (default = `None`)
        Draw the images of an epoch at random, with replacement, those of rare classes more often:
        "balanced" draws each class as often as the others. Needs `shuffle`, and one label an image.
    repeats : `int`, optional (default = `1`)
        How many times in a row an image is used, transformed anew each time: "repeated
        augmentation" (Hoffer et al. 2020, arXiv:1901.09335). An epoch has as many images as
        without, of which every `repeats`-th is another. Needs `shuffle`.
    drop_last : `bool`, optional (default = `False`)
        Whether to leave out the last batch of an epoch if it is smaller than the others.
    num_workers : `int`, optional (default = `None`)
        How many workers decode. 0 decodes in the main thread; `None` is one for each core that
        this process may use, 8 at the most, shared among the ranks of this machine.
    worker : `str`, optional (default = `"thread"`)
        "thread", or "process" for transforms that hold Python's lock for long (pure Python).
    prefetch_batches : `int`, optional (default = `3`)
        How many batches are prepared ahead of the one in use. Processes prepare as many each: the
        number is rounded up to a multiple of theirs.
    on_error : `str`, optional (default = `"raise"`)
        What to do about an image that cannot be read: "raise" stops with its path; "skip" leaves it
        out of its batch, logs it, and counts it in `images_skipped`.
    seed : `int`, optional (default = `None`)
        `None` takes torch's seed, which is the config's `pytorch_seed`.
    """

    def __init__(
        self,
        reader: DatasetReader,
        data_path: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        class_weighting: Optional[ClassWeighting] = None,
        repeats: int = 1,
        drop_last: bool = False,
        num_workers: Optional[int] = None,
        worker: str = "thread",
        prefetch_batches: int = 3,
        on_error: str = "raise",
        seed: Optional[int] = None,
    ) -> None:
        for key, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", 0 if num_workers is None else num_workers, 0),
            ("prefetch_batches", prefetch_batches, 1),
            ("repeats", repeats, 1),
        ):
            if value < least:
                raise ConfigurationError(f"data_loader.{key} is {value}; expected at least {least}")
        if worker not in WORKERS:
            raise not_one_of("data_loader.worker", worker, WORKERS)
        if repeats > 1 and not shuffle:
            raise ConfigurationError(f'data_loader.repeats is {repeats}; expected "shuffle": true')
        if on_error not in ON_ERROR:
            raise not_one_of("data_loader.on_error", on_error, ON_ERROR)
        self.reader = reader
        self.data_path = data_path
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.repeats = repeats
        self.drop_last = drop_last
        self.num_workers = _default_workers() if num_workers is None else num_workers
        self.worker = worker
        self.prefetch_batches = prefetch_batches
        self.on_error = on_error
        self.seed = torch.initial_seed() if seed is None else seed
        self.images_skipped = 0
        self._rank = dist.get_rank() if util.is_distributed() else 0
        self._world_size = dist.get_world_size() if util.is_distributed() else 1
        self._device: Optional[torch.device] = None
        self._place = (0, 0)  # the epoch and the batch that the next iteration begins with
        self.another_epoch_follows = False
        self._prefetched: Optional[Tuple[Tuple[int, int], Iterator[Collated]]] = None
        self._workers: Optional[Workers] = None
        self._instances = _read_all(reader, data_path)
        self._is_indexed = False
        self._log_labels()
        self._weights = self._image_weights(class_weighting)
        if not self._instances:
            raise ConfigurationError(f"{type(reader).__name__} found no image in {data_path}")
        if drop_last and len(self) == 0:
            raise ConfigurationError(
                f"data_loader.batch_size is {batch_size}, of which the {len(self._places())} "
                f"images of {data_path} do not fill one; with drop_last none would be left"
            )

    def __len__(self) -> int:
        size = len(self._places())
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)

    def __iter__(self) -> Iterator[TensorDict]:
        if not self._is_indexed:
            raise ConfigurationError(
                f"the data loader of {self.data_path} has no vocabulary; call index_with(vocab)"
            )
        place, prefetched = self._place, self._prefetched
        self._place, self._prefetched = (place[0] + 1, 0), None
        if prefetched is not None and prefetched[0] == place:
            return self._delivered(prefetched[1])
        return self._delivered(self._begin(place))

    def prefetch(self) -> None:
        """
        Lets threads begin with the first batches of the next iteration, which then need not be
        waited for. They do so by themselves as soon as an epoch has no work left for them, if
        `another_epoch_follows` has been set to true.
        """
        if self._prefetched is None:
            self._prefetched = (self._place, iter(()))  # a short epoch may come by here again
            self._prefetched = (self._place, self._begin(self._place))

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Makes the next iteration the given epoch, from the given batch on. Decodes nothing."""
        self._place = (epoch, batch)

    def iter_instances(self) -> Iterator[Instance]:
        yield from self._instances

    def index_with(self, vocab: Vocabulary) -> None:
        instances: Iterable[Instance] = self._instances
        if isinstance(self._instances, Instances):
            # They are indexed when they are made; here it is seen to that they all can be.
            self._instances.vocab = vocab
            instances = self._instances.one_of_each_label()
        for instance in instances:
            try:
                instance.index_fields(vocab)
            except KeyError as error:
                raise ConfigurationError(_unknown_label(instance, vocab) or str(error)) from None
        self._is_indexed = True

    def labels(self) -> Dict[str, int]:
        """The labels of the images, and how many images have each."""
        if isinstance(self._instances, Instances):
            return self._instances.samples.labels()
        fields = (instance.fields.get(k) for instance in self._instances for k in LABEL_KEYS)
        return dict(Counter(str(label) for field in fields for label in _labels(field)))

    def _log_labels(self) -> None:
        counts = [f"{label} {count}" for label, count in sorted(self.labels().items())]
        shown = ", ".join(counts[:50]) + (", ..." if len(counts) > 50 else "")
        found = f"{len(self._instances)} images in {self.data_path}"
        logger.info("%s: %s", found, shown or "unlabelled")

    def _image_weights(self, weighting: Optional[ClassWeighting]) -> Optional[torch.Tensor]:
        """What each image weighs when the images of an epoch are drawn."""
        if weighting is None:
            return None
        samples = self._instances.samples if isinstance(self._instances, Instances) else ()
        labels = [sample.label for sample in samples]
        if not self.shuffle or not labels or None in labels:
            raise ConfigurationError(
                'data_loader.class_weighting is set; expected "shuffle": true and an image reader '
                "that gives each image one label"
            )
        weights = weighting(self.labels())
        return torch.tensor([weights[str(label)] for label in labels], dtype=torch.float64)

    def set_target_device(self, device: torch.device) -> None:
        self._device = device

    def _places(self) -> range:
        """The places in an epoch's order that this rank takes."""
        size = len(self._instances)
        if self.shuffle:
            size += -size % self._world_size
        return range(self._rank, size, self._world_size)

    def _jobs(self, epoch: int, start: int) -> Iterator[Job]:
        """What there is to do for the batches of this rank in an epoch, from batch `start` on."""
        size = len(self._instances)
        order = torch.arange(size)
        if self.shuffle:
            generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
            if self._weights is None:
                order = torch.randperm(size, generator=generator)
            else:
                order = torch.multinomial(self._weights, size, True, generator=generator)
        places, images = self._places(), order.numpy()
        for batch in range(start, len(self)):
            mine = places[batch * self.batch_size : (batch + 1) * self.batch_size]
            # What is drawn for an image hangs on its place, as one image may have several.
            yield [(int(images[p % size // self.repeats]), _mix(self.seed, epoch, p)) for p in mine]
        if self.another_epoch_follows:
            self.prefetch()

    def _begin(self, place: Tuple[int, int]) -> Iterator[Collated]:
        if self._workers is None:
            self._workers = (
                WORKERS[self.worker](self._instances, self.num_workers, self.prefetch_batches)
                if self.num_workers
                else NoWorkers(self._instances)
            )
        return self._workers(self._jobs(*place))

    def _delivered(self, batches: Iterator[Collated]) -> Iterator[TensorDict]:
        for collated in batches:
            batch = self._checked(collated)
            yield batch if self._device is None else _to_device(batch, self._device)

    def _checked(self, collated: Collated) -> TensorDict:
        """The batch, after what could not be read has been dealt with as `on_error` says."""
        if collated.errors and self.on_error == "raise":
            raise ImageError(
                f'{collated.errors[0]} (in {self.data_path}; "on_error": "skip" in the data '
                "loader leaves unreadable images out)"
            )
        if not collated.batch:
            raise ImageError(
                f"no image of a batch of {self.data_path} can be read; the first: "
                f"{collated.errors[0]}"
            )
        for error in collated.errors:
            logger.warning("Left out, as it cannot be read: %s", error)
        self.images_skipped += len(collated.errors)
        return collated.batch


def _read_all(reader: DatasetReader, data_path: Any) -> Sequence[Instance]:
    """Every instance, in distributed training too, where a reader gives each rank its share."""
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


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ranks = int(os.environ.get("ALLENNLP_PROCS_PER_NODE", 1)) if util.is_distributed() else 1
    return max(1, min(8, (cores or 1) // ranks))


def _mix(*numbers: int) -> int:
    """A seed that depends on all the numbers, the same in every process and on every machine."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _labels(field: Optional[Field]) -> Sequence[str]:
    if isinstance(field, LabelField):
        return [field.label]
    return field.labels if isinstance(field, MultiLabelField) else []


def _unknown_label(instance: Instance, vocab: Vocabulary) -> Optional[str]:
    """What there is to say if the vocabulary does not know a label of an instance."""
    images = [field.name for field in instance.values() if isinstance(field, ImageField)]
    for field in instance.values():
        namespace = getattr(field, "_label_namespace", "")
        known = vocab.get_token_to_index_vocabulary(namespace)
        for label in _labels(field):
            if label not in known:
                return (
                    f"label '{label}' of {', '.join(images)} is not in the vocabulary, whose "
                    f"namespace '{namespace}' holds {', '.join(sorted(known)) or 'nothing'}; "
                    "train on images of it, or take it out"
                )
    return None


def _to_device(batch: TensorDict, device: torch.device) -> TensorDict:
    if device.type != "cuda":
        return nn_util.move_to_device(batch, device)
    return {
        key: value.pin_memory().to(device, non_blocking=True)
        if isinstance(value, torch.Tensor)
        else nn_util.move_to_device(value, device)
        for key, value in batch.items()
    }

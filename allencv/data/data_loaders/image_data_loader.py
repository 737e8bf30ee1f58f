import hashlib
import itertools
import logging
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader, DatasetReader, Instance, TensorDict, Vocabulary
from allennlp.data.fields import LabelField
from allennlp.nn import util as nn_util
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset

from allencv.common.checks import not_one_of
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.fields import ImageField
from allencv.data.transforms import random_source
from allencv.runtime import ImageError

logger = logging.getLogger(__name__)

WORKERS = ("thread", "process")
ON_ERROR = ("raise", "skip")


Job = List[Tuple[int, int]]
"""A batch to be made: for each image its place in the data, and the seed that it draws by."""


class Loaded(NamedTuple):
    """An instance whose images have been decoded and transformed; or why they could not be."""

    instance: Instance
    images: Dict[str, torch.Tensor]
    error: Optional[str] = None


class Collated(NamedTuple):
    """A batch, and why some of its images are not in it."""

    batch: Dict[str, Any]
    errors: List[str]


@DataLoader.register("image")
class ImageDataLoader(DataLoader):
    """
    Makes batches of images: decodes and transforms them in workers, afresh each epoch, while the
    model computes. Nothing decoded is kept; at most `prefetch_batches` batches wait to be used.

    The order of the epochs and what each random transform draws depend on the seed, the epoch and
    the image alone: the same for any number of workers, threads or processes, and whether or not
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
    drop_last : `bool`, optional (default = `False`)
        Whether to leave out the last batch of an epoch if it is smaller than the others.
    num_workers : `int`, optional (default = `None`)
        How many workers decode. 0 decodes in the main thread; `None` is one for each core that
        this process may use, 8 at the most, shared among the ranks of this machine.
    worker : `str`, optional (default = `"thread"`)
        "thread", or "process" for transforms that hold Python's lock for long (pure Python).
    prefetch_batches : `int`, optional (default = `4`)
        How many batches are prepared ahead of the one in use.
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
        drop_last: bool = False,
        num_workers: Optional[int] = None,
        worker: str = "thread",
        prefetch_batches: int = 4,
        on_error: str = "raise",
        seed: Optional[int] = None,
    ) -> None:
        for key, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", 0 if num_workers is None else num_workers, 0),
            ("prefetch_batches", prefetch_batches, 1),
        ):
            if value < least:
                raise ConfigurationError(
                    f"data_loader.{key} is {value}; expected at least {least}"
                )
        if worker not in WORKERS:
            raise not_one_of("data_loader.worker", worker, WORKERS)
        if on_error not in ON_ERROR:
            raise not_one_of("data_loader.on_error", on_error, ON_ERROR)
        self.reader = reader
        self.data_path = data_path
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.num_workers = _default_workers() if num_workers is None else num_workers
        self.worker = worker
        self.prefetch_batches = prefetch_batches
        self.on_error = on_error
        self.seed = torch.initial_seed() if seed is None else seed
        self.images_skipped = 0
        self._rank = dist.get_rank() if is_distributed() else 0
        self._world_size = dist.get_world_size() if is_distributed() else 1
        self._device: Optional[torch.device] = None
        self._epoch = 0
        self._start_batch = 0
        self._executor: Optional[ThreadPoolExecutor] = None
        self._processes: Optional[TorchDataLoader] = None
        if isinstance(reader, ImageDatasetReader):
            self._instances = list(reader.read_all(data_path))
        else:
            info = reader.get_distributed_info()
            reader._set_distributed_info(None)  # every rank lists all, and takes its share below
            self._instances = list(reader.read(data_path))
            reader._set_distributed_info(info)
        if not self._instances:
            raise ConfigurationError(f"{type(reader).__name__} found no image in {data_path}")

    def __len__(self) -> int:
        size = len(range(self._rank, len(self._instances), self._world_size))
        if self.shuffle:
            size = -(-len(self._instances) // self._world_size)
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)

    def __iter__(self) -> Iterator[TensorDict]:
        epoch, start = self._epoch, self._start_batch
        self._epoch, self._start_batch = epoch + 1, 0
        for collated in self._batches(self._jobs(epoch)[start:]):
            batch = self._checked(collated)
            yield batch if self._device is None else _to_device(batch, self._device)

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Makes the next iteration the given epoch, from the given batch on. Decodes nothing."""
        self._epoch, self._start_batch = epoch, batch

    def iter_instances(self) -> Iterator[Instance]:
        yield from self._instances

    def index_with(self, vocab: Vocabulary) -> None:
        for instance in self._instances:
            try:
                instance.index_fields(vocab)
            except KeyError:
                raise ConfigurationError(_unknown_label(instance, vocab)) from None

    def labels(self) -> Set[str]:
        """The labels of the images, as they stand in the data."""
        fields = (instance.fields.get("label") for instance in self._instances)
        return {str(field.label) for field in fields if isinstance(field, LabelField)}

    def set_target_device(self, device: torch.device) -> None:
        self._device = device

    def _jobs(self, epoch: int) -> List[Job]:
        """The batches of this rank in an epoch."""
        order = torch.arange(len(self._instances))
        if self.shuffle:
            generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
            order = torch.randperm(len(self._instances), generator=generator)
            missing = -len(order) % self._world_size
            order = torch.cat([order, order[:missing]])
        mine = order[self._rank :: self._world_size].tolist()
        samples = [(index, _mix(self.seed, epoch, index)) for index in mine]
        batches = [
            samples[start : start + self.batch_size]
            for start in range(0, len(samples), self.batch_size)
        ]
        return batches[: len(self)]

    def _batches(self, jobs: List[Job]) -> Iterator[Collated]:
        if self.num_workers == 0:
            return (self._collate([self._load(*sample) for sample in job]) for job in jobs)
        return self._from_processes(jobs) if self.worker == "process" else self._from_threads(jobs)

    def _from_threads(self, jobs: List[Job]) -> Iterator[Collated]:
        if self._executor is None:
            # Each worker works on an image of its own: more threads inside of an operation would
            # only get in the way.
            self._executor = ThreadPoolExecutor(
                self.num_workers, "image-loader", initializer=torch.set_num_threads, initargs=(1,)
            )
        remaining = (_PendingBatch(job, self, self._executor) for job in jobs)
        waiting = deque(itertools.islice(remaining, self.prefetch_batches))
        try:
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(itertools.islice(remaining, 1))
                yield batch
        finally:
            for pending in waiting:
                pending.cancel()

    def _from_processes(self, jobs: List[Job]) -> Iterator[Collated]:
        if self._processes is None:
            self._processes = TorchDataLoader(
                _Samples(self),
                batch_sampler=[],
                collate_fn=self._collate,
                num_workers=self.num_workers,
                persistent_workers=True,
                prefetch_factor=-(-self.prefetch_batches // self.num_workers),
            )
        self._processes.batch_sampler[:] = jobs  # type: ignore[index]
        return iter(self._processes)

    def _load(self, index: int, seed: int) -> Loaded:
        instance = self._instances[index]
        images = {}
        try:
            with random_source(torch.Generator().manual_seed(seed)):
                for key, field in instance.items():
                    if isinstance(field, ImageField):
                        images[key] = field.as_tensor({})
        except ImageError as error:
            return Loaded(instance, {}, str(error))
        except Exception as error:
            error.add_note(f"This happened while transforming {field.human_readable_repr()}.")
            raise
        return Loaded(instance, images)

    def _collate(self, samples: Sequence[Loaded]) -> Collated:
        errors = [sample.error for sample in samples if sample.error is not None]
        samples = [sample for sample in samples if sample.error is None]
        if not samples or (errors and self.on_error == "raise"):
            return Collated({}, errors)
        batch: Dict[str, Any] = {}
        for key, first in samples[0].instance.items():
            if isinstance(first, ImageField):
                tensors = [sample.images[key] for sample in samples]
            else:
                fields = [sample.instance[key] for sample in samples]
                lengths = [field.get_padding_lengths() for field in fields]
                longest = {name: max(each[name] for each in lengths) for name in lengths[0]}
                tensors = [field.as_tensor(longest) for field in fields]
            batch[key] = first.batch_tensors(tensors)
        return Collated(batch, errors)

    def _checked(self, collated: Collated) -> TensorDict:
        """The batch, after what could not be read has been dealt with as `on_error` says."""
        if collated.errors and self.on_error == "raise":
            raise ImageError(
                f"{collated.errors[0]} (in {self.data_path}; \"on_error\": \"skip\" in the data "
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


class _PendingBatch:
    """A batch whose images are loaded by several threads; the last one to finish collates it."""

    def __init__(self, job: Job, loader: ImageDataLoader, executor: ThreadPoolExecutor) -> None:
        self._loader = loader
        self._samples: List[Optional[Loaded]] = [None] * len(job)
        self._missing = len(job)
        self._lock = threading.Lock()
        self._collated: "Future[Collated]" = Future()
        self._tasks = [
            executor.submit(self._load, place, *sample) for place, sample in enumerate(job)
        ]

    def result(self) -> Collated:
        return self._collated.result()

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _load(self, place: int, index: int, seed: int) -> None:
        try:
            self._samples[place] = self._loader._load(index, seed)
            with self._lock:
                self._missing -= 1
                last = self._missing == 0
            if last:
                self._collated.set_result(self._loader._collate(self._samples))  # type: ignore
        except Exception as error:
            with self._lock:
                if not self._collated.done():
                    self._collated.set_exception(error)


class _Samples(Dataset):
    """The images of a loader as worker processes ask for them."""

    def __init__(self, loader: ImageDataLoader) -> None:
        self._loader = loader

    def __getitem__(self, sample: Tuple[int, int]) -> Loaded:
        return self._loader._load(*sample)


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ranks = int(os.environ.get("ALLENNLP_PROCS_PER_NODE", 1)) if is_distributed() else 1
    return max(1, min(8, (cores or 1) // ranks))


def _mix(*numbers: int) -> int:
    """A seed that depends on all the numbers, the same in every process and on every machine."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _unknown_label(instance: Instance, vocab: Vocabulary) -> str:
    field = instance["label"]
    known = vocab.get_token_to_index_vocabulary(field._label_namespace)
    return (
        f"label '{field.label}' of {instance['metadata']['image']} is not in the vocabulary, whose "
        f"namespace '{field._label_namespace}' holds {', '.join(sorted(known)) or 'nothing'}; "
        "train on images of it, or take it out"
    )


def _to_device(batch: TensorDict, device: torch.device) -> TensorDict:
    if device.type != "cuda":
        return nn_util.move_to_device(batch, device)
    return {
        key: value.pin_memory().to(device, non_blocking=True)
        if isinstance(value, torch.Tensor)
        else nn_util.move_to_device(value, device)
        for key, value in batch.items()
    }

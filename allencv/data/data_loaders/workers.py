"""
Make the batches of the "image" data loader in threads, in processes, or in the main thread. Each of
the three classes takes the jobs of an epoch and yields their batches in order.
"""

import itertools
import threading
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    Union,
)

import torch
from allennlp.data import Batch, Field, Instance, TensorDict
from allennlp.data.fields import ListField
from torch.utils.data import DataLoader as TorchDataLoader

from allencv.data.data_loaders.kept_batches import kept_batch
from allencv.data.data_loaders.memory_cache import CachedInstances
from allencv.data.data_loaders.seeds import DrawSeed
from allencv.data.fields import ImageBatch, ImageField
from allencv.data.transforms import random_source
from allencv.data.transforms.image_turn import image_turn
from allencv.runtime import ImageError

BatchJob = List[Tuple[Any, int]]
"""A batch to make: for each image its key for `InstanceLookup` and the seed of its draws."""


class InstanceLookup(Protocol):
    def __getitem__(self, key: Any, /) -> Any: ...


Loaded = Union[Instance, str]
"""An instance with decoded and transformed images, or the reason why this failed."""


class Collated(NamedTuple):
    """
    A batch (empty without images), the places in its job of the images it has, and the errors of
    the others.
    """

    batch: TensorDict
    places: List[int]
    errors: List[str]


Workers = Callable[[Iterable[BatchJob]], Iterator[Collated]]


def load(instance: Instance, seed: int) -> Loaded:
    """Decode and transform the images of an instance, with random draws from `seed`."""
    try:
        turn = seed.turn if isinstance(seed, DrawSeed) else None
        with random_source(torch.Generator().manual_seed(seed)), image_turn(turn):
            return Instance({key: _decoded(field) for key, field in instance.items()})
    except ImageError as error:
        return str(error)


def _decoded(field: Field) -> Field:
    if isinstance(field, ImageField):
        return field.decoded()
    if isinstance(field, ListField) and isinstance(field.field_list[0], ImageField):
        return ListField([each.decoded() for each in field.field_list])
    return field


def collate(loaded: Sequence[Loaded]) -> Collated:
    """Make a batch of the loaded instances, as AllenNLP does."""
    places = [place for place, each in enumerate(loaded) if isinstance(each, Instance)]
    instances = [each for each in loaded if isinstance(each, Instance)]
    errors = [each for each in loaded if isinstance(each, str)]
    batch = Batch(instances).as_tensor_dict() if instances else {}
    return Collated(batch, places, errors)


def kept_at_once(instances: InstanceLookup, job: BatchJob) -> Optional[Collated]:
    """Make a batch of kept images in one piece, if possible."""
    batch = kept_batch(instances, job) if isinstance(instances, CachedInstances) else None
    return None if batch is None else Collated(batch, list(range(len(job))), [])


class NoWorkers:
    """Makes each batch when it is requested, in the calling thread."""

    def __init__(self, instances: InstanceLookup) -> None:
        self._instances = instances

    def __call__(self, jobs: Iterable[BatchJob]) -> Iterator[Collated]:
        for job in jobs:
            yield kept_at_once(self._instances, job) or collate(
                [load(self._instances[key], seed) for key, seed in job]
            )


class ThreadWorkers:
    """Threads that work together on one batch, image by image, then on the next."""

    def __init__(self, instances: InstanceLookup, num_workers: int, prefetch_batches: int) -> None:
        self._instances = instances
        self._num_workers = num_workers
        self._prefetch_batches = prefetch_batches
        self._executor = ThreadPoolExecutor(
            num_workers, "image-loader", _use_one_core, (torch.get_num_threads(),)
        )

    def __call__(self, jobs: Iterable[BatchJob]) -> Iterator[Collated]:
        batches = map(self._start, jobs)
        # Not in the generator, so that work starts now and not with the first batch.
        waiting = deque(itertools.islice(batches, self._prefetch_batches))
        return self._finished(waiting, batches)

    def _finished(
        self, waiting: "Deque[_BatchOfThreads]", batches: "Iterator[_BatchOfThreads]"
    ) -> Iterator[Collated]:
        try:
            while waiting:
                collated = waiting[0].result()
                waiting.popleft()
                waiting.extend(itertools.islice(batches, 1))
                yield collated
        finally:
            for batch in waiting:
                batch.stop()

    def _start(self, job: BatchJob) -> "_BatchOfThreads":
        batch = _BatchOfThreads(self._instances, job)
        if isinstance(self._instances, CachedInstances):
            self._executor.submit(self._start_kept, batch, job)
        else:
            self._start_images(batch, job)
        return batch

    def _start_images(self, batch: "_BatchOfThreads", job: BatchJob) -> None:
        for _ in range(min(self._num_workers, len(job))):
            self._executor.submit(batch.work)

    def _start_kept(self, batch: "_BatchOfThreads", job: BatchJob) -> None:
        """Make a batch in this thread, or image by image in all threads."""
        try:
            collated = kept_at_once(self._instances, job)
            if collated is None:
                self._start_images(batch, job)
            else:
                batch.set_result(collated)
        except BaseException as error:  # any error must reach whoever waits for the batch
            batch.set_exception(error)


class _BatchOfThreads(Future):
    """A batch made by several threads; the thread that loads the last image collates it."""

    def __init__(self, instances: InstanceLookup, job: BatchJob) -> None:
        super().__init__()
        self._instances = instances
        self._loaded: List[Optional[Loaded]] = [None] * len(job)
        self._images: Dict[str, ImageBatch] = {}
        self._missing = len(job)
        self._todo = enumerate(job)
        self._lock = threading.Lock()

    def work(self) -> None:
        """Load images until none is left."""
        try:
            for place, (key, seed) in iter(self._next, None):
                self._loaded[place] = self._moved(place, load(self._instances[key], seed))
                with self._lock:
                    self._missing -= 1
                    is_complete = self._missing == 0
                if is_complete:
                    self.set_result(collate(self._loaded))
        except BaseException as error:  # any error must reach whoever waits for the batch
            self.stop()
            with self._lock:
                if not self.done():
                    self.set_exception(error)

    def _moved(self, place: int, loaded: Loaded) -> Loaded:
        """Return the instance with its images moved into the memory of the whole batch."""
        if isinstance(loaded, Instance):
            for key, field in loaded.items():
                if isinstance(field, ImageField):
                    batch = self._images.setdefault(key, ImageBatch(len(self._loaded)))
                    loaded.fields[key] = field.moved_to(batch, place)
        return loaded

    def stop(self) -> None:
        """Drop the images that no thread has started."""
        with self._lock:
            self._todo = enumerate([])

    def _next(self) -> Optional[Tuple[int, Tuple[Any, int]]]:
        with self._lock:
            return next(self._todo, None)


def _use_one_core(num_threads_of_others: int) -> None:
    """
    Make torch compute in the calling thread only, because each worker has its own image.

    torch gives the number set last, in any thread, to all threads that start computing later.
    Therefore a temporary thread sets it back to the old value.
    """
    torch.get_num_threads()  # now calls in other threads do not change this one
    torch.set_num_threads(1)
    thread = threading.Thread(target=torch.set_num_threads, args=(num_threads_of_others,))
    thread.start()
    thread.join()


class ProcessWorkers:
    """Worker processes of torch that each make whole batches and stay for the next epoch."""

    def __init__(self, instances: InstanceLookup, num_workers: int, prefetch_batches: int) -> None:
        self._jobs = _Jobs()
        self._loader: TorchDataLoader = TorchDataLoader(
            _LoadedInstances(instances),  # type: ignore[arg-type]
            batch_sampler=self._jobs,
            collate_fn=_only,
            num_workers=num_workers,
            persistent_workers=True,
            prefetch_factor=-(-prefetch_batches // num_workers),
            generator=torch.Generator(),  # otherwise it draws from the global one
        )
        # If left to the garbage collector, the queues may go first: torch then waits for each
        # process.
        weakref.finalize(self, _stop, self._loader).atexit = False

    def __call__(self, jobs: Iterable[BatchJob]) -> Iterator[Collated]:
        self._jobs.jobs = mine = iter(jobs)
        try:
            for collated in self._loader:
                yield collated
                if self._jobs.jobs is not mine:
                    raise RuntimeError(
                        "another iteration over this data loader has begun; with worker processes "
                        "there can be only one at a time"
                    )
        finally:
            if self._jobs.jobs is mine:
                self._jobs.jobs = iter(())


class _Jobs:
    """The batch sampler for torch's loader, the same object in each epoch."""

    jobs: Iterator[BatchJob] = iter(())

    def __iter__(self) -> Iterator[BatchJob]:
        return self

    def __next__(self) -> BatchJob:
        return next(self.jobs)


def _only(batches: List[Collated]) -> Collated:
    (batch,) = batches
    return batch


def _stop(loader: TorchDataLoader) -> None:
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]


class _LoadedInstances:
    """The dataset of torch's loader in a worker process."""

    def __init__(self, instances: InstanceLookup) -> None:
        self._instances = instances

    def __getitems__(self, job: BatchJob) -> List[Collated]:
        return [
            kept_at_once(self._instances, job)
            or collate([load(self._instances[key], seed) for key, seed in job])
        ]

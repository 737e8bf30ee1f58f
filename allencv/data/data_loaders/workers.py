"""
Make the batches of the "image" data loader in the main thread or in other threads. Each class of
workers takes the jobs of an epoch and yields their batches in order.
"""

import itertools
import threading
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
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

from allencv.common.memory import reused_memory
from allencv.common.turns import Turns
from allencv.data.data_loaders.kept_batches import kept_batch
from allencv.data.data_loaders.memory_cache import CachedInstances
from allencv.data.data_loaders.pinned_batches import pinned, pinned_memory
from allencv.data.data_loaders.seeds import DrawSeed
from allencv.data.fields import ImageBatch, ImageField
from allencv.data.fields.image_field import Empty
from allencv.data.transforms import random_source
from allencv.data.transforms.image_turn import image_turn
from allencv.runtime import ImageError
from allencv.runtime.cpu_count import cpu_count

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


class BatchInMaking:
    """
    Loads the images of one batch, in any order and in any thread, each into the memory of the
    batch.

    # Parameters

    instances : `InstanceLookup`, required
    job : `BatchJob`, required
    empty : `Empty`, optional
        Makes the memory: see `ImageBatch`.
    """

    def __init__(
        self, instances: InstanceLookup, job: BatchJob, empty: Empty = reused_memory
    ) -> None:
        self._instances = instances
        self._job = job
        self._empty = empty
        self._loaded: List[Optional[Loaded]] = [None] * len(job)
        self._images: Dict[str, ImageBatch] = {}

    def load(self, place: int) -> None:
        """Load the image at a place of the job."""
        key, seed = self._job[place]
        loaded = load(self._instances[key], seed)
        if isinstance(loaded, Instance):
            for name, field in loaded.items():
                if isinstance(field, ImageField):
                    batch = self._images.get(name)
                    if batch is None:  # and if another thread makes one now, its is used
                        new = ImageBatch(len(self._job), self._empty)
                        batch = self._images.setdefault(name, new)
                    loaded.fields[name] = field.moved_to(batch, place)
        self._loaded[place] = loaded

    def collated(self) -> Collated:
        """Return the batch, once all its images are loaded."""
        return collate(self._loaded)


def make_batch(instances: InstanceLookup, job: BatchJob, empty: Empty = reused_memory) -> Collated:
    """Make a batch in this thread."""
    kept = kept_at_once(instances, job)
    if kept is not None:
        return kept
    batch = BatchInMaking(instances, job, empty)
    for place in range(len(job)):
        batch.load(place)
    return batch.collated()


class NoWorkers:
    """Makes each batch when it is requested, in the calling thread, without other threads."""

    def __init__(self, instances: InstanceLookup) -> None:
        self._instances = instances

    def __call__(self, jobs: Iterable[BatchJob]) -> Iterator[Collated]:
        for job in jobs:
            with _one_core():
                collated = make_batch(self._instances, job)
            yield collated
            del collated  # its memory serves the next batch


class Begun(Protocol):
    """A batch that workers make."""

    def result(self) -> Collated:
        """Wait for the batch, and return it. Raise the error that came instead."""

    def stop(self) -> None:
        """Make no more of it than what has begun: nobody wants it."""


class WorkersAhead(ABC):
    """
    Workers that make batches before they are requested.

    # Parameters

    ahead : `int`, required
        The number of batches that are made or wait.

    Subclasses take `pin`: whether to put batches into pinned memory, for a GPU.
    """

    def __init__(self, ahead: int) -> None:
        self._ahead = ahead

    @abstractmethod
    def start(self, job: BatchJob) -> Begun:
        """Let the workers make a batch, after those that were started before."""

    def __call__(self, jobs: Iterable[BatchJob]) -> Iterator[Collated]:
        batches = map(self.start, jobs)
        # Not in the generator, so that work starts now and not with the first batch.
        waiting = deque(itertools.islice(batches, self._ahead))
        return self._finished(waiting, batches)

    def _finished(self, waiting: Deque[Begun], batches: Iterator[Begun]) -> Iterator[Collated]:
        try:
            while waiting:
                collated = waiting[0].result()
                waiting.popleft()
                waiting.extend(itertools.islice(batches, 1))
                yield collated
                del collated  # its memory serves the next batch
        finally:
            for batch in waiting:
                batch.stop()


class ThreadWorkers(WorkersAhead):
    """
    Threads that work together on one batch, image by image, then on the next. At most as many work
    at once as there are cores; more of them help where reading files takes long.
    """

    def __init__(
        self, instances: InstanceLookup, num_workers: int, prefetch_batches: int, pin: bool = False
    ) -> None:
        super().__init__(prefetch_batches)
        self._instances = instances
        self._pin = pin
        self._num_workers = num_workers
        cores = cpu_count()
        self._turns = Turns(cores) if num_workers > cores else None
        self._executor = ThreadPoolExecutor(
            num_workers, "image-loader", _use_one_core, (torch.get_num_threads(),)
        )

    def start(self, job: BatchJob) -> Begun:
        batch = _BatchOfThreads(self._instances, job, self._turns, self._pin)
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
        if batch.is_stopped:
            return
        try:
            with nullcontext() if self._turns is None else self._turns.turn():
                collated = kept_at_once(self._instances, job)
            if collated is None:
                self._start_images(batch, job)
            else:
                batch.finish(collated)
        except BaseException as error:  # any error must reach whoever waits for the batch
            batch.fail(error)


class _BatchOfThreads(Future):
    """A batch made by several threads; the thread that loads the last image collates it."""

    def __init__(
        self, instances: InstanceLookup, job: BatchJob, turns: Optional[Turns], pin: bool
    ) -> None:
        super().__init__()
        self._turns = turns
        self._batch = BatchInMaking(instances, job, pinned_memory if pin else reused_memory)
        self._pin = pin
        self._missing = len(job)
        self._todo = iter(range(len(job)))
        self.is_stopped = False
        self._lock = threading.Lock()

    def work(self) -> None:
        """Load images until none is left."""
        try:
            for place in iter(self._next, None):
                with nullcontext() if self._turns is None else self._turns.turn():
                    self._batch.load(place)
                with self._lock:
                    self._missing -= 1
                    is_complete = self._missing == 0
                if is_complete:
                    self.finish(self._batch.collated())
        except BaseException as error:  # any error must reach whoever waits for the batch
            self.fail(error)

    def finish(self, collated: Collated) -> None:
        batch = pinned(collated.batch) if self._pin else collated.batch
        self.set_result(collated._replace(batch=batch))

    def fail(self, error: BaseException) -> None:
        self.stop()
        with self._lock:
            if not self.done():
                self.set_exception(error)

    def stop(self) -> None:
        """Drop the images that no thread has started."""
        with self._lock:
            self.is_stopped = True
            self._todo = iter(())

    def _next(self) -> Optional[int]:
        with self._lock:
            return next(self._todo, None)


@contextmanager
def _one_core() -> Iterator[None]:
    """
    Make torch compute in this thread only. The tensors of images are so small that its threads
    would mostly wait for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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

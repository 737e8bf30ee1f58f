import itertools
import logging
import multiprocessing
import os
from collections import deque
from contextlib import contextmanager
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
)

import torch
import torch.distributed as dist
from allennlp.common import util
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, DatasetReader, Instance, TensorDict, Vocabulary
from allennlp.nn import util as nn_util

from allencv.common.available_memory import RUNS_AT_ONCE
from allencv.common.checks import CheckedFromParams
from allencv.common.label_text import shown
from allencv.common.nearest_names import not_one_of
from allencv.common.short_repr import short_repr
from allencv.data.class_weightings import ClassWeighting
from allencv.data.data_loaders.batch_plan import BatchPlan
from allencv.data.data_loaders.cache_memory import RanksMemory, memory_of_ranks
from allencv.data.data_loaders.device_copies import CopyStream
from allencv.data.data_loaders.kept_features import KeptFeatures, OnlyImages, OpenStore
from allencv.data.data_loaders.listed_images import ListedImages
from allencv.data.data_loaders.memory_cache import CachedInstances, check_cache
from allencv.data.data_loaders.process_workers import (
    ProcessWorkers,
    WorkerEnded,
    may_fork,
)
from allencv.data.data_loaders.seeds import draw_seed
from allencv.data.data_loaders.streamed_images import ReadAhead, StreamedImages
from allencv.data.data_loaders.workers import (
    BatchJob,
    Collated,
    InstanceLookup,
    NoWorkers,
    ThreadWorkers,
    Workers,
)
from allencv.runtime import ImageError
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.plurals import numbered

logger = logging.getLogger(__name__)

T = TypeVar("T")

Made = Tuple[BatchJob, Collated]
"""The job of a batch, and its result."""

WORKERS = ("auto", "thread", "process")
MANY_IMAGES = 2000
"""From this number of images in an epoch on, "auto" takes processes, which need time to start."""
MAX_DEFAULT_WORKERS = 16
ON_ERROR = ("raise", "skip")


@DataLoader.register("image")
class ImageDataLoader(CheckedFromParams, DataLoader):
    """
    Makes batches of images. Workers decode and transform the images anew each epoch, while the
    model computes. Nothing decoded is kept, unless `cache` says so; at most `prefetch_batches`
    batches wait to be used.

    The order of the images and the draws of random transforms depend only on the seed and the
    epoch. They do not depend on the number of workers, on threads or processes, or on
    interruptions. In distributed training each rank takes a slice of each batch of one process with
    as many times the batch size. All ranks have the same number of batches, and every image is used
    exactly once (see `BatchPlan`).

    A last batch of one image is joined to the batch before it, unless `drop_last` drops it or
    `batch_size` is 1: batch normalisation cannot train on one image whose features are 1 x 1
    pixels. In distributed training a last batch with less than two images per rank is joined.

    To validate, evaluate and save predictions, every image is used once and in order, whatever
    `shuffle`, `drop_last`, `repeats` and `class_weighting` say. The ranks of distributed training
    then take turns with the batches of one process, so that the results are the same.

    With a reader that streams, shards are read one by one and not listed first. Then the order
    depends on `shuffle_buffer`, and the loader has a `len()` only in one process and with an index
    (`allencv pack`).

    Registered as a `DataLoader` with name "image".

    # Example

    ```jsonnet
    { type: "image", batch_size: 64, shuffle: true }
    ```

    # Parameters

    reader : `DatasetReader`, required
        Any reader whose instances hold an `ImageField`. (In a config: the `dataset_reader`.)
    data_path : `Any`, required
        What the reader reads. (In a config: `train_data_path` etc.)
    batch_size : `int`, optional (default = `32`)
        The number of images in a batch; the last of an epoch may have fewer, or one more.
    shuffle : `bool`, optional (default = `False`)
        Whether to use a new random order in each epoch.
    class_weighting : `ClassWeighting`, optional (default = `None`)
        Draw the images of an epoch at random, with replacement, rare classes more often: "balanced"
        draws all classes equally often. Needs `shuffle` and one label per image.
    repeats : `int`, optional (default = `1`)
        How many times in a row an image is used, transformed anew each time: "repeated
        augmentation" (Hoffer et al. 2020, arXiv:1901.09335). The number of images in an epoch stays
        the same, so an epoch uses one `repeats`-th of the data. Needs `shuffle`.
    drop_last : `bool`, optional (default = `False`)
        Whether to drop the last batch of an epoch if it is smaller than the others.
    num_workers : `int`, optional (default = `None`)
        The number of workers that decode. 0 decodes in the main thread. `None` uses one per core
        that this process may use, at most 16, shared among the ranks of this machine.
    worker : `str`, optional (default = `"auto"`)
        "thread", "process", or "auto": processes for 2,000 images or more, and for shards whose
        number of images is unknown, without `cache`, if there are two workers or more and Python
        forks processes, as on Linux, but no more than two per core; threads otherwise. Also threads
        for other streams, and if a reader of your own gives functions as images: these may use a
        file that processes cannot share. Threads start at once but share Python's lock, which
        limits them for small images and for transforms in pure Python.
    prefetch_batches : `int`, optional (default = `3`)
        How many batches are prepared ahead of the one in use. Each worker process makes one more.
    shuffle_buffer : `int`, optional (default = `1000`)
        For streaming readers: each image is drawn from a buffer of this size, and shards are read
        in random order. The buffer holds the bytes of the files, except of tar files on this
        machine.
    on_error : `str`, optional (default = `"raise"`)
        What to do if an image cannot be read or transformed. "raise" stops with its path. "skip"
        drops the image from its batch, logs it, and counts it in `images_skipped`. A batch without
        images is dropped. When shuffling, the only image left in a batch joins the next batch; if
        there is none, it is dropped, logged and counted, unless it is the only image of the epoch.
        In distributed training the only image left in a rank's batch is dropped. An epoch without a
        readable image is an error.
    seed : `int`, optional (default = `None`)
        `None` uses torch's seed, which is the config's `pytorch_seed`.
    cache : `str`, optional (default = `None`)
        "memory" keeps each image in memory once it is decoded, and transformed by the reader's
        transforms before the first that draws random numbers. Later epochs only apply the others.
        The batches stay the same bit for bit. Images are decoded in full: `dct_scaling` has no
        effect. "device" also keeps a copy on the GPU of the model, and makes the batches there,
        with the same draws, for transforms that work on whole batches: "random_crop",
        "random_resized_crop", the flips, "color_jitter", "random_erasing", "cutout" and
        "normalize". Other transforms get the images back. There, rounding may change pixels by 1
        of 255. Without a GPU of NVIDIA it is "memory". Not for streaming readers. In distributed
        training all ranks must make the loader, because they share the images.
    max_cache_gb : `float`, optional (default = `None`)
        The most memory for the cache, in units of 1,000,000,000 bytes. `None` allows half of the
        memory that is available at the first batch, divided among the runs of `allencv sweep
        --parallel`. On Linux the ranks of a machine share one cache; elsewhere each has its own,
        and they divide the available memory. A cache that needs more is an error.
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
        worker: str = "auto",
        prefetch_batches: int = 3,
        shuffle_buffer: int = 1000,
        on_error: str = "raise",
        seed: Optional[int] = None,
        cache: Optional[str] = None,
        max_cache_gb: Optional[float] = None,
    ) -> None:
        for key, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", 0 if num_workers is None else num_workers, 0),
            ("prefetch_batches", prefetch_batches, 1),
            ("shuffle_buffer", shuffle_buffer, 1),
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
        check_cache(cache, max_cache_gb, worker)
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
        self.cache = cache
        self.max_cache_gb = max_cache_gb
        self.images_skipped = 0
        self._device: Optional[torch.device] = None
        self._place = (0, 0)  # the epoch and the batch at which the next iteration starts
        self.batches_left_out = 0
        """
        The number of batches of this epoch that had too few readable images. Set it to resume in
        the middle of an epoch.
        """
        self.another_epoch_follows = False
        self.keeps_pace = False
        """Whether to yield `{}` for a batch without images, because other ranks count on it."""
        self.for_evaluation = False
        """Whether an epoch has each image once and in order: see `LoaderForEvaluation`."""
        self.has_read = False
        """Whether an image of the epoch could be read."""
        self.unreadable: Optional[str] = None
        """What to say if no image of the epoch can be read; `None` if none was unreadable."""
        self._prefetched: Optional[Tuple[Tuple[int, int], Iterator[Made]]] = None
        self._workers: Optional[Workers] = None
        self._process = os.getpid()
        self._features: Optional[KeptFeatures] = None
        self._rank = dist.get_rank() if util.is_distributed() else 0
        self._world_size = dist.get_world_size() if util.is_distributed() else 1
        self.images = self._find_images(class_weighting, shuffle_buffer)
        self._is_indexed = False
        self._cached: Optional[CachedInstances] = None
        self._memory: Optional[RanksMemory] = None
        if cache is not None and self._world_size > 1:
            self._memory = memory_of_ranks()

    def __repr__(self) -> str:
        return short_repr(self)

    def __getstate__(self) -> Dict[str, Any]:
        """
        Return what a copy has: it starts workers of its own, decodes images again, and yields
        images, also if this loader yields features.
        """
        own = dict.fromkeys(("_workers", "_prefetched", "_cached", "_memory", "_features"))
        return {**self.__dict__, **own}

    def __len__(self) -> int:
        """Return the number of batches per epoch. Raises `TypeError` if it is unknown."""
        size = self.images.num_images
        if size is None:
            raise TypeError(f"the number of images in {self.data_path} is unknown when streaming")
        if self.for_evaluation:
            batches = len(BatchPlan(size, self.batch_size))
            return len(range(self._rank, batches, self._world_size))
        return len(self._plan(size))

    def keep_pace(self) -> None:
        """
        From now on, yield `{}` for a batch without images, because other ranks count on it.

        # Raises

        `ConfigurationError` for fewer images than ranks.
        """
        self.keeps_pace = True
        if isinstance(self.images, ListedImages) and len(self.images) < self._world_size:
            raise ConfigurationError(
                f"{self.data_path} has {numbered(len(self.images), 'image')}, but distributed "
                f"training has {self._world_size} ranks; expected as many images or more, or fewer "
                "distributed.cuda_devices (with torchrun: processes)"
            )

    def count_images(self, batch: int) -> Optional[int]:
        """
        Return the number of images of a batch on all ranks together, or `None` if it is known only
        when they are read.
        """
        if not isinstance(self.images, ListedImages) or self.on_error == "skip":
            return None
        start, stop = self._plan(len(self.images)).bounds(batch)
        return stop - start

    def __iter__(self) -> Iterator[TensorDict]:
        if not self._is_indexed:
            raise ConfigurationError(
                f"the data loader of {self.data_path} has no vocabulary; call index_with(vocab)"
            )
        if self._process != os.getpid():  # forked: the parent has the workers
            self._process = os.getpid()
            self._workers = self._prefetched = self._cached = self._memory = None
        place, prefetched = self._place, self._prefetched
        self._place, self._prefetched = (place[0] + 1, 0), None
        is_whole = place[1] == 0
        self.batches_left_out = 0 if is_whole else self.batches_left_out
        self.has_read, self.unreadable = False, None
        if prefetched is not None and prefetched[0] == place and not self.for_evaluation:
            return self._delivered(prefetched[1], is_whole)
        return self._delivered(self._begin(place), is_whole)

    def prefetch(self) -> None:
        """
        Let workers start on the first batches of the next iteration. If
        `another_epoch_follows` is true, this happens without a call, once an epoch leaves them
        no work.
        """
        if self._prefetched is None:
            self._prefetched = (self._place, iter(()))  # a short epoch may call this again
            try:
                self._prefetched = (self._place, self._begin(self._place))
            except BaseException:
                self._prefetched = None  # else the next epoch would have no batch
                raise

    def seek(self, epoch: int, batch: int = 0) -> None:
        """
        Start the next iteration at the given epoch and batch, counting batches left out. Decodes
        nothing.
        """
        self._place = (epoch, batch)

    def keep_features(
        self,
        encode: Callable[[torch.Tensor], torch.Tensor],
        open_store: OpenStore,
        views: int = 1,
    ) -> None:
        """
        From now on, yield batches with `features` in place of `image`. The features of all images
        are computed once and kept.

        # Parameters

        encode : `Callable[[torch.Tensor], torch.Tensor]`
            Computes the features of a batch of images.
        open_store : `Callable[[Tuple[int, ...], int], FeatureStore]`
            Opens the store for a number of features of a shape.
        views : `int`, optional (default = `1`)
            Epoch `e` has the images that epoch `e % views` would have, in the order of epoch `e`.

        # Raises

        `ConfigurationError` if the images are streamed or repeated.
        """
        if not isinstance(self.images, ListedImages):
            raise ConfigurationError(
                "trainer.frozen_features is set, but the images are streamed; expected "
                '"streaming": false in the dataset_reader, as it needs a list of all images'
            )
        if self.repeats > 1:
            raise ConfigurationError(
                f"trainer.frozen_features is set, but data_loader.repeats is {self.repeats}; "
                "expected 1, as an epoch then has every image"
            )
        self._prefetched = None
        self._features = KeptFeatures(
            self.images,
            self.seed,
            str(self.data_path),
            self._make_workers(OnlyImages(self._cached_instances())),
            self._device,
            lambda collated: None if self.on_error == "skip" else self._report(collated),
            encode,
            open_store,
            views,
        )

    def prepare_features(self, epoch: int) -> None:
        """Compute the features of an epoch that are not kept yet."""
        if self._features is not None:
            self._features.prepare(epoch)

    def feature_fields(self) -> TensorDict:
        """Return the other fields of all images, such as their labels, after `keep_features`."""
        return self._kept_features().fields

    def some_features(self, images: Sequence[int]) -> TensorDict:
        """
        Return one batch of the features of some images, without those that cannot be read, after
        `keep_features`. Random transforms draw as in the first epoch.
        """
        return self._kept_features().some(images)

    def num_computed_features(self) -> int:
        """Return how many features were computed since `keep_features`: the others were kept."""
        return self._kept_features().computed

    def _kept_features(self) -> KeptFeatures:
        if self._features is None:
            raise RuntimeError("no features are kept; call keep_features first")
        return self._features

    def release_features(self) -> None:
        """From now on, yield batches with images again."""
        self._features = self._prefetched = None

    def iter_instances(self) -> Iterator[Instance]:
        yield from self.images.iter_instances()

    def index_with(self, vocab: Vocabulary) -> None:
        self.images.index_with(vocab)
        self._is_indexed = True
        self._workers = self._prefetched = None  # processes have a copy of what was before

    def identity(self) -> Dict[str, object]:
        """
        Return the number of images, the labels, and a hash of the list of both; of a stream the
        number of shards, and their names and sizes if the reader tells.
        """
        return self.images.identity()

    def labels(self) -> Dict[str, int]:
        """
        Return the number of images with each label. For a stream without an index it is empty until
        `iter_instances` has run to the end, as it does to make a vocabulary.
        """
        return self.images.labels()

    def _find_images(
        self, class_weighting: Optional[ClassWeighting], shuffle_buffer: int
    ) -> Union[ListedImages, StreamedImages]:
        streams = getattr(self.reader, "streaming", False)
        if streams is None:  # the reader decides by the data
            streams = self.reader.streams(self.data_path)
        if not streams:
            listing = (self.shuffle, class_weighting, self.repeats, self.seed)
            return ListedImages(self.reader, self.data_path, *listing)
        for key, is_set in (
            ("class_weighting", class_weighting is not None),
            ("repeats", self.repeats > 1),
            ("cache", self.cache is not None),
        ):
            if is_set:
                raise ConfigurationError(
                    f"data_loader.{key} is set, but the images are streamed; expected "
                    '"streaming": false in the dataset_reader, as it needs a list of all images'
                )
        share = (self.seed, self._rank, self._world_size)
        return StreamedImages(self.reader, self.data_path, self.shuffle, shuffle_buffer, *share)

    def _plan(self, size: int) -> BatchPlan:
        """Return how `size` images become the batches of all ranks."""
        plan = BatchPlan(size, self.batch_size, self._world_size, self.drop_last)
        if len(plan) == 0:
            ranks = f" for {self._world_size} ranks" if self._world_size > 1 else ""
            raise ConfigurationError(
                f"data_loader.batch_size is {self.batch_size}, but {self.data_path} has only "
                f"{size} images{ranks}; with drop_last no batch would be left"
            )
        return plan

    def set_target_device(self, device: torch.device) -> None:
        self._device = device

    def _jobs(self, epoch: int, start: int) -> Iterator[BatchJob]:
        """Yield this rank's batch jobs of an epoch, from batch `start` on."""
        seed = self.seed
        if self.for_evaluation:
            all_batches = in_batches(self.images.in_order(), self.batch_size, drop_last=False)
            for each in itertools.islice(all_batches, self._rank, None, self._world_size):
                yield [(image, draw_seed(seed, epoch, place, image)) for place, image in each]
            return
        if isinstance(self.images, StreamedImages):
            images = self.images.epoch(epoch, start * self.batch_size)
            is_empty = start == 0
            for batch in in_batches(images, self.batch_size, self.drop_last, is_first=start == 0):
                is_empty = False
                yield [(image, draw_seed(seed, epoch, place, image)) for image, place in batch]
            if is_empty and self._world_size > 1:
                logger.warning(
                    "Rank %d has no batch in epoch %d: it has fewer images of %s than "
                    "data_loader.batch_size, which is %d, and data_loader.drop_last drops them; "
                    "use shards of equal size, or set drop_last to false",
                    *(self._rank, epoch + 1, self.data_path, self.batch_size),
                )
            return
        plan, order = self._plan(len(self.images)), self.images.order(epoch)
        for number in range(start, len(plan)):
            share = plan.share(number, self._rank)
            if share:  # AllenNLP's trainer may validate fewer images than ranks
                placed = [(int(order[place]), place) for place in share]
                yield [(image, draw_seed(seed, epoch, place, image)) for image, place in placed]
        if self.another_epoch_follows:
            self.prefetch()

    def _begin(self, place: Tuple[int, int]) -> Iterator[Made]:
        if self._features is not None:
            return _with_jobs(self._features, self._jobs(*place))
        if self._workers is None:
            self._workers = self._make_workers(self._cached_instances())
        if isinstance(self.images, ListedImages):
            with self._replacing_workers():
                return _with_jobs(self._workers, self._jobs(*place))
        return self._stream(place, self._workers)

    @contextmanager
    def _replacing_workers(self) -> Iterator[None]:
        """Start new workers with the next iteration, if one ends inside."""
        try:
            yield
        except WorkerEnded:
            self._workers = self._prefetched = None
            raise

    def _cached_instances(self) -> InstanceLookup:
        if self.cache is None or not isinstance(self.images, ListedImages):
            return self.images.instances
        if self._cached is None:
            processes = int(os.environ.get(RUNS_AT_ONCE, "1"))
            if self._memory is None:
                processes *= _ranks_of_this_machine()
            device = self._device if self.cache == "device" and self._on_gpu() else None
            self._cached = CachedInstances(
                self.images.instances, self.max_cache_gb, processes, device, self._memory
            )
        return self._cached

    def _make_workers(self, instances: InstanceLookup) -> Workers:
        if not self.num_workers:
            return NoWorkers(instances)
        kind: Type[Union[ThreadWorkers, ProcessWorkers]] = ThreadWorkers
        number = self.num_workers
        if self._uses_processes():
            kind = ProcessWorkers
            if self.worker == "auto":  # more of them than cores make it slower
                number = min(number, 2 * cpu_count())
        return kind(instances, number, self.prefetch_batches, self._on_gpu())

    def _uses_processes(self) -> bool:
        """
        Return whether workers are processes. For "auto" this does not depend on measurements, and
        so stays the same in each run; batches are the same in any case.
        """
        if self.worker == "process" and multiprocessing.current_process().daemon:
            raise ConfigurationError(
                'data_loader.worker is "process", but a daemon process can have no processes of '
                'its own; expected "worker": "thread"'
            )
        if self.worker != "auto":
            return self.worker == "process"
        size = self.images.num_images
        if size is not None and size < MANY_IMAGES:
            return False
        is_decoded = self.cache is not None
        can_fork = may_fork() and self.images.survive_a_fork()
        return not is_decoded and self.num_workers > 1 and can_fork

    def _on_gpu(self) -> bool:
        return self._device is not None and self._device.type == "cuda"

    def _stream(self, place: Tuple[int, int], workers: Workers) -> Iterator[Made]:
        """Yield the batches of an epoch of unknown length."""
        if isinstance(workers, ProcessWorkers):
            workers.start_processes()  # forked before a thread reads
        jobs = ReadAhead(self._jobs(*place), self.prefetch_batches)
        try:
            yield from _with_jobs(workers, jobs)
        finally:
            jobs.stop()

    def _delivered(self, batches: Iterator[Made], is_whole: bool) -> Iterator[TensorDict]:
        """Yield the batches of an epoch, or of its rest unless it `is_whole`."""
        if self._device is not None and self._on_gpu():
            batches = _copied(batches, CopyStream(self._device))
        usable = (
            self._as_many(batches)
            if self.keeps_pace or self.for_evaluation
            else self._usable(batches, is_whole)
        )
        with self._replacing_workers():
            for batch in usable:
                yield batch if self._device is None else nn_util.move_to_device(batch, self._device)

    def _usable(self, batches: Iterator[Made], is_whole: bool) -> Iterator[TensorDict]:
        """
        Drop batches without images. When shuffling, the only image left in a batch joins the next
        batch before anything else is delivered, so that recovery finds the same batches.
        """
        alone: Optional[Made] = None
        is_empty = is_whole
        for job, collated in batches:
            self._report(collated)
            if alone is not None and collated.places:
                job = alone[0] + [job[place] for place in collated.places]
                workers = self._features or NoWorkers(self.images.instances)
                (collated,) = workers(iter([job]))
                self._report(collated)
                alone = None
            if self._is_alone(collated):
                alone = [job[collated.places[0]]], collated
            elif collated.places:
                is_empty = False
                yield collated.batch
                continue
            self.batches_left_out += 1
        if alone is not None and is_empty:
            self.batches_left_out -= 1
            yield alone[1].batch
        elif alone is not None:
            self._leave_out(alone[1])
        elif is_empty and self.unreadable is not None:
            raise ImageError(self.unreadable)

    def _as_many(self, batches: Iterator[Made]) -> Iterator[TensorDict]:
        """Yield one batch per batch made, `{}` for one that cannot be used."""
        for _, collated in batches:
            self._report(collated)
            is_alone = self._is_alone(collated)
            if is_alone:
                self._leave_out(collated)
            yield {} if is_alone else collated.batch

    def _report(self, collated: Collated) -> None:
        """Raise, or log and count, the errors, as `on_error` says."""
        if collated.errors and self.on_error == "raise":
            raise ImageError(
                f'{collated.errors[0]} (in {self.data_path}; "on_error": "skip" in the data '
                "loader leaves such images out)"
            )
        for error in collated.errors:
            logger.warning("Left out: %s", shown(error))
        self.images_skipped += len(collated.errors)
        self.has_read |= bool(collated.places)
        if self.unreadable is None and collated.errors:
            first = collated.errors[0]
            self.unreadable = f"no image of {self.data_path} can be read; the first: {first}"

    def _is_alone(self, collated: Collated) -> bool:
        """Return whether only one image is left in a batch for training."""
        is_single = len(collated.places) == 1 < self.batch_size
        is_training = self.shuffle and not self.for_evaluation
        return is_single and is_training and bool(collated.errors)

    def _leave_out(self, alone: Collated) -> None:
        """Log and count a good image that is alone in its batch."""
        metadata = alone.batch.get("metadata", ["one image"])
        logger.warning("Left out this time, because it is alone in its batch: %s", metadata[0])
        self.images_skipped += 1


def _with_jobs(workers: Workers, jobs: Iterable[BatchJob]) -> Iterator[Made]:
    """Yield the batches that workers make, each with its job."""
    begun: Deque[BatchJob] = deque()

    def noted() -> Iterator[BatchJob]:
        for job in jobs:
            begun.append(job)
            yield job

    # Call the workers now, not when the first batch is requested: threads start at once.
    return ((begun.popleft(), collated) for collated in workers(noted()))


def _copied(batches: Iterator[Made], stream: CopyStream) -> Iterator[Made]:
    """Yield batches on a GPU, copied one ahead."""
    made = (((job, collated), collated.batch) for job, collated in batches)
    for (job, collated), batch in stream.one_ahead(made):
        yield job, collated._replace(batch=batch)


def in_batches(
    items: Iterator[T], size: int, drop_last: bool, is_first: bool = True
) -> Iterator[List[T]]:
    """
    Divide items into batches. Unless `drop_last`, a single last item joins the batch before it. A
    single item alone is a batch if `is_first`, and is dropped otherwise.
    """
    batch = list(itertools.islice(items, size))
    joins = size > 1 and not drop_last
    if joins and len(batch) == 1 and not is_first:
        return
    while batch:
        following = list(itertools.islice(items, 2)) if joins else []
        if len(following) == 1:
            batch, following = batch + following, []
        if len(batch) >= size or not drop_last:
            yield batch
        batch = following + list(itertools.islice(items, size - len(following)))


def _default_workers() -> int:
    return max(1, min(MAX_DEFAULT_WORKERS, cpu_count() // _ranks_of_this_machine()))


def _ranks_of_this_machine() -> int:
    # AllenNLP sets the first, torch's launchers the second.
    names = ("ALLENNLP_PROCS_PER_NODE", "LOCAL_WORLD_SIZE")
    given = [os.environ[name] for name in names if name in os.environ] or ["1"]
    return int(given[0]) if util.is_distributed() else 1

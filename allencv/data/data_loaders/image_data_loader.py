import itertools
import logging
import os
from collections import deque
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

import torch
import torch.distributed as dist
from allennlp.common import util
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, DatasetReader, Instance, TensorDict, Vocabulary
from allennlp.nn import util as nn_util

from allencv.common.checks import CheckedFromParams, not_one_of
from allencv.common.label_text import shown
from allencv.common.short_repr import short_repr
from allencv.data.class_weightings import ClassWeighting
from allencv.data.data_loaders.listed_images import ListedImages
from allencv.data.data_loaders.seeds import mix
from allencv.data.data_loaders.streamed_images import ReadAhead, StreamedImages
from allencv.data.data_loaders.workers import (
    BatchJob,
    Collated,
    NoWorkers,
    ProcessWorkers,
    ThreadWorkers,
    Workers,
    collate,
    load,
)
from allencv.runtime import ImageError
from allencv.runtime.cpu_count import cpu_count

logger = logging.getLogger(__name__)

T = TypeVar("T")

Made = Tuple[BatchJob, Collated]
"""What there was to do for a batch, and what became of it."""

WORKERS: Dict[str, Callable[..., Workers]] = {"thread": ThreadWorkers, "process": ProcessWorkers}
ON_ERROR = ("raise", "skip")


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

    A last batch of a single image is joined to the batch before it, unless `drop_last` leaves it
    out or `batch_size` is 1: batch normalisation cannot train on one image where its features are
    1 x 1 pixels.

    A reader whose `streaming` is true is read along, shard by shard, instead of listed first: then
    there is no `len()` of the loader, and the order depends on `shuffle_buffer`.

    Registered as a `DataLoader` with name "image".

    # Example

    ```jsonnet
    { type: "image", batch_size: 64, shuffle: true }
    ```

    # Parameters

    reader : `DatasetReader`, required
        Any reader whose instances hold an `ImageField`. (In a config: the `dataset_reader`.)
    data_path : `Any`, required
        What the reader is to read. (In a config: `train_data_path` and its like.)
    batch_size : `int`, optional (default = `32`)
        How many images a batch has; the last one of an epoch may have fewer, or one more.
    shuffle : `bool`, optional (default = `False`)
        Whether to take the images in random order, another one in each epoch.
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
    shuffle_buffer : `int`, optional (default = `1000`)
        For readers that stream: each image is drawn from so many that have been read and are
        waiting, besides that the shards are in random order. They cost the memory of their files,
        unless these are in tar files on this machine.
    on_error : `str`, optional (default = `"raise"`)
        What to do about an image that cannot be read or transformed: "raise" stops with its path;
        "skip" leaves it out of its batch, logs it, and counts it in `images_skipped`. A batch of
        which no image is left is left out. When shuffling, a single image that is left of a batch
        joins the next batch; if there is none, it is left out too, logged and counted, unless it is
        the only image of the epoch. In distributed training such a single image is left out, and
        the batch before (or after) is used again, as all ranks need the same number of batches. An
        epoch of which no image can be read is an error.
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
        shuffle_buffer: int = 1000,
        on_error: str = "raise",
        seed: Optional[int] = None,
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
        self._device: Optional[torch.device] = None
        self._place = (0, 0)  # the epoch and the batch that the next iteration begins with
        self.batches_left_out = 0
        """
        Of the epoch so far, how many batches had too few images that could be read. To go on in the
        middle of an epoch, set it to what it was.
        """
        self.another_epoch_follows = False
        self._prefetched: Optional[Tuple[Tuple[int, int], Iterator[Made]]] = None
        self._workers: Optional[Workers] = None
        self.images = self._find_images(class_weighting, shuffle_buffer)
        self._is_indexed = False
        if isinstance(self.images, ListedImages) and drop_last and len(self) == 0:
            raise ConfigurationError(
                f"data_loader.batch_size is {batch_size}, of which the {len(self.images)} "
                f"images of {data_path} do not fill one; with drop_last none would be left"
            )

    def __repr__(self) -> str:
        return short_repr(self)

    def __len__(self) -> int:
        """The batches of an epoch. Raises `TypeError` if the reader streams: nobody knows."""
        if not isinstance(self.images, ListedImages):
            raise TypeError(f"how many images {self.data_path} holds is not known when streaming")
        whole, rest = divmod(len(self.images), self.batch_size)
        is_joined = rest == 1 and whole > 0
        return whole if self.drop_last or rest == 0 or is_joined else whole + 1

    def __iter__(self) -> Iterator[TensorDict]:
        if not self._is_indexed:
            raise ConfigurationError(
                f"the data loader of {self.data_path} has no vocabulary; call index_with(vocab)"
            )
        place, prefetched = self._place, self._prefetched
        self._place, self._prefetched = (place[0] + 1, 0), None
        is_whole = place[1] == 0
        self.batches_left_out = 0 if is_whole else self.batches_left_out
        if prefetched is not None and prefetched[0] == place:
            return self._delivered(prefetched[1], is_whole)
        return self._delivered(self._begin(place), is_whole)

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
        """
        Makes the next iteration the given epoch, from the given batch on, where those count that
        were left out. Decodes nothing.
        """
        self._place = (epoch, batch)

    def iter_instances(self) -> Iterator[Instance]:
        yield from self.images.iter_instances()

    def index_with(self, vocab: Vocabulary) -> None:
        self.images.index_with(vocab)
        self._is_indexed = True

    def labels(self) -> Dict[str, int]:
        """
        The labels of the images, and how many images have each. Of a stream they are known once
        `iter_instances` has gone through it, as it does to make a vocabulary; until then this is
        empty.
        """
        return self.images.labels()

    def _find_images(
        self, class_weighting: Optional[ClassWeighting], shuffle_buffer: int
    ) -> Union[ListedImages, StreamedImages]:
        rank = dist.get_rank() if util.is_distributed() else 0
        world_size = dist.get_world_size() if util.is_distributed() else 1
        share = (self.seed, rank, world_size)
        if not getattr(self.reader, "streaming", False):
            listing = (self.shuffle, class_weighting, self.repeats)
            return ListedImages(self.reader, self.data_path, *listing, *share)
        for key, is_set in (
            ("class_weighting", class_weighting is not None),
            ("repeats", self.repeats > 1),
        ):
            if is_set:
                raise ConfigurationError(
                    f"data_loader.{key} is set, but dataset_reader.streaming is true; expected "
                    '"streaming": false, as it needs a list of all images'
                )
        return StreamedImages(self.reader, self.data_path, self.shuffle, shuffle_buffer, *share)

    def set_target_device(self, device: torch.device) -> None:
        self._device = device

    def _jobs(self, epoch: int, start: int) -> Iterator[BatchJob]:
        """What there is to do for the batches of this rank in an epoch, from batch `start` on."""
        images = self.images.epoch(epoch, start * self.batch_size)
        for batch in in_batches(images, self.batch_size, self.drop_last, is_first=start == 0):
            # What is drawn for an image hangs on its place, as one image may have several.
            yield [(image, mix(self.seed, epoch, place)) for image, place in batch]
        if self.another_epoch_follows and isinstance(self.images, ListedImages):
            self.prefetch()

    def _begin(self, place: Tuple[int, int]) -> Iterator[Made]:
        if self._workers is None:
            instances = self.images.instances
            self._workers = (
                WORKERS[self.worker](instances, self.num_workers, self.prefetch_batches)
                if self.num_workers
                else NoWorkers(instances)
            )
        if isinstance(self.images, ListedImages):
            return _with_jobs(self._workers, self._jobs(*place))
        return self._stream(place, self._workers, self.images)

    def _stream(
        self, place: Tuple[int, int], workers: Workers, images: StreamedImages
    ) -> Iterator[Made]:
        """The batches of an epoch of which nobody knows how many there are."""
        jobs = ReadAhead(self._jobs(*place), self.prefetch_batches)
        try:
            for number, made in enumerate(_with_jobs(workers, jobs), start=place[1]):
                if images.is_endless and images.is_over(number * self.batch_size):
                    break
                yield made
        finally:
            jobs.stop()

    def _delivered(self, batches: Iterator[Made], is_whole: bool) -> Iterator[TensorDict]:
        """The batches of an epoch, or of its rest unless it `is_whole`."""
        keeps_pace = self.shuffle and util.is_distributed()
        usable = self._as_many(batches) if keeps_pace else self._usable(batches, is_whole)
        for batch in usable:
            yield batch if self._device is None else _to_device(batch, self._device)

    def _usable(self, batches: Iterator[Made], is_whole: bool) -> Iterator[TensorDict]:
        """
        Leaves out the batches without an image. When shuffling, an image that is left alone joins
        the next batch, before anything else is delivered: recovery finds the same batches.
        """
        alone: Optional[Made] = None
        reason, is_empty = "", is_whole
        for job, collated in batches:
            self._report(collated)
            reason = reason or next(iter(collated.errors), "")
            if alone is not None and collated.places:
                job = alone[0] + [job[place] for place in collated.places]
                instances = self.images.instances
                collated = collate([load(instances[key], seed) for key, seed in job])
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
        elif is_empty and reason:
            raise self._nothing_can_be_read(reason)

    def _as_many(self, batches: Iterator[Made]) -> Iterator[TensorDict]:
        """
        Gives as many batches as there are, as other ranks wait for them: in the place of one that
        cannot be used the batch before, or at the beginning the batch after.
        """
        last: Optional[TensorDict] = None
        alone: Optional[Collated] = None
        reason, missing = "", 0
        for _, collated in batches:
            self._report(collated)
            reason = reason or next(iter(collated.errors), "")
            if self._is_alone(collated):
                self._leave_out(collated)
                alone = collated
            elif collated.places:
                last = collated.batch
            missing += 1
            if last is not None:
                yield from itertools.repeat(last, missing)
                missing = 0
        if missing and alone is None:
            raise self._nothing_can_be_read(reason)
        if alone is not None:
            yield from itertools.repeat(alone.batch, missing)

    def _report(self, collated: Collated) -> None:
        """Raises or logs and counts what could not be read, as `on_error` says."""
        if collated.errors and self.on_error == "raise":
            raise ImageError(
                f'{collated.errors[0]} (in {self.data_path}; "on_error": "skip" in the data '
                "loader leaves such images out)"
            )
        for error in collated.errors:
            logger.warning("Left out: %s", shown(error))
        self.images_skipped += len(collated.errors)

    def _is_alone(self, collated: Collated) -> bool:
        """Whether a single image is left of a batch to train on."""
        is_single = len(collated.places) == 1 < self.batch_size
        return is_single and self.shuffle and bool(collated.errors)

    def _leave_out(self, alone: Collated) -> None:
        """Logs and counts a good image that is left alone in its batch."""
        metadata = alone.batch.get("metadata", ["one image"])
        logger.warning("Left out for this time, as it is alone in its batch: %s", metadata[0])
        self.images_skipped += 1

    def _nothing_can_be_read(self, reason: str) -> ImageError:
        return ImageError(f"no image of {self.data_path} can be read; the first: {reason}")


def _with_jobs(workers: Workers, jobs: Iterable[BatchJob]) -> Iterator[Made]:
    """The batches that workers make, each with its job."""
    begun: Deque[BatchJob] = deque()

    def noted() -> Iterator[BatchJob]:
        for job in jobs:
            begun.append(job)
            yield job

    # The workers are called now, not when the first batch is asked for: threads begin at once.
    return ((begun.popleft(), collated) for collated in workers(noted()))


def in_batches(
    items: Iterator[T], size: int, drop_last: bool, is_first: bool = True
) -> Iterator[List[T]]:
    """
    Divides items into batches. A last batch of one item is joined to the batch before it, of which
    it is the end if the items do not begin with the first.
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
    ranks = int(os.environ.get("ALLENNLP_PROCS_PER_NODE", 1)) if util.is_distributed() else 1
    return max(1, min(8, cpu_count() // ranks))


def _to_device(batch: TensorDict, device: torch.device) -> TensorDict:
    if device.type != "cuda":
        return nn_util.move_to_device(batch, device)
    return {
        key: value.pin_memory().to(device, non_blocking=True)
        if isinstance(value, torch.Tensor)
        else nn_util.move_to_device(value, device)
        for key, value in batch.items()
    }

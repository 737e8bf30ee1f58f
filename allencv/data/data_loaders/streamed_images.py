import queue
import random
import threading
from collections import Counter
from itertools import chain, islice
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, TypeVar

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Instance, Vocabulary

from allencv.data.data_loaders.listed_images import index_instance
from allencv.data.data_loaders.seeds import mix
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample

T = TypeVar("T")


class StreamedImages:
    """
    The images of a dataset that is read shard by shard in each epoch. Its size is usually unknown.

    To shuffle, shards are read in random order, and each image is drawn from a buffer of
    `shuffle_buffer` images. Both depend only on the seed and the epoch.

    In distributed training each rank reads its own shards, or takes a share of the images if there
    are fewer shards than ranks. Each image is used once. The ranks may have different numbers of
    images, and of batches.

    # Parameters

    reader : `ImageDatasetReader`
        A reader with `num_shards` and `read_shard`, such as `WebDatasetReader`.
    data_path, shuffle, shuffle_buffer, seed
        See `ImageDataLoader`.
    rank, world_size : `int`
        The number of this process in distributed training, and the number of processes.
    """

    def __init__(
        self,
        reader: Any,
        data_path: Any,
        shuffle: bool,
        shuffle_buffer: int,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.instances = _InstancesOfSamples(reader)
        self._reader = reader
        self._data_path = data_path
        self._num_shards: int = reader.num_shards(data_path)
        self._shuffle = shuffle
        self._shuffle_buffer = shuffle_buffer
        self._seed = seed
        self._rank, self._world_size = rank, world_size
        self._labels: Counter[str] = Counter(reader.label_counts(data_path))
        self.num_images: Optional[int] = None
        """The number of images in an epoch, if it is known before they are read."""
        if world_size == 1:
            self.num_images = reader.num_images(data_path)

    def epoch(self, epoch: int, start: int) -> Iterator[Tuple[Sample, int]]:
        """Yield this rank's images of an epoch from `start` on, each with its place among all."""
        samples = self._checked(self._samples(epoch))
        for number, sample in enumerate(islice(samples, start, None), start):
            yield sample, self._rank + number * self._world_size

    def in_order(self) -> Iterator[Tuple[int, Sample]]:
        """Yield all images once, on each rank, each after its place."""
        return enumerate(self._checked(self._reader.read_samples(self._data_path)))

    def iter_instances(self) -> Iterator[Instance]:
        """Yield all images once, in order, and count their labels."""
        labels: Counter[str] = Counter()
        for sample in self._reader.read_samples(self._data_path):
            labels.update(sample.labels or [])
            labels.update([] if sample.label is None else [sample.label])
            yield self._reader.text_to_instance(*sample)
        self._labels = labels

    def index_with(self, vocab: Vocabulary) -> None:
        self.instances.vocab = vocab

    def survive_a_fork(self) -> bool:
        """See `ImageDatasetReader.samples_survive_a_fork`."""
        return bool(vars(type(self._reader)).get("samples_survive_a_fork", False))

    def identity(self) -> Dict[str, object]:
        sizes = self._reader.shard_sizes(self._data_path)
        return {"shards": self._num_shards, "bytes of the shards": sizes}

    def labels(self) -> Dict[str, int]:
        """Return the number of images with each label, as far as known: see `iter_instances`."""
        return dict(self._labels)

    def _samples(self, epoch: int) -> Iterator[Sample]:
        shards: List[int] = list(range(self._num_shards))
        if self._shuffle:
            generator = torch.Generator().manual_seed(mix(self._seed, epoch))
            shards = torch.randperm(self._num_shards, generator=generator).tolist()
        has_own_shards = self._num_shards >= self._world_size
        if has_own_shards:
            shards = shards[self._rank :: self._world_size]
        samples: Iterator[Sample] = chain.from_iterable(
            self._reader.read_shard(self._data_path, shard, self._num_shards) for shard in shards
        )
        if not has_own_shards:
            samples = islice(samples, self._rank, None, self._world_size)
        if self._shuffle:
            draw = random.Random(mix(self._seed, epoch, self._rank))
            samples = shuffled(samples, self._shuffle_buffer, draw)
        return samples

    def _checked(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        is_empty = True
        for sample in samples:
            is_empty = False
            yield sample
        if is_empty:
            share = ""
            if self._world_size > 1:
                share = (
                    f" for rank {self._rank} of {self._world_size}; expected an image or more for "
                    "each rank: other shards, or fewer distributed.cuda_devices (with torchrun: "
                    "processes)"
                )
            raise ConfigurationError(
                f"{type(self._reader).__name__} found no image in {self._data_path}{share}"
            )


class _InstancesOfSamples:
    """The instances that a reader makes from samples."""

    def __init__(self, reader: ImageDatasetReader) -> None:
        self.vocab: Optional[Vocabulary] = None
        self._make = reader.text_to_instance

    def __getitem__(self, sample: Sample) -> Instance:
        instance = self._make(*sample)
        if self.vocab is not None:
            index_instance(instance, self.vocab)
        return instance


def shuffled(items: Iterable[T], buffer_size: int, draw: random.Random) -> Iterator[T]:
    """Yield each item from a random place in a buffer; the next item takes its place."""
    iterator = iter(items)
    buffer = list(islice(iterator, buffer_size))
    draw.shuffle(buffer)
    for item in iterator:
        place = draw.randrange(buffer_size)
        yield buffer[place]
        buffer[place] = item
    yield from buffer


class ReadAhead(Iterator[T]):
    """Reads `size` items ahead from an iterator, in its own thread."""

    def __init__(self, items: Iterator[T], size: int) -> None:
        self._items = items
        self._ready: queue.Queue[Tuple[Optional[T], Optional[BaseException]]] = queue.Queue()
        self._room = threading.Semaphore(size)
        self._is_stopped = False
        threading.Thread(target=self._read, name="image-reader", daemon=True).start()

    def __next__(self) -> T:
        item, error = self._ready.get()
        if error is not None:
            self._ready.put((None, error))  # for later calls
            raise error
        self._room.release()
        return item  # type: ignore[return-value]

    def stop(self) -> None:
        self._is_stopped = True
        self._room.release()

    def _read(self) -> None:
        try:
            while True:
                self._room.acquire()
                if self._is_stopped:
                    raise StopIteration
                self._ready.put((next(self._items), None))
        except BaseException as error:  # any error must reach the waiting consumer
            self._ready.put((None, error))

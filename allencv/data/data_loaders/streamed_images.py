import queue
import random
import threading
from collections import Counter
from itertools import chain, islice
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, TypeVar

import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.data import Instance, Vocabulary

from allencv.data.data_loaders.listed_images import index_instance
from allencv.data.data_loaders.seeds import mix
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample

T = TypeVar("T")


class StreamedImages:
    """
    The images of a data set that is read from front to back in each epoch, shard by shard, and of
    which nobody knows how many there are.

    To shuffle, the shards are read in a random order, and each image is drawn from the
    `shuffle_buffer` images that have been read last and not been used. Both depend on the seed and
    the epoch alone.

    In distributed training each rank reads shards of its own, or each takes its share of the
    images if there are fewer shards than ranks. When shuffling, a rank that has used its images
    while others have not begins with them again, so that all have as many batches; else each image
    is used exactly once.

    # Parameters

    reader : `ImageDatasetReader`
        With `num_shards` and `read_shard`, as `WebDatasetReader` has them.
    data_path, shuffle, shuffle_buffer, seed
        As of `ImageDataLoader`.
    rank, world_size : `int`
        This process's number among those of distributed training, and how many they are.
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
        self.is_endless = shuffle and world_size > 1
        self._reader = reader
        self._data_path = data_path
        self._num_shards: int = reader.num_shards(data_path)
        self._shuffle = shuffle
        self._shuffle_buffer = shuffle_buffer
        self._seed = seed
        self._rank, self._world_size = rank, world_size
        self._labels: Counter[str] = Counter()
        self._used_up_after: Optional[int] = None
        # The ranks agree on the end of an epoch on the CPU, whatever they train on.
        self._group: Any = dist.new_group(backend="gloo") if self.is_endless else None

    def epoch(self, epoch: int, start: int) -> Iterator[Tuple[Sample, int]]:
        """This rank's images in an epoch from number `start` on, each with its place among all."""
        self._used_up_after = None
        first = self._counted(self._samples(epoch))
        repeated = chain.from_iterable(iter(lambda: self._samples(epoch), None))
        samples = chain(first, repeated) if self.is_endless else first
        for number, sample in enumerate(islice(samples, start, None), start):
            yield sample, self._rank + number * self._world_size

    def is_over(self, number: int) -> bool:
        """
        Whether all ranks have used up what they had before their image `number`. They have to ask
        at the same time.
        """
        has_more = self._used_up_after is None or number < self._used_up_after
        answer = torch.tensor(has_more, dtype=torch.int32)
        dist.all_reduce(answer, dist.ReduceOp.MAX, self._group)
        return not answer

    def iter_instances(self) -> Iterator[Instance]:
        """All images once, in order. Counts the labels on the way."""
        labels: Counter[str] = Counter()
        for sample in self._reader.read_samples(self._data_path):
            labels.update(sample.labels or [])
            labels.update([] if sample.label is None else [sample.label])
            yield self._reader.text_to_instance(*sample)
        self._labels = labels

    def index_with(self, vocab: Vocabulary) -> None:
        self.instances.vocab = vocab

    def labels(self) -> Dict[str, int]:
        """How many images have each label, as far as that is known: see `iter_instances`."""
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

    def _counted(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        count = 0
        for sample in samples:
            count += 1
            yield sample
        if count == 0:
            shares = f", or none for rank {self._rank}" if self._world_size > 1 else ""
            raise ConfigurationError(
                f"{type(self._reader).__name__} found no image in {self._data_path}{shares}"
            )
        self._used_up_after = count


class _InstancesOfSamples:
    """The instances that a reader makes of samples."""

    def __init__(self, reader: ImageDatasetReader) -> None:
        self.vocab: Optional[Vocabulary] = None
        self._make = reader.text_to_instance

    def __getitem__(self, sample: Sample) -> Instance:
        instance = self._make(*sample)
        if self.vocab is not None:
            index_instance(instance, self.vocab)
        return instance


def shuffled(items: Iterable[T], buffer_size: int, draw: random.Random) -> Iterator[T]:
    """Each item is drawn from the `buffer_size` that are waiting, whose place the next takes."""
    iterator = iter(items)
    buffer = list(islice(iterator, buffer_size))
    draw.shuffle(buffer)
    for item in iterator:
        place = draw.randrange(buffer_size)
        yield buffer[place]
        buffer[place] = item
    yield from buffer


class ReadAhead(Iterator[T]):
    """Takes items from an iterator in a thread of its own, `size` of them ahead."""

    def __init__(self, items: Iterator[T], size: int) -> None:
        self._items = items
        self._ready: queue.Queue[Tuple[Optional[T], Optional[BaseException]]] = queue.Queue()
        self._room = threading.Semaphore(size)
        self._is_stopped = False
        threading.Thread(target=self._read, name="image-reader", daemon=True).start()

    def __next__(self) -> T:
        item, error = self._ready.get()
        if error is not None:
            self._ready.put((None, error))  # for whoever asks again
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
        except BaseException as error:  # whatever it is, somebody is waiting for the next item
            self._ready.put((None, error))

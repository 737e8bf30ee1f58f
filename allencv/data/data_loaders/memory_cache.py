"""Keep decoded images in memory, for `cache` of the "image" data loader."""

import contextlib
import itertools
import logging
import multiprocessing
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Field, Instance, TensorDict
from allennlp.data.fields import ListField

from allencv.common.available_memory import available_memory
from allencv.common.label_text import shown
from allencv.common.nearest_names import not_one_of
from allencv.common.short_repr import short_repr
from allencv.data.data_loaders.cache_memory import RanksMemory
from allencv.data.data_loaders.kept_images import ALIGNMENT, KeptImages, bytes_of
from allencv.data.fields import ImageField
from allencv.data.fields.image_field import Transform
from allencv.data.samples import Instances
from allencv.data.transforms import ImageTransform, random_source
from allencv.data.transforms.image_transform import InTurn, registered_name
from allencv.runtime import ImageError

logger = logging.getLogger(__name__)

CACHES = ("memory", "device")
GB = 10**9
SAMPLED = 32
"""The number of images that are decoded to learn how much memory all of them take."""


def check_cache(cache: Optional[str], max_cache_gb: Optional[float], worker: str) -> None:
    """Raise `ConfigurationError` for arguments of `ImageDataLoader` that do not fit."""
    if cache is not None and cache not in CACHES:
        raise not_one_of("data_loader.cache", cache, CACHES)
    if max_cache_gb is None:
        pass
    elif cache is None:
        raise ConfigurationError(
            f'data_loader.max_cache_gb is {max_cache_gb}; expected "cache": "memory" with it'
        )
    elif not max_cache_gb > 0:
        raise ConfigurationError(
            f"data_loader.max_cache_gb is {max_cache_gb}; expected a number above 0"
        )
    if cache is not None and worker == "process" and multiprocessing.get_start_method() != "fork":
        raise ConfigurationError(
            f'data_loader.cache is "{cache}" and worker is "process", but processes that Python '
            f"starts by '{multiprocessing.get_start_method()}' share no memory; expected "
            '"worker": "thread"'
        )
    if cache == "device" and worker == "process":
        raise ConfigurationError(
            'data_loader.cache is "device" and worker is "process", but processes cannot share the '
            'memory of a GPU; expected "worker": "thread"'
        )


class CachedInstances:
    """
    Instances whose images are decoded once, together with the transforms before the first that may
    draw (see `ImageTransform.is_fixed`). The other transforms run each time, on a copy.

    # Parameters

    instances : `Sequence[Instance]`, required
    max_gb : `float`, optional (default = `None`)
        The most memory that the images may take; by default half of the available memory.
    processes : `int`, optional (default = `1`)
        How many processes of this machine keep images of their own.
    device : `torch.device`, optional (default = `None`)
        A GPU that keeps a copy of the images, and makes the batches.
    memory : `RanksMemory`, optional (default = `None`)
        The memory for the images, if the ranks of this machine share it. They must have the same
        instances.

    # Raises

    `ConfigurationError` with the numbers, if the memory is not enough.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        max_gb: Optional[float] = None,
        processes: int = 1,
        device: Optional[torch.device] = None,
        memory: Optional[RanksMemory] = None,
    ) -> None:
        self._instances = instances
        # A `Sample` has one image, so its place is its index. Count those of other instances.
        self._first_places: Optional[List[int]] = None
        if not isinstance(instances, Instances):
            counts = (sum(1 for _ in image_fields(each)) for each in instances)
            self._first_places = list(itertools.accumulate(counts, initial=0))
        size = len(instances) if self._first_places is None else self._first_places[-1]
        sample = self._sample()
        taken = sum(map(bytes_of, sample.values()))
        needed = taken * size // max(1, len(sample))
        limit, which = min(_limits(max_gb, processes, device))
        if needed > limit and (memory is None or not memory.is_in_use):
            raise ConfigurationError(
                f'data_loader.cache is "{_name(device)}", but {size:,} images of '
                f"{taken // len(sample):,} bytes take {needed / GB:.2f} GB, and {which} is "
                f"{limit / GB:.2f} GB; expected a transform such as 'resize' first in "
                "dataset_reader.transforms, a smaller size there, a larger "
                "data_loader.max_cache_gb, or no cache"
            )
        # Sizes may differ, and the sample may have the smaller ones.
        capacity = int(min(limit, 2 * needed)) + ALIGNMENT
        self.kept = KeptImages(size, capacity, device, memory)
        for place, image in sample.items():
            self.kept.put(place, image)
        self._is_short = False
        self._failed: Set[type] = set()
        self._without_batch_form: Set[type] = set()
        logger.info("%d images are decoded once and kept: %.2f GB", size, needed / GB)

    def __getitem__(self, index: int) -> Instance:
        """Return an instance whose images are kept when they are decoded."""
        instance, places = self._instances[index], self._places(index)
        return Instance({key: self._cached(field, places) for key, field in instance.items()})

    @property
    def are_samples(self) -> bool:
        """Whether each instance is a `Sample`, with one image, and need not be made."""
        return isinstance(self._instances, Instances) and self._instances.are_plain

    def without_images(self, indices: Sequence[int]) -> Optional[TensorDict]:
        """Return a batch of all fields but the images, if these `are_samples`."""
        assert isinstance(self._instances, Instances)
        return self._instances.without_images(indices)

    def report_batch_form(self, transform: ImageTransform, error: Exception) -> None:
        """Warn once for each class of transforms whose `draw_batch` raises an error."""
        if type(transform) not in self._failed:
            self._failed.add(type(transform))
            logger.warning(
                "draw_batch of the transform %s failed (%s: %s): images are transformed one by one "
                "instead, which takes longer",
                registered_name(transform),
                type(error).__name__,
                error,
            )

    def report_one_by_one(self, transform: Transform) -> None:
        """Warn once for each class of transforms that a GPU cannot apply to a batch."""
        if type(transform) not in self._without_batch_form:
            self._without_batch_form.add(type(transform))
            logger.warning(
                'data_loader.cache is "device", but the transform %s works image by image: the '
                "images come back from the GPU for it and those after it",
                short_repr(transform),
            )

    def image(self, field: ImageField, place: int) -> torch.Tensor:
        """Return the image of a field, decoded and transformed, to read only."""
        fixed, rest = split(field.transform)
        with torch._C.DisableTorchFunction():  # saves time, as nothing is drawn here
            kept = self.kept.get(place)
            if kept is not None:  # a transform may write into its image
                image = kept if rest is None else kept.clone()
        if kept is None:
            image = _decoded(field, fixed)
            if not self.kept.put(place, image) and not self._is_short:
                self._is_short = True
                logger.warning(
                    "the data loader's cache cannot hold %s (%d bytes): it decodes this and others "
                    "each time",
                    shown(field.name),
                    bytes_of(image),
                )
        return field.transformed(image, rest)

    def _places(self, index: int) -> Iterator[int]:
        return itertools.count(self._first_places[index] if self._first_places else index)

    def _cached(self, field: Field, places: Iterator[int]) -> Field:
        if isinstance(field, ImageField):
            return CachedImageField(field, self, next(places))
        if isinstance(field, ListField):
            return ListField([self._cached(each, places) for each in field.field_list])
        return field

    def _sample(self) -> Dict[int, torch.Tensor]:
        """Return some images by their places, decoded."""
        found: Dict[int, torch.Tensor] = {}
        size = len(self._instances)
        for index in range(0, size, -(-size // SAMPLED)):
            for place, field in zip(self._places(index), image_fields(self._instances[index])):
                with contextlib.suppress(ImageError):  # its batch reports it
                    found[place] = _decoded(field, split(field.transform)[0])
        return found


class CachedImageField(ImageField):
    """An image that its `CachedInstances` keep, once it is decoded."""

    __slots__ = ["cache", "place"]

    def __init__(self, field: ImageField, cache: CachedInstances, place: int) -> None:
        super().__init__(
            field.source,
            field.transform,
            field.color_mode,
            field.padding_value,
            field.value_range,
        )
        self.cache = cache
        self.place = place

    def as_tensor(self, padding_lengths: Dict[str, int]) -> torch.Tensor:
        return self.cache.image(self, self.place)


def image_fields(instance: Instance) -> Iterator[ImageField]:
    """Yield the images of an instance, in the order of their places."""
    for field in instance.values():
        yield from _images_of(field)


def _images_of(field: Field) -> Iterator[ImageField]:
    """Yield the images of a field, in the order of `CachedInstances._cached`."""
    if isinstance(field, ImageField):
        yield field
    elif isinstance(field, ListField):
        for each in field.field_list:
            yield from _images_of(each)


def split(transform: Optional[Transform]) -> Tuple[Optional[Transform], Optional[Transform]]:
    """Return what draws nothing, which runs once, and the rest."""
    return transform.parts if type(transform) is InTurn else (None, transform)


def _decoded(field: ImageField, fixed: Optional[Transform]) -> torch.Tensor:
    """
    Decode an image and apply the transforms that draw nothing.

    # Raises

    `ImageError`; `ConfigurationError` if one of them does draw.
    """
    generator = torch.Generator()
    before = generator.get_state()
    plain = ImageField(field.source, fixed, field.color_mode, value_range=field.value_range)
    with random_source(generator):
        image = plain.as_tensor({})
    if not torch.equal(generator.get_state(), before):
        raise ConfigurationError(
            f'data_loader.cache is "memory", but decoding {shown(field.name)} draws random '
            f"numbers, in its source or in {fixed}; expected is_random = True in the class of a "
            "transform that draws"
        )
    return image


def _name(device: Optional[torch.device]) -> str:
    return "memory" if device is None else "device"


def _limits(
    max_gb: Optional[float], processes: int, device: Optional[torch.device]
) -> Iterator[Tuple[float, str]]:
    """Yield how many bytes the images may take, and where this limit comes from."""
    yield _limit(max_gb, processes)
    if device is not None:
        free, _ = torch.cuda.mem_get_info(device)
        yield free / 2, f"half of the free memory of {device}"


def _limit(max_gb: Optional[float], processes: int) -> Tuple[float, str]:
    """Return how many bytes the images may take, and where this limit comes from."""
    available = available_memory()
    among = f", divided among {processes} processes" if processes > 1 else ""
    if max_gb is not None:
        limit = max_gb * GB
        if available is None or limit <= available / processes:
            return limit, "data_loader.max_cache_gb"
        return available / processes, f"the available memory{among}"
    if available is None:
        raise ConfigurationError(
            'data_loader.cache is "memory", and the available memory of this system is unknown; '
            "expected data_loader.max_cache_gb"
        )
    return available / 2 / processes, f"half of the available memory{among}"

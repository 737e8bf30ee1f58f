"""Give the features of a frozen encoder in place of images, for `trainer.frozen_features`."""

import copy
import hashlib
import itertools
import logging
import os
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from allennlp.common import Tqdm
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, Instance, TensorDict

from allencv.common.feature_store import ROOT_VARIABLE, FeatureStore, address_of, to_float16
from allencv.common.stable_text import stable_text
from allencv.data.data_loaders.listed_images import ListedImages
from allencv.data.data_loaders.seeds import DrawSeed, draw_seed
from allencv.data.data_loaders.workers import BatchJob, Collated, InstanceLookup, Workers
from allencv.data.fields import ImageField
from allencv.data.fields.image_field import Source, different_sizes
from allencv.data.transforms.image_transform import InTurn
from allencv.runtime import ImageError
from allencv.runtime.plurals import numbered
from allencv.runtime.regular_files import open_regular

logger = logging.getLogger(__name__)

AT_ONCE = 32
"""
The number of images whose features are computed at once. On a CPU, 64 images of 256 pixels took 1.2
times as long, and 1 GB more.
"""
DIGEST_BYTES = 32

Encode = Callable[[torch.Tensor], torch.Tensor]
OpenStore = Callable[[Tuple[int, ...], int], FeatureStore]


class KeptFeatures:
    """
    Makes the batches of the "image" data loader from kept features: it takes the place of its
    workers. Features that are not kept yet are computed first, for a whole view of the images.

    # Parameters

    images : `ListedImages`
        The images, their other fields and their order.
    seed : `int`
        That of the data loader.
    name : `str`
        Where the images come from, for the progress bar and messages.
    workers : `Workers`
        Decode and transform images, from `OnlyImages`.
    device : `torch.device`, optional
        Where `encode` wants the images.
    report : `Callable[[Collated], None]`
        Gets the batches with images that cannot be read.
    encode, open_store, views
        See `allencv.training.protocols.KeepsFeatures`.
    """

    def __init__(
        self,
        images: ListedImages,
        seed: int,
        name: str,
        workers: Workers,
        device: Optional[torch.device],
        report: Callable[[Collated], None],
        encode: Encode,
        open_store: OpenStore,
        views: int,
    ) -> None:
        self._images = images
        self._seed = seed
        self._name = name
        self._workers = workers
        self._device = device
        self._report = report
        self._encode = encode
        self._open_store = open_store
        self._store: Optional[FeatureStore] = None
        self._shape: Tuple[int, ...] = ()  # of the features of an image
        self._rows: Dict[int, np.ndarray] = {}
        self._errors: Dict[Tuple[int, int], str] = {}  # by view and image
        self._read(images.instances)
        self._views = 1 if self._is_fixed else views
        self.computed = 0
        """The number of features that were computed, because they were not kept."""

    def __call__(self, jobs: Iterable[BatchJob]) -> Iterator[Collated]:
        for job in jobs:
            # A batch is of one epoch.
            view = self._view(job[0][1])
            rows = self.rows(view)[[image for image, _ in job]]
            places = np.flatnonzero(rows >= 0).tolist()
            images = [job[place][0] for place in places]
            errors = [
                self._errors[view, image] for image, _ in job if (view, image) in self._errors
            ]
            yield Collated(self._batch(images, rows[places]), places, errors)

    def rows(self, view: int) -> "np.ndarray":
        """Return the rows of all images in the store, after computing what is missing."""
        if view not in self._rows:
            self._rows[view] = self._kept(view)
        return self._rows[view]

    def prepare(self, epoch: int) -> None:
        self.rows(epoch % self._views)

    @property
    def fields(self) -> TensorDict:
        """The other fields of all images, such as their labels."""
        return self._others

    def some(self, images: Sequence[int]) -> TensorDict:
        """
        Return one batch of some images in the first view, without those that cannot be read, after
        computing the features that are missing.
        """
        jobs = self._jobs(0)
        rows = self._found([jobs[image] for image in images], 0)
        readable = np.flatnonzero(rows >= 0).tolist()
        return self._batch([images[place] for place in readable], rows[readable])

    def _view(self, seed: int) -> int:
        assert isinstance(seed, DrawSeed)
        return seed.turn.epoch % self._views

    def _batch(self, images: List[int], rows: "np.ndarray") -> TensorDict:
        if not images or self._store is None:
            return {}
        batch: TensorDict = {"features": torch.from_numpy(self._store.read(rows))}
        for key, values in self._others.items():
            if isinstance(values, torch.Tensor):
                batch[key] = values[images]
            else:
                batch[key] = [values[image] for image in images]
        return batch

    def _read(self, instances: Sequence[Instance]) -> None:
        """Read the files of all images, for their addresses, and the other fields."""
        contents = np.zeros((len(instances), DIGEST_BYTES), np.uint8)
        preprocessing: Dict[Tuple[object, ...], str] = {}  # of transforms, which images share
        self._preprocessing: List[str] = []
        others: List[TensorDict] = []
        is_fixed = True
        images = Tqdm.tqdm(enumerate(instances), f"Reading {self._name}", len(instances))
        for some in iter(lambda: list(itertools.islice(images, 1000)), []):
            for number, instance in some:
                field = instance.fields.get("image")
                if not isinstance(field, ImageField):
                    raise ConfigurationError(
                        f"an instance of {self._name} has no ImageField 'image'; expected one, or "
                        "no trainer.frozen_features"
                    )
                contents[number] = np.frombuffer(_content(field), np.uint8)
                key = (id(field.transform), field.color_mode, field.value_range)
                if key not in preprocessing:
                    preprocessing[key] = field.preprocessing_text()
                    is_fixed &= _is_fixed(field)
                self._preprocessing.append(preprocessing[key])
            fields = [
                Instance({key: field for key, field in each.items() if key != "image"})
                for _, each in some
            ]
            others.append(Batch(fields).as_tensor_dict())
        self._contents = contents
        self._is_fixed = is_fixed
        self._others = {key: _joined([each[key] for each in others]) for key in others[0]}

    def _jobs(self, view: int) -> BatchJob:
        """Return each image with the seed that it has in the epoch with the number of the view."""
        # The first place of an image that comes several times; its number if it does not come.
        places, order = np.arange(len(self._contents)), self._images.order(view)
        places[order[::-1]] = np.arange(len(order))[::-1]
        return [
            (image, draw_seed(self._seed, view, place, image))
            for image, place in enumerate(places.tolist())
        ]

    def _kept(self, view: int) -> "np.ndarray":
        return self._found(self._jobs(view), view)

    def _found(self, jobs: BatchJob, view: int) -> "np.ndarray":
        """Return the rows of images in the store, after computing what is missing."""
        addresses = [self._address(image, seed) for image, seed in jobs]
        if self._store is None:
            self._store = self._opened(jobs)
        rows = self._store.find(addresses)
        missing = np.flatnonzero(rows < 0).tolist()
        if missing:
            self._compute([jobs[place] for place in missing], view)
            rows = self._store.find(addresses)
            self._check([image for (image, _), row in zip(jobs, rows) if row < 0], view)
        of_view = f", view {view + 1} of {self._views}" if self._views > 1 else ""
        logger.info(
            "Features of %s%s: %d images, of which %d are new",
            *(self._name, of_view, len(rows), len(missing)),
        )
        return rows

    def _address(self, image: int, seed: int) -> bytes:
        assert isinstance(seed, DrawSeed)
        draws = b"" if self._is_fixed else repr((int(seed), *seed.turn)).encode()
        content = self._contents[image].tobytes()
        return address_of(content, self._preprocessing[image], draws)

    def _check(self, missing: List[int], view: int) -> None:
        lost = [image for image in missing if (view, image) not in self._errors]
        if lost:
            raise ConfigurationError(
                f"the features of {numbered(len(lost), 'image')} of {self._name} could not be kept "
                "(a warning above says why); expected a larger trainer.frozen_features.max_gb, or "
                f"another folder in the environment variable {ROOT_VARIABLE}"
            )

    def _opened(self, jobs: BatchJob) -> FeatureStore:
        """Open the store for features of the shape of those of the first readable image."""
        errors = []
        for job in jobs:
            (collated,) = self._workers(iter([[job]]))
            self._report(collated)
            if collated.places:
                self._shape = self._features(collated).shape[1:]
                return self._open_store(self._shape, len(self._contents) * self._views)
            errors += collated.errors
        raise ImageError(f"no image of {self._name} can be read; the first: {errors[0]}")

    def _features(self, collated: Collated) -> "np.ndarray":
        images = collated.batch["image"]
        features = self._encode(images if self._device is None else images.to(self._device))
        return to_float16(features.float().cpu().numpy())

    def _compute(self, jobs: BatchJob, view: int) -> None:
        assert self._store is not None
        batches = [jobs[start : start + AT_ONCE] for start in range(0, len(jobs), AT_ONCE)]
        title = f"Features of {self._name}" + (f", view {view + 1}" if self._views > 1 else "")
        with Tqdm.tqdm(desc=title, total=len(jobs)) as bar:
            for collated, batch in zip(self._workers(iter(batches)), batches, strict=True):
                self._report(collated)
                readable = [batch[place] for place in collated.places]
                unreadable = [image for image, seed in batch if (image, seed) not in readable]
                for image, error in zip(unreadable, collated.errors):
                    self._errors[view, image] = error
                if readable:
                    features = self._features(collated)
                    if features.shape[1:] != self._shape:
                        raise different_sizes(f"features {self._shape} and {features.shape[1:]}")
                    self._store.add([self._address(*job) for job in readable], features)
                    self.computed += len(readable)
                bar.update(len(batch))


class OnlyImages:
    """The images of instances, which are not padded to the size of others in a batch."""

    def __init__(self, instances: InstanceLookup) -> None:
        self._instances = instances

    def __getitem__(self, index: int) -> Instance:
        field = copy.copy(self._instances[index]["image"])
        field.padding_value = None
        return Instance({"image": field})


def _content(field: ImageField) -> bytes:
    """Return a hash of the source of an image. One that cannot be read has a random one."""
    try:
        return hashlib.sha256(_source_bytes(field.source)).digest()
    except (OSError, ImageError):
        return os.urandom(DIGEST_BYTES)


def _source_bytes(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, os.PathLike)):
        with open_regular(source) as file:
            return file.readall()
    if callable(source) and not isinstance(source, torch.Tensor):
        return _source_bytes(source())
    if isinstance(source, (torch.Tensor, np.ndarray)):
        return stable_text(source).encode()
    return stable_text(source.__getstate__()).encode()  # its pixels, mode, palette and EXIF data


def _is_fixed(field: ImageField) -> bool:
    return field.transform is None or (
        isinstance(field.transform, InTurn) and field.transform.is_fixed()
    )


def _joined(values: List[Any]) -> Any:
    """Return the tensors or lists of several batches as one."""
    if isinstance(values[0], torch.Tensor):
        return torch.cat(values)
    return list(itertools.chain.from_iterable(values))

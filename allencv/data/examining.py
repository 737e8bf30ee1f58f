"""
Looks at all images of a config's data, once: `read_splits` lists them, and `examine_all` decodes
them and says what is to be known of each.
"""

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from PIL import Image

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader
from allencv.data.fields.image_field import Source, load_image
from allencv.data.near_copies import difference_hash, thumbnail
from allencv.data.samples import SampleList
from allencv.runtime import ImageError
from allencv.runtime.images import FORMATS, exif_orientation
from allencv.runtime.regular_files import open_regular


class Split(NamedTuple):
    """A part of the data, with the reader that lists it."""

    name: str
    path: Any
    reader: ImageDatasetReader
    samples: SampleList

    def source(self, index: int) -> Tuple[str, Source]:
        """The name of an image, and what it is decoded from."""
        sample = self.samples[index]
        is_path = isinstance(sample.image, (str, os.PathLike))
        name = str(sample.image)
        if not is_path and not callable(sample.image):
            name = f"image {index} ({type(sample.image).__name__})"
        return name, self.reader.text_to_instance(*sample)["image"].source


@dataclass(frozen=True, slots=True)
class Facts:
    """What decoding an image tells; of one that cannot be decoded, only the `error`."""

    error: Optional[str] = None
    width: int = 0
    height: int = 0
    mode: str = ""
    frames: int = 1
    orientation: int = 1
    pixels: bytes = b""
    """A hash of the decoded pixels, upright and in the reader's colour mode."""
    difference_hash: int = 0
    thumbnail: bytes = b""


@dataclass(frozen=True, slots=True)
class CheckedImage:
    split: str
    index: int
    name: str
    labels: Optional[Tuple[str, ...]]
    facts: Facts


def read_splits(params: Params) -> List[Split]:
    """The splits of a config, listed without decoding anything."""
    if "train_data_path" not in params:
        raise ConfigurationError("the config has no train_data_path; expected data to check")
    readers = {"train": _reader(params, "dataset_reader")}
    readers["validation"] = readers["test"] = readers["train"]
    if params.get("validation_dataset_reader") is not None:
        readers["validation"] = readers["test"] = _reader(params, "validation_dataset_reader")
    splits = []
    for name, reader in readers.items():
        path = params.pop(f"{name}_data_path", None, keep_as_dict=True)
        if path is not None:
            samples = SampleList(islice(reader.read_samples(path), reader.max_instances))
            splits.append(Split(name, path, reader, samples))
    return splits


def _reader(params: Params, key: str) -> ImageDatasetReader:
    reader = DatasetReader.from_params(params.pop(key))
    if not isinstance(reader, ImageDatasetReader):
        raise ConfigurationError(f"{key} is a {type(reader).__name__}; expected a reader of images")
    return reader


def examine_all(splits: Iterable[Split], num_threads: int) -> Iterator[CheckedImage]:
    """Decodes each image of the splits once, in order."""

    def examined(place: Tuple[Split, int]) -> CheckedImage:
        split, index = place
        sample = split.samples[index]
        labels = sample.labels if sample.label is None else (sample.label,)
        names = None if labels is None else tuple(sorted(labels))
        try:
            name, source = split.source(index)
            facts = examine(source, split.reader.color_mode)
        except ImageError as error:  # a URL that cannot be downloaded
            name, facts = str(sample.image), Facts(error=str(error))
        return CheckedImage(split.name, index, name, names, facts)

    places = ((split, index) for split in splits for index in range(len(split.samples)))
    with ThreadPoolExecutor(num_threads) as executor:
        # In portions, as the executor begins with all that it is given.
        while portion := list(islice(places, 64 * num_threads)):
            yield from executor.map(examined, portion)


def examine(source: Source, color_mode: str = "RGB") -> Facts:
    """Decodes an image as training would, and looks at its file's header."""
    try:
        if callable(source):
            source = source()
        if isinstance(source, (str, os.PathLike)):
            with open_regular(source) as file:
                source = file.read()
        # Shape: (height, width, channels)
        pixels = as_bytes(load_image(source, color_mode))
    except OSError as error:
        return Facts(error=error.strerror or str(error))
    except ImageError as error:
        reason = str(error)  # of bytes it begins with "image of 100 bytes: "
        return Facts(error=reason.partition(": ")[2] if isinstance(source, bytes) else reason)
    height, width, channels = pixels.shape
    mode, frames, orientation = _header(source)
    grey = Image.fromarray(pixels if channels in (3, 4) else pixels[:, :, 0]).convert("L")
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.data)
    return Facts(
        width=width,
        height=height,
        mode=mode,
        frames=frames,
        orientation=orientation,
        pixels=digest.digest(),
        difference_hash=difference_hash(grey),
        thumbnail=thumbnail(grey),
    )


def as_bytes(decoded: torch.Tensor) -> np.ndarray:
    """An image `(channels, height, width)` as `uint8` `(height, width, channels)`."""
    if decoded.is_floating_point():
        decoded = (decoded * 255).clamp(0, 255).byte()
    return decoded.permute(1, 2, 0).contiguous().numpy()


def _header(source: Any) -> Tuple[str, int, int]:
    """The colour mode, the number of frames and the EXIF orientation of an image that is whole."""
    try:
        image = (
            Image.open(io.BytesIO(source), formats=FORMATS) if isinstance(source, bytes) else source
        )
        if not isinstance(image, Image.Image):
            return "", 1, 1
        mode = f"{image.mode}, transparent" if image.has_transparency_data else image.mode
        # The second picture of an MPO file is a preview or a depth map, and no frame.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        return mode, frames, exif_orientation(image.getexif)
    except Exception:  # the pixels are there; the rest of the file is damaged
        return "", 1, 1

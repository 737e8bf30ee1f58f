"""
Inspects all images of a config's data once: `read_splits` lists them, `examine_all` decodes them
and collects facts about each.
"""

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from PIL import Image

from allencv.common.data_paths import with_key
from allencv.data.dataset_readers.files import each_file_read_once
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader
from allencv.data.fields.image_field import Source, load_image
from allencv.data.near_copies import difference_hash, thumbnail
from allencv.data.samples import SampleList
from allencv.runtime import ImageError
from allencv.runtime.images import FORMATS, exif_orientation
from allencv.runtime.value_ranges import ValueRange, is_deep_colour, what_is_lost


class Split(NamedTuple):
    """A part of the data and the reader that lists it."""

    name: str
    path: Any
    reader: ImageDatasetReader
    samples: SampleList

    def source(self, index: int) -> Tuple[str, Source]:
        """Return the name of an image and the source to decode."""
        sample = self.samples[index]
        is_path = isinstance(sample.image, (str, os.PathLike))
        name = str(sample.image)
        if not is_path and not callable(sample.image):
            name = f"image {index} ({type(sample.image).__name__})"
        # Leave out the labels: text_to_instance may reject them.
        instance = self.reader.text_to_instance(sample.image, metadata=sample.metadata)
        return name, instance["image"].source


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts from decoding an image; only `error` if decoding failed."""

    error: Optional[str] = None
    width: int = 0
    height: int = 0
    mode: str = ""
    frames: int = 1
    orientation: int = 1
    lost: str = ""
    """What 8 bits per channel cannot hold of the image, in words."""
    darkest: int = 0
    brightest: int = 255
    """The grey levels (0 to 255) between which 99% of the pixels lie."""
    colour: Optional[Tuple[int, ...]] = None
    """The colour of an image with only one colour."""
    pixels: bytes = b""
    """
    A hash of the decoded pixels, upright and in the reader's colour mode; for an image that loses
    its range, of the original values.
    """
    difference_hash: int = 0
    thumbnail: bytes = b""


@dataclass(frozen=True, slots=True)
class CheckedImage:
    split: str
    index: int
    name: str
    labels: Optional[Tuple[str, ...]]
    facts: Facts


@each_file_read_once()
def read_splits(params: Params) -> List[Split]:
    """List the splits of a config without decoding anything."""
    if "train_data_path" not in params:
        raise ConfigurationError("the config has no train_data_path; expected data to check")
    readers = {"train": image_reader(params, "dataset_reader")}
    readers["validation"] = readers["test"] = readers["train"]
    if params.get("validation_dataset_reader") is not None:
        readers["validation"] = readers["test"] = image_reader(params, "validation_dataset_reader")
    readers["calibration"] = readers["validation"]
    if params.get("calibration_dataset_reader") is not None:
        readers["calibration"] = image_reader(params, "calibration_dataset_reader")
    splits = []
    for name, reader in readers.items():
        path = params.pop(f"{name}_data_path", None, keep_as_dict=True)
        if path is not None:
            try:
                samples = SampleList(islice(reader.read_samples(path), reader.max_instances))
            except ConfigurationError as error:
                message = with_key(error.message, f"{name}_data_path")
                raise ConfigurationError(message) from error
            splits.append(Split(name, path, reader, samples))
    return splits


def image_reader(params: Params, key: str) -> ImageDatasetReader:
    """Take a reader of images out of a config."""
    reader = DatasetReader.from_params(params.pop(key))
    if not isinstance(reader, ImageDatasetReader):
        raise ConfigurationError(f"{key} is a {type(reader).__name__}; expected a reader of images")
    return reader


def examine_all(splits: Iterable[Split], num_threads: int) -> Iterator[CheckedImage]:
    """Decode each image of the splits once, in order."""

    def examined(place: Tuple[Split, int]) -> CheckedImage:
        split, index = place
        sample = split.samples[index]
        labels = sample.labels if sample.label is None else (sample.label,)
        names = None if labels is None else tuple(sorted(labels))
        try:
            name, source = split.source(index)
            facts = examine(source, split.reader.color_mode, split.reader.value_range)
        except ImageError as error:  # a URL that cannot be downloaded
            name, facts = str(sample.image), Facts(error=str(error))
        return CheckedImage(split.name, index, name, names, facts)

    places = ((split, index) for split in splits for index in range(len(split.samples)))
    with ThreadPoolExecutor(num_threads) as executor:
        # In portions, because the executor starts all jobs it is given.
        while portion := list(islice(places, 64 * num_threads)):
            yield from executor.map(examined, portion)


def examine(
    source: Source, color_mode: str = "RGB", value_range: Optional[ValueRange] = None
) -> Facts:
    """Decode an image as training would, and read its file's header."""
    try:
        if callable(source):
            source = source()
        # Shape: (height, width, channels)
        pixels = as_bytes(load_image(source, color_mode, value_range=value_range))
    except ImageError as error:
        reason = str(error)  # starts with the path, or "image of 100 bytes"
        name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
        is_named = isinstance(source, bytes) or (name and reason.startswith(f"{name}: "))
        return Facts(error=reason[len(name) :].partition(": ")[2] if is_named else reason)
    height, width, channels = pixels.shape
    header = _header(source, value_range)
    grey = Image.fromarray(pixels if channels in (3, 4) else pixels[:, :, 0]).convert("L")
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(header.values.data if header.lost else pixels.data)
    darkest, brightest = _levels_of_most(grey)
    colours = pixels.reshape(-1, channels)
    return Facts(
        width=width,
        height=height,
        mode=header.mode,
        frames=header.frames,
        orientation=header.orientation,
        lost=header.lost,
        darkest=darkest,
        brightest=brightest,
        colour=tuple(colours[0].tolist()) if (colours == colours[0]).all() else None,
        pixels=digest.digest(),
        difference_hash=difference_hash(grey),
        thumbnail=thumbnail(grey),
    )


def as_bytes(decoded: torch.Tensor) -> np.ndarray:
    """Convert an image `(channels, height, width)` to `uint8` `(height, width, channels)`."""
    if decoded.is_floating_point():
        decoded = (decoded * 255).clamp(0, 255).byte()
    return decoded.permute(1, 2, 0).contiguous().numpy()


def as_picture(decoded: torch.Tensor) -> Image.Image:
    """Convert an image `(channels, height, width)` to RGB. Of 2 or 5 channels the first is used."""
    # Shape: (height, width, channels)
    pixels = as_bytes(decoded)
    picture = Image.fromarray(pixels if pixels.shape[2] in (3, 4) else pixels[:, :, 0])
    return picture.convert("RGB")


class _Header(NamedTuple):
    """Facts from a file's header, and the values that `lost` describes."""

    mode: str = ""
    frames: int = 1
    orientation: int = 1
    lost: str = ""
    values: np.ndarray = np.empty(0)


def _header(source: Any, value_range: Optional[ValueRange]) -> _Header:
    """Collect facts about an image that can be decoded."""
    try:
        if isinstance(source, (str, os.PathLike)):
            source = Path(source).read_bytes()
        image = (
            Image.open(io.BytesIO(source), formats=FORMATS) if isinstance(source, bytes) else source
        )
        if not isinstance(image, Image.Image):
            return _Header()
        mode = f"{image.mode}, transparent" if image.has_transparency_data else image.mode
        # The second picture of an MPO file is a preview or a depth map, not a frame.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        orientation = exif_orientation(image.getexif)
        deep_colour = is_deep_colour(image)
        lost = what_is_lost(image, deep_colour, value_range) or ""
        # Pillow keeps only the upper half of deep colours; the whole file tells them apart.
        is_file = deep_colour and isinstance(source, bytes)
        values = np.frombuffer(source, np.uint8) if is_file else np.asarray(image)
        return _Header(mode, frames, orientation, lost, values if lost else np.empty(0))
    except Exception:  # the pixels can be read; the rest of the file is damaged
        return _Header()


def _levels_of_most(grey: Image.Image) -> Tuple[int, int]:
    """Return the grey levels between which 99% of the pixels of an image lie."""
    shares = np.cumsum(grey.histogram()) / (grey.width * grey.height)
    darkest, brightest = np.searchsorted(shares, (0.005, 0.995))
    return int(darkest), int(brightest)

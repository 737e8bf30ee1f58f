"""
What may be wrong with the images and the labels of a data set, found before any time goes into
training: `read_splits` lists the data of a config, `examine_all` decodes the images, and
`find_problems` judges them.
"""

import hashlib
import io
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import (
    Any,
    Callable,
    Dict,
    Hashable,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader
from allencv.data.fields.image_field import Source, load_image
from allencv.data.samples import SampleList
from allencv.runtime import ImageError
from allencv.runtime.images import FORMATS, exif_orientation

TINY, HUGE, EXTREME_SHAPE = 32, 40_000_000, 4
"""The shorter side in pixels, the number of pixels, and the ratio of the sides that are odd."""
IMBALANCE = 10
"""The ratio of the largest class to the smallest from which on it is reported."""
NEAR_BITS, NEAR_CORRELATION = 4, 0.98
"""How many bits of two difference hashes may differ, and how alike the thumbnails must be."""
BANDS = NEAR_BITS + 1
THUMBNAIL = 16


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


class Problem(NamedTuple):
    """Something of a `kind` (see `KINDS`): with one image, with a group of them, or with none."""

    kind: str
    detail: str = ""
    images: Tuple[CheckedImage, ...] = ()


class Kind(NamedTuple):
    title: str
    is_fatal: bool
    advice: str


KINDS = {
    "empty_split": Kind("splits without images", True, "Check its path and the reader's patterns."),
    "one_class": Kind("fewer than two classes", True, "Check the path and the labels."),
    "unknown_label": Kind(
        "labels that training lacks",
        True,
        "They can never be predicted: add training images, or correct the labels.",
    ),
    "empty_file": Kind("files of 0 bytes", True, "Fetch them again, or remove them."),
    "truncated": Kind("truncated files", True, "Fetch them again, or remove them."),
    "unreadable": Kind("unreadable files", True, "Fetch them again, or remove them."),
    "leakage": Kind(
        "exact copies in several splits",
        True,
        "The scores will be too good: leave each image in one split.",
    ),
    "contradiction": Kind(
        "exact copies with different labels", True, "Keep the copies with the true label."
    ),
    "near_leakage": Kind(
        "near copies in several splits", False, "Look at them; keep such images in one split."
    ),
    "duplicate": Kind(
        "exact copies within a split", False, "They count several times: keep one of each."
    ),
    "near_duplicate": Kind(
        "near copies within a split", False, "Look at them, above all where the labels differ."
    ),
    "missing_label": Kind(
        "labels of training that another split lacks", False, "Its scores say nothing about them."
    ),
    "few_images": Kind(
        "classes of fewer than 2 training images", False, "Add images, or leave the class out."
    ),
    "imbalance": Kind(
        "imbalanced classes", False, "Weigh the classes, or judge by a metric for each class."
    ),
    "odd_mode": Kind(
        "odd colour modes",
        False,
        "They become what color_mode says: transparency is laid over white, 16 bits keep the upper "
        "8, CMYK is converted without its profile. See that they look right.",
    ),
    "tiny": Kind("tiny images", False, "There is little to see in them: find larger ones."),
    "huge": Kind("huge images", False, "They are slow to decode: scale the files down once."),
    "extreme_shape": Kind(
        "extreme shapes", False, "A square crop shows little of them: cut them, or leave them out."
    ),
    "animated": Kind("files with several frames", False, "Only the first frame is used."),
    "rotated": Kind(
        "images turned by EXIF", False, "AllenCV turns them upright; other programs may not."
    ),
}
"""The kinds of problems, the gravest first. After a fatal one, training would fail or mislead."""


# What the data are.


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
        path = params.pop(f"{name}_data_path", None)
        if path is not None:
            samples = SampleList(islice(reader.read_samples(path), reader.max_instances))
            splits.append(Split(name, path, reader, samples))
    return splits


def _reader(params: Params, key: str) -> ImageDatasetReader:
    reader = DatasetReader.from_params(params.pop(key))
    if not isinstance(reader, ImageDatasetReader):
        raise ConfigurationError(f"{key} is a {type(reader).__name__}; expected a reader of images")
    return reader


# What the images are.


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
            with open(source, "rb") as file:
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
        thumbnail=grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes(),
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


# What is wrong with them.


def find_problems(splits: Sequence[Split], images: Sequence[CheckedImage]) -> List[Problem]:
    """All that is to be said about the data, the gravest kind first."""
    problems = [
        *_problems_of_labels({split.name: split.samples.labels() for split in splits}, images),
        *(Problem("empty_split", split.name) for split in splits if not len(split.samples)),
        *_problems_of_images(images),
        *_problems_of_copies([image for image in images if image.facts.error is None]),
    ]
    order = list(KINDS)
    return sorted(problems, key=lambda problem: order.index(problem.kind))


def _problems_of_labels(
    counts: Dict[str, Dict[str, int]], images: Sequence[CheckedImage]
) -> Iterator[Problem]:
    train = counts["train"]
    has_several = any(image.labels and len(image.labels) > 1 for image in images)
    if len(train) < 2 and not has_several and any(image.split == "train" for image in images):
        yield Problem("one_class", f"train has {', '.join(train) or 'no labels'}")
    for name, labels in counts.items():
        for label in sorted(set(labels) - set(train)):
            having = (i for i in images if i.split == name and label in (i.labels or ()))
            yield Problem("unknown_label", f"{label} ({labels[label]} in {name})", tuple(having))
        for label in sorted(set(train) - set(labels)) if labels else []:
            yield Problem("missing_label", f"{label} ({train[label]} in train, 0 in {name})")
    for label, count in sorted(train.items()):
        if count < 2:
            yield Problem("few_images", f"{label} ({count} in train)")
    if train and imbalance(train) > IMBALANCE:
        smallest, largest = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
        yield Problem(
            "imbalance",
            f"{imbalance(train):.3g} times as many {largest} ({train[largest]}) as {smallest} "
            f"({train[smallest]}) in train",
        )


def imbalance(counts: Dict[str, int]) -> float:
    """The ratio of the largest class to the smallest; 1 without classes."""
    return max(counts.values()) / min(counts.values()) if counts else 1


def _problems_of_images(images: Sequence[CheckedImage]) -> Iterator[Problem]:
    readable = [image.facts for image in images if image.facts.error is None]
    modes = Counter(facts.mode for facts in readable)
    # Of a data set of small images, only the much smaller are odd.
    usual = np.median([min(facts.width, facts.height) for facts in readable] or [0])
    for image in images:
        facts = image.facts
        if facts.error is not None:
            yield Problem(_kind_of_error(facts.error), facts.error, (image,))
            continue
        size = f"{facts.width} x {facts.height}"
        shorter, longer = sorted((facts.width, facts.height))
        checks = (
            ("odd_mode", _odd_mode(facts.mode, modes["RGB"] > len(readable) / 2)),
            ("tiny", size if shorter < min(TINY, usual / 2) else ""),
            ("huge", size if facts.width * facts.height > HUGE else ""),
            ("extreme_shape", size if longer > EXTREME_SHAPE * shorter else ""),
            ("animated", f"{facts.frames} frames" if facts.frames > 1 else ""),
            ("rotated", f"orientation {facts.orientation}" if facts.orientation != 1 else ""),
        )
        yield from (Problem(kind, detail, (image,)) for kind, detail in checks if detail)


def _kind_of_error(reason: str) -> str:
    if "(0 bytes)" in reason:
        return "empty_file"
    signs = ("truncated", "end of file", "unrecognized data stream")
    return "truncated" if any(sign in reason.lower() for sign in signs) else "unreadable"


def _odd_mode(mode: str, is_among_colour: bool) -> str:
    """What is odd about a colour mode, "" if nothing is."""
    if mode.startswith(("I", "F")):
        return f"more than 8 bits a channel ({mode})"
    if mode.startswith("P"):
        return f"palette ({mode})"
    if mode == "L" and is_among_colour:
        return "grey among colour"
    return "" if mode in ("RGB", "L", "") else mode


def _problems_of_copies(images: Sequence[CheckedImage]) -> Iterator[Problem]:
    by_pixels = list(_groups(images, lambda image: image.facts.pixels))
    for group in by_pixels:
        if len(group) < 2:
            continue
        labels = {image.labels for image in group} - {None}
        is_leak, is_contradiction = _splits(group) > 1, len(labels) > 1
        if is_leak:
            yield Problem("leakage", images=group)
        if is_contradiction:
            yield Problem("contradiction", images=group)
        if not is_leak and not is_contradiction:
            yield Problem("duplicate", images=group)
    near = near_groups([group[0].facts for group in by_pixels])
    for places in near:
        together = tuple(image for place in places for image in by_pixels[place])
        is_leak = _splits(together) > 1
        yield Problem("near_leakage" if is_leak else "near_duplicate", images=together)


def _splits(images: Iterable[CheckedImage]) -> int:
    return len({image.split for image in images})


def _groups(
    images: Iterable[CheckedImage], key: Callable[[CheckedImage], Hashable]
) -> Iterator[Tuple[CheckedImage, ...]]:
    groups = defaultdict(list)
    for image in images:
        groups[key(image)].append(image)
    return map(tuple, groups.values())


# Near copies.


def difference_hash(grey: Image.Image) -> int:
    """
    The 64 bits of an image that say where, in 8 rows of 9, it grows brighter from left to right:
    dHash (Krawetz 2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html).
    """
    # Shape: (8, 9)
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def near_groups(images: Sequence[Facts]) -> List[List[int]]:
    """
    The places of images that are nearly the same: those whose difference hashes differ in
    `NEAR_BITS` of 64 bits at most, and whose thumbnails correlate by `NEAR_CORRELATION`, with all
    that are like them in turn. An image of one colour is like no other.
    """
    hashes = np.array([facts.difference_hash for facts in images], np.uint64)
    thumbnails = np.frombuffer(b"".join(facts.thumbnail for facts in images), np.uint8)
    thumbnails = thumbnails.reshape(len(images), THUMBNAIL**2)
    pairs = [
        pair[:, _correlations(*thumbnails[pair]) >= NEAR_CORRELATION]
        for pair in _near_pairs(hashes)
    ]
    if not pairs:
        return []
    first, second = np.concatenate(pairs, axis=1)
    edges = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(images),) * 2)
    _, numbers = connected_components(edges, directed=False)
    groups = defaultdict(list)
    for place in np.unique([first, second]).tolist():
        groups[numbers[place]].append(place)
    return list(groups.values())


def _near_pairs(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """
    The places `(2, pairs)` of hashes that differ in few bits; a pair may come several times.

    The bits are dealt into one band more than bits may differ, so two such hashes are equal in one
    band at least: only those that share a band are compared.
    """
    for band in range(BANDS):
        mask = np.uint64(sum(1 << bit for bit in range(band, 64, BANDS)))
        order = np.argsort(hashes & mask, kind="stable")
        starts = np.flatnonzero(np.diff(hashes[order] & mask)) + 1
        for bucket in np.split(order, starts):
            # In blocks, so that a bucket of many takes no memory of many squared.
            for start in range(0, len(bucket) - 1, 256):
                rows = bucket[start : start + 256]
                distances = np.bitwise_count(hashes[rows, None] ^ hashes[None, bucket[start:]])
                near = np.triu(distances <= NEAR_BITS, 1)
                if near.any():
                    row, column = near.nonzero()
                    yield np.stack([rows[row], bucket[start:][column]])


def _correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row with its partner; 0 where one is of one colour."""
    first, second = (
        each - each.mean(1, keepdims=True, dtype=np.float32) for each in (first, second)
    )
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.where(norms > 0, norms, np.inf)

"""Find missing and shared image files without reading the images."""

import os
from itertools import combinations
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.dataset_readers.messages import some
from allencv.data.inspection import Facts, Split
from allencv.data.remote import RemoteImage, is_remote
from allencv.runtime.plurals import numbered

WORDS = {
    "train": "training",
    "validation": "validation",
    "test": "test",
    "calibration": "calibration",
}
PAIRS = tuple(combinations(WORDS, 2))

Identity = Union[int, str]
"""Identifies a file, whatever its path: its inode, or its URL."""


class Files(NamedTuple):
    """The files of a split."""

    missing: Dict[str, str]
    """The files that do not exist or are empty, each with the reason."""
    identities: List[Optional[Identity]]
    """For each image, if known."""


def look_at_files(samples: Sequence[Sample]) -> Files:
    """Return what the file system knows about the files of a split."""
    files = Files({}, [])
    for sample in samples:
        identity: Optional[Identity] = None
        if isinstance(sample.image, RemoteImage):
            identity = sample.image.url
        elif isinstance(sample.image, str) and is_remote(sample.image):
            identity = sample.image
        elif isinstance(sample.image, str):
            try:
                status = os.stat(sample.image)
            except OSError as error:
                files.missing[sample.image] = error.strerror or str(error)
            else:
                if status.st_size == 0:
                    files.missing[sample.image] = "the file is empty (0 bytes)"
                if status.st_ino:  # some file systems have none
                    identity = status.st_dev << 64 | status.st_ino
        files.identities.append(identity)
    return files


def shared_images(splits: Mapping[str, Split], files: Mapping[str, Files]) -> List[str]:
    """
    Return a warning for each pair of splits with common images.

    # Raises

    `ConfigurationError` if the validation or test images are those of training.
    """
    warnings = []
    for first, second in PAIRS:
        if first not in splits or second not in splits:
            continue
        known = set(files[first].identities) - {None}
        identities = files[second].identities
        places = [place for place, each in enumerate(identities) if each in known]
        if not places:
            continue
        is_all = len(places) == len(identities) or len(places) >= len(files[first].identities)
        if first == "train" and is_all:
            how = "" if second == "calibration" else f" (--{second})"
            raise ConfigurationError(
                f"the {second} data ({splits[second].path}) have the images of the training data "
                f"({splits['train'].path}): {len(places)} of "
                f"{numbered(len(identities), 'image')}; expected other images{how}"
            )
        names = [str(splits[second].samples[place].image) for place in places]
        warnings.append(
            f"images in both the {WORDS[first]} and the {WORDS[second]} data, which makes scores "
            f"too good ({len(places)}): {some(names)}"
        )
    return warnings


def copied_images(examined: Mapping[str, Mapping[str, Facts]]) -> List[str]:
    """
    Return a warning for each pair of splits with copies of the same images among those decoded.
    Images of a single colour do not count as copies.
    """
    pixels = {
        split: {name: each.pixels for name, each in facts.items() if _is_comparable(each)}
        for split, facts in examined.items()
    }
    warnings = []
    for first, second in PAIRS:
        known = set(pixels.get(first, {}).values())
        copies = [name for name, each in pixels.get(second, {}).items() if each in known]
        if copies:
            warnings.append(
                f"{WORDS[second]} images with the pixels of {WORDS[first]} images, which makes "
                f"scores too good ({len(copies)} of {len(examined[second])} decoded; "
                f"allencv check-data compares all): {some(copies)}"
            )
    return warnings


def _is_comparable(facts: Facts) -> bool:
    return facts.error is None and not facts.lost and facts.colour is None

"""Looks at the files of all images without reading them: whether they are there, and which."""

import os
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.dataset_readers.messages import some
from allencv.data.inspection import Facts, Split
from allencv.data.remote import RemoteImage, is_remote
from allencv.runtime.plurals import numbered

PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))
WORDS = {"train": "training", "validation": "validation", "test": "test"}

Identity = Union[int, str]
"""What a file has in common with itself under another path: its inode, or its URL."""


class Files(NamedTuple):
    """The files of a split."""

    missing: Dict[str, str]
    """Those that are not there, or empty, each with the reason."""
    identities: List[Optional[Identity]]
    """Of each image, as far as it is known."""


def look_at_files(samples: Sequence[Sample]) -> Files:
    """Return what the file system says about the files of a split, which costs little."""
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
    Return a warning for each two splits that have some of their images in common.

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
            raise ConfigurationError(
                f"the {second} data ({splits[second].path}) have the images of the training data "
                f"({splits['train'].path}): {len(places)} of "
                f"{numbered(len(identities), 'image')}; expected other images (--{second})"
            )
        names = [str(splits[second].samples[place].image) for place in places]
        warnings.append(
            f"images that are in the {WORDS[first]} and in the {WORDS[second]} data, whose scores "
            f"will be too good ({len(places)}): {some(names)}"
        )
    return warnings


def copied_images(examined: Mapping[str, Mapping[str, Facts]]) -> List[str]:
    """
    Return a warning for each two splits that have copies of the same images, among those that were
    decoded. An image of one colour is no copy of another.
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
                f"{WORDS[second]} images whose pixels are those of {WORDS[first]} images, so that "
                f"the scores will be too good ({len(copies)} of {len(examined[second])} decoded; "
                f"allencv check-data compares all): {some(copies)}"
            )
    return warnings


def _is_comparable(facts: Facts) -> bool:
    return facts.error is None and not facts.lost and facts.colour is None

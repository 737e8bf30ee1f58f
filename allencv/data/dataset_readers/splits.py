import hashlib
import logging
import os
import re
import unicodedata
from typing import Any, Dict, List, Optional, Sequence, Set, Union

from allennlp.common import FromParams
from allennlp.common.checks import ConfigurationError

from allencv.common.checks import not_one_of
from allencv.data import remote
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.dataset_readers.messages import some
from allencv.data.dataset_readers.stratification import deal, hold_out, labels_of
from allencv.runtime.plurals import numbered

logger = logging.getLogger(__name__)

PARTS = ("train", "validation")
BY = ("hash", "stratified")


class ImageSplit(FromParams):
    """
    Holds out some of the images of one folder, table or list, so that it serves for training and
    for validation: a share of them, or one of the folds of a cross validation. The two readers get
    the same split, but for its `part`.

    Which side an image falls on depends on its path relative to the root and on the seed alone: it
    is the same on every machine.

    # Parameters

    part : `str`, required
        "train", or "validation" for the images that are held out.
    fraction : `float`, optional (default = `None`)
        How large the share that is held out is: between 0 and 1. 0.2 if there are no `folds`
        either.
    fold : `int`, optional (default = `None`)
        Which of the `folds` is held out; the first is 0. Each image is in exactly one of them.
    folds : `int`, optional (default = `None`)
        Into how many folds of about the same size the images are divided: 2 or more.
    by : `str`, optional (default = `"hash"`)
        "hash" decides on each image by itself, so that images added later move no other; the share
        is met approximately, and a class of few images may be on one side only, which is named in a
        warning. "stratified" holds out the share of each class, rounded, and of a class of two or
        more images at least one is on each side; or it gives each fold as many images of each class
        as the others, up to one. Of images with several labels, the rarest labels come first, and
        the shares of the others are met as well as may be.
    seed : `int`, optional (default = `0`)
        Another seed makes another split.
    group : `str`, optional (default = `None`)
        A regular expression that is searched for in the path of each image relative to the root.
        Images for which it finds the same (in its first group, if it has one) stay on the same
        side: with "(img_[0-9]+)", `img_001_a.jpg` and `img_001_b.jpg` do. An image in which it
        finds nothing is on its own, and named in a warning.

    # Raises

    `ConfigurationError` when read, if the part holds no image, or no path has a `group`.
    """

    def __init__(
        self,
        part: str,
        fraction: Optional[float] = None,
        by: str = "hash",
        seed: int = 0,
        group: Optional[str] = None,
        fold: Optional[int] = None,
        folds: Optional[int] = None,
        of: Optional[Union[str, Dict[str, str]]] = None,
    ) -> None:
        if part not in PARTS:
            raise not_one_of("dataset_reader.split.part", part, PARTS)
        if by not in BY:
            raise not_one_of("dataset_reader.split.by", by, BY)
        _check_folds(fraction, fold, folds)
        self.fraction = 0.2 if fraction is None else fraction
        if not 0 < self.fraction < 1:
            raise ConfigurationError(
                f"dataset_reader.split.fraction is {fraction}; expected more than 0 and less than 1"
            )
        try:
            self.group = None if group is None else re.compile(group)
        except re.error as error:
            raise ConfigurationError(
                f"dataset_reader.split.group is {group!r}; expected a regular expression: {error}"
            ) from None
        self.part = part
        self.fold = fold
        self.folds = folds
        self.by = by
        self.seed = seed
        self.of = of

    def divides(self, data_path: Any) -> bool:
        """Whether the split is of the data at this path."""
        if self.of is None or _real(self.of) == _real(data_path):
            return True
        logger.info("%s is read whole, as dataset_reader.split.of is %s", data_path, self.of)
        return False

    def select(self, samples: Sequence[Sample], names: Sequence[str], place: str) -> List[Sample]:
        """
        The samples of this part, in their order. `names` are their paths relative to the root;
        `place` says in messages where they are from.
        """
        groups = self._groups(names, place)
        held_out = self._held_out(samples, groups)
        is_validation = self.part == "validation"
        chosen = [
            sample for sample, group in zip(samples, groups) if (group in held_out) == is_validation
        ]
        fold = None if self.folds is None else f"fold {self.fold} of {self.folds}"
        if not chosen:
            raise ConfigurationError(
                f"{place}: dataset_reader.split.part '{self.part}' holds none of the "
                f"{numbered(len(samples), 'image')}, with {fold or f'fraction {self.fraction}'} by "
                f"{self.by} and seed {self.seed}; expected at least one"
            )
        part = f"the {self.part} part of {fold or 'the split'}"
        missing = sorted(_labels(samples) - _labels(chosen))
        if missing:
            logger.warning("%s: %s has no image of %s", place, part, some(missing))
        logger.info(
            '%s: read %s: %d of %d images ("split": null reads all)',
            place,
            part,
            len(chosen),
            len(samples),
        )
        return chosen

    def _held_out(self, samples: Sequence[Sample], groups: Sequence[str]) -> Set[str]:
        shares = {group: self._share(group) for group in groups}
        if self.by == "stratified" and self.folds is None:
            return hold_out(samples, groups, shares, self.fraction)
        if self.folds is None:
            return {group for group, share in shares.items() if share < self.fraction}
        if self.by == "stratified":
            fold_of = deal(samples, groups, shares, self.folds)
        else:
            fold_of = {group: int(share * self.folds) for group, share in shares.items()}
        return {group for group, fold in fold_of.items() if fold == self.fold}

    def _groups(self, names: Sequence[str], place: str) -> List[str]:
        """For each image the name of what it stays together with."""
        names = [unicodedata.normalize("NFC", name.replace(os.sep, "/")) for name in names]
        if self.group is None:
            return names
        number = 1 if self.group.groups else 0
        matches = [self.group.search(name) for name in names]
        found = [match.group(number) if match else None for match in matches]
        alone = [name for name, group in zip(names, found) if group is None]
        if alone:
            what = f"{place}: dataset_reader.split.group {self.group.pattern!r} is found in "
            if len(alone) == len(names):
                raise ConfigurationError(f"{what}none of the paths, such as '{names[0]}'")
            logger.warning("%sall paths but %d: %s", what, len(alone), some(alone))
        return [
            f"alone:{name}" if group is None else f"group:{group}"
            for name, group in zip(names, found)
        ]

    def _share(self, group: str) -> float:
        """A number of [0, 1) that looks random, the same on every machine."""
        key = f"{self.seed}:{group}".encode("utf-8", "surrogateescape")
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        return (number >> 11) / 2**53  # as many bits as a float has, or it could round to 1


def _check_folds(fraction: Optional[float], fold: Optional[int], folds: Optional[int]) -> None:
    if fold is None and folds is None:
        return
    if fold is None or folds is None:
        raise ConfigurationError(
            f"dataset_reader.split.fold is {fold} and folds is {folds}; expected both, such as "
            "fold 0 of folds 5"
        )
    if fraction is not None:
        raise ConfigurationError(
            f"dataset_reader.split.fraction is {fraction} and folds is {folds}; expected one of "
            "them"
        )
    if folds < 2:
        raise ConfigurationError(f"dataset_reader.split.folds is {folds}; expected 2 or more")
    if not 0 <= fold < folds:
        raise ConfigurationError(
            f"dataset_reader.split.fold is {fold}; expected 0 to {folds - 1}, as folds is {folds}"
        )


def _real(data_path: Any) -> Any:
    """A data path, of which files and folders are compared however they are written."""
    if isinstance(data_path, dict):
        return {key: _real(value) if key == "path" else value for key, value in data_path.items()}
    if not isinstance(data_path, (str, os.PathLike)) or remote.is_remote(os.fspath(data_path)):
        return data_path
    return os.path.realpath(os.path.expanduser(data_path))


def _labels(samples: Sequence[Sample]) -> Set[str]:
    return {label for sample in samples for label in labels_of(sample) if label is not None}

import hashlib
import logging
import os
import re
import unicodedata
from typing import Any, Dict, List, Optional, Sequence, Set, Union

from allennlp.common import FromParams
from allennlp.common.checks import ConfigurationError

from allencv.common.nearest_names import not_one_of
from allencv.data import remote
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.dataset_readers.messages import some
from allencv.data.dataset_readers.stratification import deal, hold_out, labels_of
from allencv.runtime.plurals import numbered

logger = logging.getLogger(__name__)

PARTS = ("train", "validation", "calibration")
BY = ("hash", "stratified")


class ImageSplit(FromParams):
    """
    Holds out some images of one folder, table or list for validation: a share of them, or one fold
    of a cross validation, and if asked others for calibration. All readers get the same split with
    a different `part`.

    The side of an image depends only on its path relative to the root and the seed. It is the same
    on every machine.

    # Parameters

    part : `str`, required
        "train", or "validation" for the images held out, or "calibration" for those of
        `calibration_fraction`.
    fraction : `float`, optional (default = `None`)
        The share to hold out, between 0 and 1. By default 0.2, without `folds`.
    fold : `int`, optional (default = `None`)
        The fold to hold out; the first is 0. Each image is in exactly one fold.
    folds : `int`, optional (default = `None`)
        The number of folds of about equal size: 2 or more.
    by : `str`, optional (default = `"hash"`)
        "hash" assigns each image separately, so new images do not move others. The share is
        approximate. A small class may be on one side only, with a warning. "stratified" holds out
        the rounded share of each class. A class of two or more images has at least one on each
        side. With `folds`, all folds have the same number of images of each class, plus or minus
        one. For images with several labels, the rarest labels are split first.
    seed : `int`, optional (default = `0`)
        Another seed makes another split.
    calibration_fraction : `float`, optional (default = `None`)
        The share of all images to hold out for calibration, besides those for validation.
    group : `str`, optional (default = `None`)
        A regular expression, searched for in the path of each image relative to the root. Images
        with the same match (of the first group, if any) stay on the same side: with "(img_[0-9]+)",
        `img_001_a.jpg` and `img_001_b.jpg` do. An image without a match is on its own, with a
        warning.

    # Raises

    `ConfigurationError` when reading, if the part has no images, or no path matches `group`.
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
        calibration_fraction: Optional[float] = None,
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
        rest = 1 - (1 / folds if folds else self.fraction)
        if calibration_fraction is not None and not 0 < calibration_fraction < rest:
            raise ConfigurationError(
                f"dataset_reader.split.calibration_fraction is {calibration_fraction}; expected "
                f"more than 0 and less than the share that is not for validation, {rest:g}"
            )
        if part == "calibration" and calibration_fraction is None:
            raise ConfigurationError(
                "dataset_reader.split.part is 'calibration', but there is no calibration_fraction; "
                "expected one, in the splits of all readers"
            )
        self.calibration_fraction = calibration_fraction
        self.of_rest = (calibration_fraction or 0) / rest
        self.part = part
        self.fold = fold
        self.folds = folds
        self.by = by
        self.seed = seed
        self.of = of

    def divides(self, data_path: Any) -> bool:
        """Return whether the split applies to the data at this path."""
        if self.of is None or _real(self.of) == _real(data_path):
            return True
        logger.info("%s is read in full, as dataset_reader.split.of is %s", data_path, self.of)
        return False

    def select(self, samples: Sequence[Sample], names: Sequence[str], place: str) -> List[Sample]:
        """
        Return the samples of this part, in their order. `names` are their paths relative to the
        root; messages call their source `place`.
        """
        groups = self._groups(names, place)
        held_out = self._held_out(samples, groups)
        for_calibration = self._for_calibration(samples, groups, held_out)
        part_of = dict.fromkeys(for_calibration, "calibration")
        part_of |= dict.fromkeys(held_out, "validation")
        chosen = [
            sample
            for sample, group in zip(samples, groups)
            if part_of.get(group, "train") == self.part
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

    def _for_calibration(
        self, samples: Sequence[Sample], groups: Sequence[str], held_out: Set[str]
    ) -> Set[str]:
        """Return the groups for calibration, among those that are not held out for validation."""
        if self.calibration_fraction is None:
            return set()
        rest = [place for place, group in enumerate(groups) if group not in held_out]
        names = [groups[place] for place in rest]
        # Another number than that for validation, by which they were held out.
        shares = {group: self._share(f"calibration:{group}") for group in names}
        if self.by == "hash":
            return {group for group, share in shares.items() if share < self.of_rest}
        return hold_out([samples[place] for place in rest], names, shares, self.of_rest)

    def _groups(self, names: Sequence[str], place: str) -> List[str]:
        """Return the name of the group of each image."""
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
        """Return a pseudorandom number in [0, 1), the same on every machine."""
        key = f"{self.seed}:{group}".encode("utf-8", "surrogateescape")
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        return (number >> 11) / 2**53  # the precision of a float; more bits could round to 1


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
    """Return a data path with its files and folders in a unique form, for comparison."""
    if isinstance(data_path, dict):
        return {key: _real(value) if key == "path" else value for key, value in data_path.items()}
    if not isinstance(data_path, (str, os.PathLike)) or remote.is_remote(os.fspath(data_path)):
        return data_path
    return os.path.realpath(os.path.expanduser(data_path))


def _labels(samples: Sequence[Sample]) -> Set[str]:
    return {label for sample in samples for label in labels_of(sample) if label is not None}

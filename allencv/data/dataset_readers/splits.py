import hashlib
import logging
import os
import re
import unicodedata
from collections import Counter, defaultdict
from typing import Dict, List, Optional, Sequence, Set

from allennlp.common import FromParams
from allennlp.common.checks import ConfigurationError

from allencv.common.checks import not_one_of
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.dataset_readers.listing import some

logger = logging.getLogger(__name__)

PARTS = ("train", "validation")
BY = ("hash", "stratified")


class ImageSplit(FromParams):
    """
    Holds out a share of the images of one folder, table or list, so that it serves for training and
    for validation. The two readers get the same split, but for its `part`.

    Which side an image falls on depends on its path relative to the root and on the seed alone: it
    is the same on every machine.

    # Parameters

    part : `str`, required
        "train", or "validation" for the images that are held out.
    fraction : `float`, optional (default = `0.2`)
        How large the share that is held out is: between 0 and 1.
    by : `str`, optional (default = `"hash"`)
        "hash" decides on each image by itself, so that images added later move no other; the share
        is met approximately, and a class of few images may be on one side only, which is named in a
        warning. "stratified" holds out the share of each class, rounded, and of a class of two or
        more images at least one is on each side. Of images with several labels, the rarest labels
        come first, and the shares of the others are met as well as may be.
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
        fraction: float = 0.2,
        by: str = "hash",
        seed: int = 0,
        group: Optional[str] = None,
    ) -> None:
        if part not in PARTS:
            raise not_one_of("dataset_reader.split.part", part, PARTS)
        if by not in BY:
            raise not_one_of("dataset_reader.split.by", by, BY)
        if not 0 < fraction < 1:
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
        self.fraction = fraction
        self.by = by
        self.seed = seed

    def select(self, samples: Sequence[Sample], names: Sequence[str], place: str) -> List[Sample]:
        """
        The samples of this part, in their order. `names` are their paths relative to the root;
        `place` says in messages where they are from.
        """
        groups = self._groups(names, place)
        shares = {group: self._share(group) for group in groups}
        if self.by == "hash":
            held_out = {group for group, share in shares.items() if share < self.fraction}
        else:
            held_out = _stratified(samples, groups, shares, self.fraction)
        is_validation = self.part == "validation"
        chosen = [
            sample for sample, group in zip(samples, groups) if (group in held_out) == is_validation
        ]
        if not chosen:
            raise ConfigurationError(
                f"{place}: dataset_reader.split.part '{self.part}' holds none of the "
                f"{len(samples)} images, with fraction {self.fraction} by {self.by} and seed "
                f"{self.seed}; expected at least one"
            )
        missing = sorted(set(_counts(samples)) - set(_counts(chosen)))
        if missing:
            logger.warning(
                "%s: the %s part of the split has no image of %s", place, self.part, some(missing)
            )
        logger.info(
            '%s: read the %s part of a split: %d of %d images ("split": null reads all)',
            place,
            self.part,
            len(chosen),
            len(samples),
        )
        return chosen

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
        """A number between 0 and 1 that looks random, the same on every machine."""
        key = f"{self.seed}:{group}".encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64


def _labels(sample: Sample) -> Sequence[Optional[str]]:
    """What a sample is counted under: `None` if it has no label."""
    return sample.labels or (sample.label,)


def _counts(samples: Sequence[Sample]) -> Dict[str, int]:
    labels = Counter(label for sample in samples for label in _labels(sample))
    return {label: count for label, count in labels.items() if label is not None}


def _stratified(
    samples: Sequence[Sample], groups: Sequence[str], shares: Dict[str, float], fraction: float
) -> Set[str]:
    """
    The groups that are held out: label by label from the rarest, in the order of their shares,
    until the label has its fraction; what of it is left then is not held out.
    """
    sizes: Dict[Optional[str], Dict[str, int]] = defaultdict(Counter)
    for sample, group in zip(samples, groups):
        for label in _labels(sample):
            sizes[label][group] += 1
    totals = {label: sum(of_label.values()) for label, of_label in sizes.items()}
    is_held_out: Dict[str, bool] = {}
    for label in sorted(sizes, key=lambda label: (totals[label], label is None, label or "")):
        of_label, total = sizes[label], totals[label]
        # One image at least on each side where there are two; half an image is held out.
        target = min(max(int(fraction * total + 0.5), 1), total - 1)
        undecided = sorted((g for g in of_label if g not in is_held_out), key=lambda g: shares[g])
        held = sum(size for group, size in of_label.items() if is_held_out.get(group))
        for group in undecided:
            size = of_label[group]
            # Nearer to the target with it than without, and something is left to train on.
            is_held_out[group] = size <= 2 * (target - held) and held + size < total
            held += size if is_held_out[group] else 0
        if held == 0 and undecided and len(of_label) > 1:
            is_held_out[min(undecided, key=lambda group: of_label[group])] = True
    return {group for group, held_out in is_held_out.items() if held_out}

"""
Finds problems with the images and labels of a dataset before training, based on the facts that
`allencv.data.inspection` collects.
"""

from collections import Counter, defaultdict
from typing import (
    Callable,
    Dict,
    Hashable,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Sequence,
    Tuple,
)

import numpy as np

from allencv.common.label_text import shown, spelling, why_unwritable
from allencv.data.inspection import CheckedImage, Facts, Split
from allencv.data.near_copies import near_groups
from allencv.runtime.unidentified_files import NEEDS_AVIF, NEEDS_HEIF

TINY, HUGE, EXTREME_SHAPE = 32, 40_000_000, 4
"""Limits: shorter side in pixels, number of pixels, ratio of the sides."""
DARK, BLANK = 30, 8
"""
Limits in grey levels of 0 to 255: in a dark image 99% of the pixels are at most `DARK`; in a blank
image 99% of the pixels span at most `BLANK` levels.
"""
IMBALANCE = 10
"""Report a ratio of the largest class to the smallest above this."""


class Problem(NamedTuple):
    """A problem of a `kind` (see `KINDS`), with the images it concerns, if any."""

    kind: str
    detail: str = ""
    images: Tuple[CheckedImage, ...] = ()


class Kind(NamedTuple):
    title: str
    is_fatal: bool
    advice: str


KINDS = {
    "empty_split": Kind(
        "splits without images", True, "Check the path of the split and the patterns of the reader."
    ),
    "one_class": Kind("fewer than two classes", True, "Check the path and the labels."),
    "unknown_label": Kind(
        "labels missing from training",
        True,
        "The model cannot predict these labels. Add training images or correct the labels.",
    ),
    "unwritable_label": Kind(
        "labels that cannot be written",
        True,
        "Training refuses these labels. Rename their folders or correct the table.",
    ),
    "empty_file": Kind("files of 0 bytes", True, "Download them again or remove them."),
    "truncated": Kind("truncated files", True, "Download them again or remove them."),
    "unreadable": Kind(
        "unreadable files", True, "Download them again, convert them or remove them."
    ),
    "needs_package": Kind(
        "images that need another package",
        True,
        "Install the package or convert the files to JPEG or PNG.",
    ),
    "leakage": Kind(
        "exact copies in several splits",
        True,
        "The scores will be too high. Keep each image in one split only.",
    ),
    "contradiction": Kind(
        "exact copies with different labels",
        True,
        "Keep the copies with the true label. If it is a website's picture for a missing image, "
        "remove all of them.",
    ),
    "near_leakage": Kind(
        "near copies in several splits", False, "Look at them; keep such images in one split."
    ),
    "feature_leakage": Kind(
        "near copies in several splits, by features",
        False,
        "Cropped, mirrored or edited copies, or photos of one series. Look at them; keep such "
        "images in one split.",
    ),
    "feature_contradiction": Kind(
        "near copies with different labels, by features",
        False,
        "Look at them. If they show the same thing, one of the labels is wrong.",
    ),
    "duplicate": Kind("exact copies within a split", False, "Each copy counts. Keep one of each."),
    "near_duplicate": Kind(
        "near copies within a split", False, "Look at them, especially if the labels differ."
    ),
    "feature_duplicate": Kind(
        "near copies within a split, by features",
        False,
        "Cropped, mirrored or edited copies, or photos of one series. Each of them counts.",
    ),
    "label_suspect": Kind(
        "images among another label",
        False,
        "A classifier that was fitted without the image expects another label. Look at them, and "
        "correct wrong labels.",
    ),
    "missing_label": Kind(
        "training labels missing from another split",
        False,
        "The scores of that split do not cover them.",
    ),
    "similar_labels": Kind(
        "labels that look the same",
        False,
        "They differ only in case, spaces or the form of a letter: if they mean the same, rename "
        "one.",
    ),
    "few_images": Kind(
        "classes of fewer than 2 training images", False, "Add images or remove the class."
    ),
    "imbalance": Kind(
        "imbalanced classes", False, "Use class weights or look at the metrics of each class."
    ),
    "lost_range": Kind(
        "images that lose their range",
        False,
        "Set value_range in dataset_reader and validation_dataset_reader to the values of black "
        "and white. Such images are not compared with others, unless their values are equal.",
    ),
    "outlier": Kind(
        "images unlike all others",
        False,
        "Check that they belong in the data. Rare but correct images are worth keeping.",
    ),
    "constant": Kind(
        "constant images, of one colour", False, "The model cannot learn from them. Remove them."
    ),
    "dark": Kind("dark images", False, "Check that they show something."),
    "blank": Kind("nearly blank images", False, "Check that they show something."),
    "odd_mode": Kind(
        "odd colour modes",
        False,
        "They are converted to color_mode: transparency is laid over white, more than 8 bits are "
        "mapped by value_range, CMYK is converted without its profile. Check that they look "
        "right.",
    ),
    "tiny": Kind("tiny images", False, "They show few details. Use larger images."),
    "huge": Kind("huge images", False, "They are slow to decode. Shrink the files once."),
    "extreme_shape": Kind(
        "extreme shapes", False, "A square crop loses most of the image. Crop or remove them."
    ),
    "animated": Kind("files with several frames", False, "Only the first frame is used."),
    "rotated": Kind(
        "images turned by EXIF", False, "AllenCV turns them upright; other programs may not."
    ),
}
"""The kinds of problems, most serious first. After a fatal one, training would fail or mislead."""


def find_problems(splits: Sequence[Split], images: Sequence[CheckedImage]) -> List[Problem]:
    """Return all problems in the data, most serious kind first."""
    problems = [
        *_problems_of_labels({split.name: split.samples.labels() for split in splits}, images),
        *(Problem("empty_split", split.name) for split in splits if not len(split.samples)),
        *_problems_of_images(images),
        *_problems_of_copies([image for image in images if image.facts.error is None]),
    ]
    return by_kind(problems)


def by_kind(problems: Iterable[Problem]) -> List[Problem]:
    """Return problems with the most serious kind first, those of a kind in their order."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(problems, key=lambda problem: order[problem.kind])


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
    for name, labels in counts.items():
        for label, count in sorted(labels.items()):
            reason = why_unwritable(label)
            if reason is not None:
                yield Problem("unwritable_label", f"'{shown(label)}' ({count} in {name}): {reason}")
    yield from _similar_labels(counts)
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


def _similar_labels(counts: Dict[str, Dict[str, int]]) -> Iterator[Problem]:
    spellings = defaultdict(set)
    for label in (label for labels in counts.values() for label in labels):
        spellings[spelling(label)].add(label)
    for labels in spellings.values():
        if len(labels) < 2:
            continue
        described = []
        for label in sorted(labels):
            where = [f"{each[label]} in {name}" for name, each in counts.items() if label in each]
            described.append(f"'{shown(label)}' ({', '.join(where)})")
        yield Problem("similar_labels", ", ".join(described))


def similar_labels(labels: Dict[str, int], split: str = "train") -> List[str]:
    """Describe each group of labels that look the same, with their numbers of images."""
    return [problem.detail for problem in _similar_labels({split: labels})]


def imbalance(counts: Dict[str, int]) -> float:
    """Return the ratio of the largest class to the smallest; 1 without classes."""
    return max(counts.values()) / max(min(counts.values()), 1) if counts else 1


def _problems_of_images(images: Sequence[CheckedImage]) -> Iterator[Problem]:
    readable = [image.facts for image in images if image.facts.error is None]
    modes = Counter(facts.mode for facts in readable)
    # In a dataset of small images, only much smaller ones are odd.
    usual = np.median([min(facts.width, facts.height) for facts in readable] or [0])
    for image in images:
        facts = image.facts
        if facts.error is not None:
            yield Problem(_kind_of_error(facts.error), facts.error, (image,))
            continue
        size = f"{facts.width} x {facts.height}"
        shorter, longer = sorted((facts.width, facts.height))
        checks = (
            ("lost_range", facts.lost),
            *_contrast(facts),
            ("odd_mode", _odd_mode(facts.mode, modes["RGB"] > len(readable) / 2)),
            ("tiny", size if shorter < min(TINY, usual / 2) else ""),
            ("huge", size if facts.width * facts.height > HUGE else ""),
            ("extreme_shape", size if longer > EXTREME_SHAPE * shorter else ""),
            ("animated", f"{facts.frames} frames" if facts.frames > 1 else ""),
            ("rotated", f"orientation {facts.orientation}" if facts.orientation != 1 else ""),
        )
        yield from (Problem(kind, detail, (image,)) for kind, detail in checks if detail)


def _contrast(facts: Facts) -> Iterator[Tuple[str, str]]:
    """Describe what is odd about the brightness, except for images that lose their range."""
    if facts.lost:
        return
    most = f"99% of the pixels have grey levels from {facts.darkest} to {facts.brightest} of 255"
    if facts.colour is not None:
        yield "constant", f"every pixel is {facts.colour}"
    elif facts.brightest <= DARK:
        yield "dark", most
    elif facts.brightest - facts.darkest <= BLANK:
        yield "blank", most


def _kind_of_error(reason: str) -> str:
    if reason in (NEEDS_HEIF, NEEDS_AVIF):
        return "needs_package"
    if "(0 bytes)" in reason:
        return "empty_file"
    signs = ("truncated", "end of file", "unrecognized data stream")
    return "truncated" if any(sign in reason.lower() for sign in signs) else "unreadable"


def _odd_mode(mode: str, is_among_colour: bool) -> str:
    """Describe what is odd about a colour mode; "" if nothing is."""
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
    # Decoding made these values equal, so they do not show that images are alike.
    comparable = [group for group in by_pixels if not group[0].facts.lost]
    near = near_groups(
        [group[0].facts.difference_hash for group in comparable],
        [group[0].facts.thumbnail for group in comparable],
    )
    for places in near:
        together = tuple(image for place in places for image in comparable[place])
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

"""Recognise names of folders, files and rows for training, validation, test and calibration."""

import re
from typing import Dict, List, Optional, Tuple

PARTS = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
    "calibration": ("calibration", "calib"),
}
"""The names of each part, in lower case."""


def part_of(name: str) -> Optional[str]:
    """Return the key of `PARTS` whose names have this one, if any."""
    return next((part for part, names in PARTS.items() if name.strip().lower() in names), None)


def part_in(name: str) -> Optional[str]:
    """Return the part that a word of a name means: seg_train, test1, ValidationSet, trainset."""
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    parts = {part_of(re.sub("(set|data|images?|imgs?)$", "", word.lower())) for word in words}
    parts.discard(None)
    return parts.pop() if len(parts) == 1 else None


def group_by_part(named: List[Tuple[str, str]]) -> Dict[str, List[str]]:
    """Group the named paths by part."""
    found: Dict[str, List[str]] = {}
    for name, path in named:
        if part := part_of(name):
            found.setdefault(part, []).append(path)
    return found

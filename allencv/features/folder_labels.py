"""Find the labels of images in the names of their folders."""

import os
from itertools import takewhile
from typing import Dict, Iterable, List, Optional, Sequence

from allencv.data.split_names import part_of

Steps = List[str]
"""The names of the folders on the way to an image."""


def labels_of(paths: Sequence[str], names: Sequence[str]) -> List[Optional[str]]:
    """
    Return the label of each image: the folder that it is in, of those below the folder in `paths`.
    Folders that all images share, and folders for training, validation and test, are not labels. An
    image has none outside these folders, and directly in one.
    """
    label_of = _labels_of_folders(paths, {os.path.dirname(name) for name in names})
    return [label_of.get(os.path.dirname(name)) for name in names]


def _labels_of_folders(paths: Iterable[str], folders: Iterable[str]) -> Dict[str, Optional[str]]:
    """Return the label of the images in each of the folders that are below one of `paths`."""
    label_of: Dict[str, Optional[str]] = {}
    for path in filter(os.path.isdir, paths):
        steps = {folder: _below(path, folder) for folder in folders if folder not in label_of}
        inside = {folder: each for folder, each in steps.items() if each is not None}
        label_of |= zip(inside, _labels(list(inside.values())))
    return label_of


def _below(path: str, folder: str) -> Optional[Steps]:
    """Return the way from `path` to a folder, or `None` if the folder is outside it."""
    steps = os.path.relpath(folder or os.curdir, path).split(os.sep)
    if steps[0] == os.pardir:
        return None
    return [] if steps == [os.curdir] else steps


def _labels(folders: List[Steps]) -> List[Optional[str]]:
    start = min([_shared(folders), *(len(steps) - 1 for steps in folders if steps)])
    inner: Dict[str, List[Steps]] = {}
    for steps in folders:
        if steps:
            inner.setdefault(steps[start], []).append(steps[start + 1 :])
    splits = {name for name in inner if part_of(name)}
    if not any(all(inner[name]) for name in splits):
        splits = set()  # classes of these names
    in_splits = [steps[start + 1 :] for steps in folders if steps and steps[start] in splits]
    labels = iter(_labels(in_splits) if in_splits else [])
    names = [steps[start] if steps else None for steps in folders]
    return [next(labels) if name in splits else name for name in names]


def _shared(folders: List[Steps]) -> int:
    """Return the number of folders that all ways begin with."""
    return sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, zip(*folders)))

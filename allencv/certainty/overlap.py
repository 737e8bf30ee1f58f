"""Find images that two data sets share."""

import os
from pathlib import Path
from typing import Dict, Iterable, Set

from allencv.runtime.bundle import sha256_of


def count_shared(names: Iterable[str], others: Iterable[str]) -> int:
    """
    Return how many of the files `names` are among `others`: the same file, or one of the same
    content. Names that are no files here, such as members of shards, are compared as names.
    """
    names = list(names)
    by_size: Dict[int, Set[str]] = {}
    own = {name: _size(name) for name in names}
    sizes = set(own.values()) - {None}
    known = set()
    for other in others:
        known.add(_real(other))
        if (size := _size(other)) in sizes and size is not None:
            by_size.setdefault(size, set()).add(other)
    digests = {size: {sha256_of(Path(each)) for each in files} for size, files in by_size.items()}
    return sum(
        _real(name) in known
        or (size is not None and size in digests and sha256_of(Path(name)) in digests[size])
        for name, size in own.items()
    )


def _size(name: str) -> "int | None":
    return os.path.getsize(name) if os.path.isfile(name) else None


def _real(name: str) -> str:
    return os.path.realpath(name) if os.path.exists(name) else name

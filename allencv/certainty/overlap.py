"""Find images that two data sets share."""

import logging
import os
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set

from allennlp.common.checks import ConfigurationError

from allencv.common.quiet import quiet
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.dataset_readers.image_dataset_reader import described
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


def count_trained(
    names: Iterable[str], config: Mapping[str, Any], readers: Mapping[str, ImageDatasetReader]
) -> Optional[int]:
    """
    Return how many of the files `names` also trained a model or chose its epoch; `None` if the
    images that did are not here.

    # Parameters

    config : `Mapping[str, Any]`
        Of the model.
    readers : `Mapping[str, ImageDatasetReader]`
        For the keys of the config that name these images.
    """
    others: List[str] = []
    for key, reader in readers.items():
        path = config.get(key)
        if path is None:
            continue
        try:
            with quiet(logging.WARNING):  # the training has logged it
                others += (
                    str(described(each.image, each.metadata)["image"])
                    for each in reader.read_samples(path)
                )
        except (ConfigurationError, OSError):
            return None
    return count_shared(names, others)


def _size(name: str) -> Optional[int]:
    return os.path.getsize(name) if os.path.isfile(name) else None


def _real(name: str) -> str:
    return os.path.realpath(name) if os.path.exists(name) else name

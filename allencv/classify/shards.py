"""
Divide a list of images among several jobs, and say beside each job's output which part it is.

A part is a run of whole batches of the list. So the joined parts keep the order of the list, and
each image is computed in the same batch as without parts.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

from allencv.classify.output_files import NOT_UNICODE
from allencv.classify.partial_output import file_stamp
from allencv.runtime.bundle import sha256_of
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile
from allencv.runtime.json_files import read_json
from allencv.runtime.whole_files import write_text

DESCRIPTION = ".shard"
"""What the name of a part's description adds to that of its output."""
MOST_SIZES = 10_000
"""The most images whose sizes are compared, as each costs a request on a network drive."""


class Shard(NamedTuple):
    """Which part a job takes: `number`, from 1, `of` a number of parts."""

    number: int
    of: int


class Part(NamedTuple):
    """The description of a part, in `{output}.shard`."""

    shard: int
    shards: int
    all_images: str
    """The `list_digest` of the list that the shards divide."""
    sizes: List[Optional[int]]
    """The `file_sizes` of that list."""
    answers: Dict[str, Any]
    """What the answers depend on."""
    columns: Dict[str, str]
    sha256: str
    """Of the output."""


def parse_shard(text: str) -> Shard:
    """Parse `3/16`. Raise `InputError`."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(
            f"--shard is '{text}'; expected K/N with K from 1 to N, such as 1/16 to 16/16"
        )
    return Shard(int(found[1]), int(found[2]))


def images_of(shard: Shard, images: Sequence[ImageFile], batch_size: int) -> List[ImageFile]:
    """Return the images of one part, in order. With few images the last parts are empty."""
    batches = -(-len(images) // batch_size)
    first, end = (-(-batches * k // shard.of) for k in (shard.number - 1, shard.number))
    return list(images[first * batch_size : end * batch_size])


def list_digest(names: Iterable[str]) -> str:
    """Return a checksum of the names of images, in order, as tables show them."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", NOT_UNICODE) + b"\0")
    return digest.hexdigest()


def compared(count: int) -> range:
    """Return the places in a list of `count` images whose sizes are compared, evenly spaced."""
    return range(0, count, max(1, -(-count // MOST_SIZES)))


def file_sizes(images: Sequence[ImageFile]) -> List[Optional[int]]:
    """Return the numbers of bytes of the `compared` images; `None` for a missing file."""
    stamps = (file_stamp(images[place].file) for place in compared(len(images)))
    return [None if stamp is None else stamp[0] for stamp in stamps]


def forget_part(output: str) -> None:
    """Remove the description of an older output, before a new output replaces it."""
    Path(output + DESCRIPTION).unlink(missing_ok=True)


def describe_part(
    output: str,
    shard: Shard,
    digest: str,
    sizes: List[Optional[int]],
    answers: Mapping[str, object],
    columns: Dict[str, str],
) -> None:
    """Write the description of a part whose output is complete."""
    part = Part(*shard, digest, sizes, dict(answers), columns, sha256_of(Path(output)))
    write_text(output + DESCRIPTION, json.dumps(part._asdict()) + "\n")


def read_part(output: str) -> Part:
    """Read the description of a part. Raise `InputError`, also if the output has changed since."""
    file = output + DESCRIPTION
    if not os.path.exists(output):
        raise InputError(f"'{output}' does not exist; expected a part of 'classify --shard'")
    if not os.path.exists(file):
        raise InputError(
            f"'{output}' has no '{file}' beside it; expected a finished part of 'classify --shard'"
        )
    try:
        part = Part(**read_json(file))
    except (TypeError, ValueError):
        raise InputError(f"'{file}' is damaged; classify this part again") from None
    if part.sha256 != sha256_of(Path(output)):
        raise InputError(f"'{output}' has changed since it was written; classify this part again")
    return part

"""Read and write a `Certainty` as two files of an archive or a bundle."""

import hashlib
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from allencv.runtime.certainty.certainty import Certainty
from allencv.runtime.certainty.label_sets import KINDS, LabelSets
from allencv.runtime.certainty.scaling import Scaling
from allencv.runtime.certainty.selection import Selection
from allencv.runtime.certainty.unknown_rule import ARRAYS, UnknownRule
from allencv.runtime.errors import BundleError
from allencv.runtime.json_checks import (
    Check,
    check_items,
    is_count,
    is_list,
    is_number,
    is_share,
    is_text,
    one_of,
)
from allencv.runtime.json_files import parse_json
from allencv.runtime.manifest import TOLERANCES
from allencv.runtime.regular_files import check_regular
from allencv.runtime.whole_files import whole_file

JSON, ARRAYS_FILE = "certainty.json", "certainty.npz"
FILES = (JSON, ARRAYS_FILE)
"""The names of the files."""
VERSION = 1
LARGEST_JSON = 2**24
"""16 MiB: limits for each of 20,000 labels take half a megabyte."""
LARGEST = 2**30
"""Bytes of all arrays: 2 million numbers for each of 100 labels are a fifth of it."""
ARRAYS_SHA256 = "arrays_sha256"
"""The key of the SHA-256 of the arrays."""
UNKNOWN = "unknown."
"""Begins the names of the arrays of `Certainty.unknown`."""


def write_certainty(folder: Path, certainty: Certainty) -> None:
    """
    Write `certainty.json` and `certainty.npz` to a folder, each as a whole or not at all. If they
    are not of one calibration, as after an end in between, `read_certainty` refuses them.
    """
    content = {"certainty_version": VERSION, **asdict(certainty)}
    arrays = {name: content.pop(name) for name in ("known_scores", "label_counts")}
    if certainty.unknown is not None:
        arrays |= {f"{UNKNOWN}{name}": array for name, array in certainty.unknown.arrays.items()}
        content["unknown"].pop("arrays")
    # The JSON gets its name last: without it there is no calibration.
    with whole_file(folder / JSON) as json_file, whole_file(folder / ARRAYS_FILE) as arrays_file:
        with open(arrays_file, "wb") as file:
            np.savez(file, **arrays)
        content[ARRAYS_SHA256] = _sha256(arrays_file)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        json_file.write_bytes(text.encode("utf-8", "surrogatepass"))


def read_certainty(folder: Path, labels: int, vector_size: Optional[int]) -> Optional[Certainty]:
    """
    Read what `write_certainty` has written, for a model with this number of labels and size of
    vectors (`None` for any size). Return `None` if there is nothing. No code of the files runs.

    # Raises

    `BundleError` if it is damaged, or of another model.
    """
    file = folder / JSON
    if not file.exists():
        return None
    content = _read_json(file)
    arrays = _read_arrays(folder / ARRAYS_FILE)
    expected = content[ARRAYS_SHA256] if isinstance(content, dict) else None
    if isinstance(expected, str) and expected != _sha256(folder / ARRAYS_FILE):
        raise BundleError(
            f"{file}: {ARRAYS_FILE} beside it is of another calibration; calibrate the model again"
        )
    return _certainty(str(file), content, arrays, labels, vector_size)


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read_json(file: Path) -> Any:
    try:
        check_regular(file)
        if (size := file.stat().st_size) > LARGEST_JSON:
            raise ValueError(f"it has {size:,} bytes; expected at most {LARGEST_JSON:,}")
        content = parse_json(file.read_bytes().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{file}: cannot be read: {error}") from None
    if isinstance(content, dict):
        content.setdefault(ARRAYS_SHA256, None)  # older files have none
    return content


def _read_arrays(file: Path) -> Dict[str, np.ndarray]:
    try:
        check_regular(file)
        with zipfile.ZipFile(file) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > LARGEST:
            raise ValueError(f"its arrays have {size:,} bytes; expected at most {LARGEST:,}")
        with np.load(file, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    except Exception as error:  # zipfile, its compressions and numpy each have their own
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise BundleError(f"{file}: cannot be read: {reason:.200}") from None


def _certainty(
    file: str,
    content: Any,
    arrays: Dict[str, np.ndarray],
    labels: int,
    vector_size: Optional[int],
) -> Certainty:
    check_items(file, "", content, CHECKS)
    if content["certainty_version"] != VERSION:
        raise BundleError(
            f"{file}: certainty_version is {content['certainty_version']}; expected {VERSION}: it "
            "was made by another version of allencv"
        )
    parts = {key: content[key] for key in PARTS}
    for key, checks in PARTS.items():
        if parts[key] is not None:
            check_items(file, f"{key}.", parts[key], checks)
    shapes: Dict[str, Tuple[str, ...]] = {"known_scores": ("scores",), "label_counts": ("labels",)}
    if parts["unknown"] is not None:
        needed = ARRAYS[parts["unknown"]["kind"]].items()
        shapes |= {f"{UNKNOWN}{name}": shape for name, shape in needed}
    if others := sorted(set(arrays) - set(shapes)):
        raise BundleError(f"{file}: unknown array {others[0]!r:.80}; expected {', '.join(shapes)}")
    sizes = {"labels": labels}
    if vector_size is not None:
        sizes["vector_size"] = vector_size
    for name, shape in shapes.items():
        _check_array(file, name, arrays.get(name), shape, sizes)
    counts = arrays["label_counts"]
    if counts.min(initial=0) < 0 or counts.max(initial=0) > content["images"]:
        raise BundleError(f"{file}: label_counts has numbers outside 0 to {content['images']}")
    scaling, sets = parts["scaling"], parts["sets"]
    if scaling is not None and not len(scaling["slopes"]) == len(scaling["offsets"]) == labels:
        raise BundleError(
            f"{file}: scaling has {len(scaling['slopes'])} slopes and {len(scaling['offsets'])} "
            f"offsets; expected a slope and an offset for each of {labels} labels"
        )
    if sets is not None and (
        len(sets["limits"]) != len(sets["levels"])
        or not all(len(limits) in (1, labels) for limits in sets["limits"])
    ):
        raise BundleError(
            f"{file}: sets.limits has other numbers of limits than expected: for each of "
            f"{len(sets['levels'])} levels one, or {labels}"
        )
    if "unknown.neighbour" in shapes:
        neighbour, kept = arrays["unknown.neighbour"], sizes["kept"]
        if neighbour.dtype.kind == "f" or not 1 <= neighbour <= kept:
            raise BundleError(f"{file}: unknown.neighbour is {neighbour}; expected 1 to {kept}")
    own = {name.removeprefix(UNKNOWN): arrays[name] for name in shapes if name.startswith(UNKNOWN)}
    return Certainty(
        **{key: content[key] for key in ("images", "data", "precision", "model", "overlap")},
        scaling=scaling and Scaling(**scaling),
        sets=sets and LabelSets(**sets),
        selection=parts["selection"] and Selection(**parts["selection"]),
        unknown=parts["unknown"] and UnknownRule(**parts["unknown"], arrays=own),
        known_scores=arrays["known_scores"],
        label_counts=arrays["label_counts"],
    )


def _check_array(
    file: str,
    name: str,
    array: Optional[np.ndarray],
    shape: Tuple[str, ...],
    sizes: Dict[str, int],
) -> None:
    """
    Raise `BundleError` unless it is an array of finite numbers of a shape. `sizes` has the lengths
    that are known; others are added.
    """
    wanted = " x ".join(str(sizes.get(length, length)) for length in shape) or "one number"
    if array is None or array.dtype.kind not in "fiu" or array.ndim != len(shape):
        raise BundleError(f"{file}: the array {name!r} is missing or malformed; expected {wanted}")
    if 0 in array.shape or any(
        sizes.setdefault(length, given) != given for length, given in zip(shape, array.shape)
    ):
        found = " x ".join(map(str, array.shape))
        raise BundleError(f"{file}: the array {name!r} is {found}; expected {wanted}")
    if not np.isfinite(array).all():
        raise BundleError(f"{file}: the array {name!r} holds numbers that are not finite")


def _is_inside(value: Any) -> bool:
    return is_number(value) and 0 < value < 1


SHARE: Check = (is_share, "a number in [0, 1]")
INSIDE: Check = (_is_inside, "a number in (0, 1)")
NUMBER: Check = (is_number, "a number")
NUMBERS: Check = (lambda value: is_list(value, is_number), "a list of numbers")
PART: Check = (lambda value: value is None or isinstance(value, dict), "null or a JSON object")
COUNT: Check = (is_count, "a whole number")
PARTS: Dict[str, Dict[str, Check]] = {
    "scaling": {
        "slopes": (
            lambda value: is_list(value, lambda each: is_number(each) and each > 0),
            "a list of positive numbers",
        ),
        "offsets": NUMBERS,
    },
    "sets": {
        "kind": one_of(*KINDS),
        "levels": (lambda value: is_list(value, _is_inside), "a list of numbers in (0, 1)"),
        "limits": (
            lambda value: is_list(value, lambda each: is_list(each, is_number)),
            "a list of lists of numbers",
        ),
        "penalty": NUMBER,
        "free_ranks": COUNT,
    },
    "selection": {
        "target_accuracy": INSIDE,
        "certainty": INSIDE,
        "least_confidence": SHARE,
        "coverage": SHARE,
        "accuracy": SHARE,
    },
    "unknown": {"kind": one_of(*ARRAYS), "limit": NUMBER, "known_share": INSIDE},
}
CHECKS: Dict[str, Check] = {
    "certainty_version": COUNT,
    "images": COUNT,
    "data": (is_text, "a text"),
    "precision": one_of(*TOLERANCES),
    "model": (is_text, "the checksum of the weights"),
    ARRAYS_SHA256: (lambda value: value is None or is_text(value), "a checksum"),
    "overlap": (lambda value: value is None or is_count(value), "null or a whole number"),
    **dict.fromkeys(PARTS, PART),
}

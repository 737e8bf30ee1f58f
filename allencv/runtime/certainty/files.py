"""Read and write a `Certainty` as two files of an archive or a bundle."""

import json
import math
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
    is_share,
    is_text,
    one_of,
)
from allencv.runtime.json_files import parse_json
from allencv.runtime.manifest import TOLERANCES
from allencv.runtime.regular_files import check_regular

JSON, ARRAYS_FILE = "certainty.json", "certainty.npz"
FILES = (JSON, ARRAYS_FILE)
"""The names of the files."""
VERSION = 1
LARGEST = 2**30
"""Bytes of all arrays: 2 million numbers for each of 100 labels are a fifth of it."""
UNKNOWN = "unknown."
"""Begins the names of the arrays of `Certainty.unknown`."""


def write_certainty(folder: Path, certainty: Certainty) -> None:
    """Write `certainty.json` and `certainty.npz` to a folder."""
    content = {"certainty_version": VERSION, **asdict(certainty)}
    arrays = {name: content.pop(name) for name in ("known_scores", "label_counts")}
    if certainty.unknown is not None:
        arrays |= {f"{UNKNOWN}{name}": array for name, array in certainty.unknown.arrays.items()}
        content["unknown"].pop("arrays")
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with open(folder / ARRAYS_FILE, "wb") as file:
        np.savez(file, **arrays)
    (folder / JSON).write_bytes(text.encode("utf-8", "surrogatepass"))


def read_certainty(folder: Path, labels: int, vector_size: Optional[int]) -> Optional[Certainty]:
    """
    Read what `write_certainty` has written, for a model with this number of labels and size of
    vectors. Return `None` if there is nothing. No code of the files runs.

    # Raises

    `BundleError` if it is damaged, or of another model.
    """
    file = folder / JSON
    if not file.exists():
        return None
    try:
        check_regular(file)
        content = parse_json(file.read_bytes().decode("utf-8", "surrogatepass"))
        arrays = _read_arrays(folder / ARRAYS_FILE)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise BundleError(f"{file}: cannot be read: {error}") from None
    return _certainty(str(file), content, arrays, labels, vector_size)


def _read_arrays(file: Path) -> Dict[str, np.ndarray]:
    check_regular(file)
    with zipfile.ZipFile(file) as members:
        size = sum(member.file_size for member in members.infolist())
    if size > LARGEST:
        raise ValueError(f"its arrays have {size:,} bytes; expected at most {LARGEST:,}")
    with np.load(file, allow_pickle=False) as opened:
        return {name: opened[name] for name in opened.files}


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
    shapes: Dict[str, Tuple[Any, ...]] = {"known_scores": (None,), "label_counts": (labels,)}
    if parts["unknown"] is not None:
        sizes = {"labels": labels, "vector_size": vector_size}
        wanted = ARRAYS[parts["unknown"]["kind"]].items()
        shapes |= {f"{UNKNOWN}{name}": tuple(map(sizes.get, shape)) for name, shape in wanted}
    for name, shape in shapes.items():
        _check_array(file, name, arrays, shape)
    scaling, sets = parts["scaling"], parts["sets"]
    if scaling is not None and not len(scaling["slopes"]) == len(scaling["offsets"]) == labels:
        raise BundleError(f"{file}: scaling has not a slope and an offset for {labels} labels")
    if sets is not None and (
        len(sets["limits"]) != len(sets["levels"])
        or not all(len(limits) in (1, labels) for limits in sets["limits"])
    ):
        raise BundleError(f"{file}: sets.limits has not one limit, or {labels}, for each level")
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
    file: str, name: str, arrays: Dict[str, np.ndarray], shape: Tuple[Optional[int], ...]
) -> None:
    """Raise `BundleError` unless there is an array of finite numbers; `None` is any length."""
    array = arrays.get(name)
    wanted = " x ".join("any" if length is None else str(length) for length in shape) or "1 number"
    if array is None or array.dtype.kind not in "fiu" or array.ndim != len(shape):
        raise BundleError(f"{file}: the array {name!r} is missing or malformed; expected {wanted}")
    if any(length not in (None, given) for length, given in zip(shape, array.shape)):
        raise BundleError(f"{file}: the array {name!r} is {array.shape}; expected {wanted}")
    if not np.isfinite(array).all():
        raise BundleError(f"{file}: the array {name!r} holds numbers that are not finite")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_inside(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1


SHARE: Check = (is_share, "a number in [0, 1]")
INSIDE: Check = (_is_inside, "a number in (0, 1)")
NUMBER: Check = (_is_number, "a number")
NUMBERS: Check = (lambda value: is_list(value, _is_number), "a list of numbers")
PART: Check = (lambda value: value is None or isinstance(value, dict), "null or a JSON object")
COUNT: Check = (is_count, "a whole number")
PARTS: Dict[str, Dict[str, Check]] = {
    "scaling": {
        "slopes": (
            lambda value: is_list(value, lambda each: _is_number(each) and each > 0),
            "a list of positive numbers",
        ),
        "offsets": NUMBERS,
    },
    "sets": {
        "kind": one_of(*KINDS),
        "levels": (lambda value: is_list(value, _is_inside), "a list of numbers in (0, 1)"),
        "limits": (
            lambda value: is_list(value, lambda each: is_list(each, _is_number)),
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
    "overlap": (lambda value: value is None or is_count(value), "null or a whole number"),
    **dict.fromkeys(PARTS, PART),
}

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, List, NoReturn, Optional, Tuple

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
from allencv.runtime.preprocessing import Preprocessing

VERSION = 1
"""The version of the manifest's format."""
TASKS = ("single_label", "multi_label")
MODEL_FILES = {"onnx": "model.onnx", "torch_export": "model.pt2"}
"""The formats of a network, and the name of its file in a bundle."""
TOLERANCES = {"float32": (0.99, 1e-4), "float16": (0.99, 0.02), "int8": (0.95, 1.0)}
"""
How far a bundle may differ from its archive by default, for each precision: the smallest share of
images with the same labels, and the largest difference between probabilities.
"""
NO_CHECKSUM = "0" * 64


@dataclass(frozen=True)
class Parity:
    """
    The comparison of a bundle with its archive at the export.

    # Parameters

    images : the number of images that were compared.
    agreement : the share of images, 0 to 1, with the same label, or the same set.
    largest_difference : between two probabilities of the same label for the same image.
    least_agreement, tolerance : the smallest agreement and largest difference that were allowed.
    decisions : of a calibrated model, the share of images about which all is decided alike: the
        label, the set of labels, and whether the image is unknown and is answered. Decisions that
        differ are within `tolerance` of a limit. Otherwise `None`.
    """

    images: int
    agreement: float
    largest_difference: float
    least_agreement: float
    tolerance: float
    decisions: Optional[float] = None


@dataclass(frozen=True)
class Manifest:
    """
    The description of a bundle and its network.

    # Parameters

    task : "single_label" or "multi_label".
    labels : in the order of the probabilities.
    thresholds : with "multi_label" one for each label, in [0, 1); otherwise `None`.
    preprocessing : turns an image into pixels for the network.
    format : "onnx" or "torch_export".
    precision : "float32", "float16" or "int8": the main precision of the network.
    files : the SHA-256 of every other file of the bundle, by name.
    versions : of the packages that made it, by name.
    parity : `None` if it was not compared with the archive.
    quantization : for "int8" how it was made, in words; otherwise `None`.
    vector_size : the size of the vectors that are the network's second output; `None` without it.
    """

    task: str
    labels: List[str]
    thresholds: Optional[List[float]]
    preprocessing: Preprocessing
    format: str
    precision: str
    files: Dict[str, str]
    versions: Dict[str, str]
    parity: Optional[Parity]
    quantization: Optional[str] = None
    vector_size: Optional[int] = None

    @property
    def multi_label(self) -> bool:
        return self.task == "multi_label"

    @property
    def model_file(self) -> str:
        """The file name of the network."""
        return MODEL_FILES[self.format]

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON with its own checksum."""
        content = {"manifest_version": VERSION, **asdict(self), "checksum": NO_CHECKSUM}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # A label may be a folder name that is not Unicode.
        data = text.encode("utf-8", "surrogatepass")
        return _with_checksum(data, NO_CHECKSUM, _sha256(data))

    @classmethod
    def from_bytes(cls, data: bytes, file: str = "manifest.json") -> "Manifest":
        """
        Read a manifest that `to_bytes` wrote. `file` is its name in errors.

        # Raises

        `BundleError` if even one byte differs.
        """
        try:
            text = data.decode("utf-8", "surrogatepass")
            content = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{file}: not JSON ({error})") from None
        if not isinstance(content, dict):
            raise BundleError(f"{file}: expected a JSON object")
        if content.get("manifest_version", VERSION) != VERSION:
            raise BundleError(
                f"{file}: manifest_version is {content['manifest_version']!r}; expected {VERSION}: "
                "the bundle was made by another version of allencv"
            )
        # Older bundles have no quantization, vector size, value range and compared decisions.
        content = {"quantization": None, "vector_size": None, **content}
        check_items(file, "", content, CHECKS)
        preprocessing = {"value_range": None, **content["preprocessing"]}
        check_items(file, "preprocessing.", preprocessing, PREPROCESSING_CHECKS)
        if isinstance(content["parity"], dict):
            content["parity"] = {"decisions": None, **content["parity"]}
            check_items(file, "parity.", content["parity"], PARITY_CHECKS)
        checksum = content["checksum"]
        if _sha256(_with_checksum(data, checksum, NO_CHECKSUM)) != checksum:
            raise BundleError(f"{file}: it was changed after the export (its checksum differs)")
        try:
            prepared = Preprocessing(**preprocessing)
        except ValueError as error:
            raise BundleError(f"{file}: preprocessing.{error}") from None
        parity = content["parity"] and Parity(**content["parity"])
        others = {key: content[key] for key in CHECKS if key in cls.__dataclass_fields__}
        manifest = cls(**{**others, "preprocessing": prepared, "parity": parity})
        manifest._check_thresholds(file)
        if manifest.model_file not in manifest.files:
            raise BundleError(f"{file}: files has no {manifest.model_file}")
        return manifest

    def _check_thresholds(self, file: str) -> None:
        expected = len(self.labels) if self.multi_label else None
        if expected != (None if self.thresholds is None else len(self.thresholds)):
            wanted = "null" if expected is None else f"{expected} numbers, one for each label"
            raise BundleError(f"{file}: thresholds is {self.thresholds!r}; expected {wanted}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _with_checksum(data: bytes, old: str, new: str) -> bytes:
    """Replace the checksum in the JSON of a manifest, which is its last item."""
    before, _, after = data.rpartition(old.encode())
    return before + new.encode() + after


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _is_label(value: Any) -> bool:
    return is_text(value) and value != ""


def _is_plain_name(name: str) -> bool:
    """Return whether it names a file in the folder itself, on any system."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) is not None


def _is_checksum(value: Any) -> bool:
    return is_text(value) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_threshold(value: Any) -> bool:
    return is_share(value) and value < 1


CHECKS: Dict[str, Check] = {
    "manifest_version": (lambda value: type(value) is int, str(VERSION)),
    "task": one_of(*TASKS),
    "labels": (
        lambda value: is_list(value, _is_label) and len(set(value)) == len(value),
        "a list of names without empty or duplicate ones",
    ),
    "thresholds": (
        lambda value: value is None or is_list(value, _is_threshold),
        "null, or a list of numbers in [0, 1)",
    ),
    "preprocessing": (lambda value: isinstance(value, dict), "a JSON object"),
    "format": one_of(*MODEL_FILES),
    "precision": one_of(*TOLERANCES),
    "files": (
        lambda value: (
            isinstance(value, dict)
            and all(map(_is_plain_name, value))
            and all(map(_is_checksum, value.values()))
        ),
        "the SHA-256 of files in the folder, by names without a path",
    ),
    "versions": (
        lambda value: isinstance(value, dict) and all(map(is_text, value.values())),
        "the versions of packages, by name",
    ),
    "parity": (lambda value: value is None or isinstance(value, dict), "null or a JSON object"),
    "quantization": (lambda value: value is None or is_text(value), "null or a text"),
    "vector_size": (
        lambda value: value is None or (is_count(value) and value > 0),
        "null, or the size of a vector",
    ),
    "checksum": (_is_checksum, "64 hexadecimal digits"),
}
PREPROCESSING_CHECKS: Dict[str, Check] = {
    field.name: {
        int: (is_count, "a number of pixels"),
        float: (is_share, "a number in (0, 1]"),
        str: (is_text, "a name"),
        Optional[Tuple[float, float]]: (
            lambda value: value is None or isinstance(value, list),
            "null, or a list of two numbers",
        ),
    }[field.type]
    for field in fields(Preprocessing)
}
PARITY_CHECKS: Dict[str, Check] = {
    field.name: {
        int: (is_count, "a number of images"),
        float: (is_share, "a number in [0, 1]"),
        Optional[float]: (
            lambda value: value is None or is_share(value),
            "null, or a number in [0, 1]",
        ),
    }[field.type]
    for field in fields(Parity)
}

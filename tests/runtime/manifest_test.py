import json
from typing import Any, Dict

import pytest

from allencv.runtime import BundleError, Manifest, Preprocessing
from allencv.runtime.manifest import NO_CHECKSUM, Parity, _sha256, _with_checksum


def manifest(**others: Any) -> Manifest:
    values: Dict[str, Any] = {
        "task": "multi_label",
        "labels": ["Katze", "犬", "\udcff"],  # the last is half a name of a folder
        "thresholds": [0.5, 0.25, 1 / 3],
        "preprocessing": Preprocessing(24, 32, "pad", 0.9, "bicubic", "L", (0, 4095)),
        "format": "onnx",
        "precision": "int8",
        "files": {"model.onnx": "0123456789abcdef" * 4, "README.md": "f" * 64},
        "versions": {"torch": "2.15.0"},
        "parity": Parity(7, 1.0, 1e-7, 0.99, 1e-4),
    }
    return Manifest(**{**values, **others})


def changed(**values: Any) -> bytes:
    """A manifest with other values, without those that are `...`, and with the right checksum."""
    content = json.loads(manifest().to_bytes().decode("utf-8", "surrogatepass"))
    content |= {"checksum": NO_CHECKSUM, **values}
    content = {key: value for key, value in content.items() if value is not ...}
    data = json.dumps(content).encode()
    if content["checksum"] != NO_CHECKSUM:
        return data
    return _with_checksum(data, NO_CHECKSUM, _sha256(data))


@pytest.mark.parametrize(
    "one",
    [
        manifest(),
        manifest(task="single_label", thresholds=None, parity=None),
        manifest(format="torch_export", precision="float32", files={"model.pt2": "0" * 64}),
    ],
)
def test_what_is_written_is_read(one: Manifest) -> None:
    assert Manifest.from_bytes(one.to_bytes()) == one


def test_any_changed_byte_is_noticed() -> None:
    data = manifest().to_bytes()
    for place in range(len(data)):
        for mask in (1, 0x20):  # another letter or digit; the other case
            other = data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]
            with pytest.raises(BundleError):
                Manifest.from_bytes(other)
    for other in (data[:-1], data + b"\n", b"", data.replace(b"\n", b"\r\n"), data * 2):
        with pytest.raises(BundleError):
            Manifest.from_bytes(other)


def test_a_manifest_from_before_there_were_value_ranges_is_read() -> None:
    preprocessing = {key: value for key, value in PREPROCESSING.items() if key != "value_range"}
    read = Manifest.from_bytes(changed(preprocessing=preprocessing))
    assert read.preprocessing == Preprocessing(24, 32, "pad", 0.9, "bicubic", "L")


def test_a_manifest_made_anew_is_read() -> None:
    """So that what follows is refused for its values, and not for its checksum."""
    assert Manifest.from_bytes(changed()) == manifest()


PREPROCESSING = {
    "height": 24,
    "width": 32,
    "fit": "pad",
    "value_range": [0, 4095],
    "crop_ratio": 0.9,
    "interpolation": "bicubic",
    "color_mode": "L",
}
PARITY = {
    "images": 7,
    "agreement": 1.0,
    "largest_difference": 0.0,
    "least_agreement": 0.99,
    "tolerance": 0.1,
}
HASH = "0" * 64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": ...}, "'task' is missing; expected one of single_label, multi_label"),
        ({"colour": 1}, "unknown key 'colour'; expected manifest_version, task"),
        ({"co\nlour": 1}, r"unknown key 'co\\nlour'; expected"),
        ({"manifest_version": 2}, "manifest_version is 2; expected 1"),
        ({"manifest_version": ...}, "'manifest_version' is missing"),
        ({"manifest_version": "1"}, "manifest_version is '1'"),
        ({"task": "regression"}, "task is 'regression'; expected one of"),
        ({"task": ["multi_label"]}, r"task is \['multi_label'\]"),
        ({"labels": []}, r"labels is \[\]; expected a list of names"),
        ({"labels": ["a", 1, "c"]}, "expected a list of names"),
        ({"labels": {"a": 1}}, "expected a list of names"),
        ({"labels": ["a", "b", "a"]}, "labels is .*; expected a list of names without empty"),
        ({"labels": ["a", "", "c"]}, "labels is .*; expected a list of names without empty"),
        ({"thresholds": None}, "thresholds is None; expected 3 numbers, one for each label"),
        ({"thresholds": [0.5]}, "expected 3 numbers, one for each label"),
        ({"task": "single_label"}, "expected null"),
        ({"thresholds": [0.5, 0.5, 1.0]}, r"expected null, or a list of numbers in \[0, 1\)"),
        ({"thresholds": [0.5, 0.5, True]}, "a list of numbers"),
        ({"thresholds": [0.5, 0.5, float("nan")]}, "NaN is not a JSON number"),
        ({"format": "pickle"}, "format is 'pickle'; expected one of onnx, torch_export"),
        ({"precision": "int4"}, "precision is 'int4'; expected one of"),
        ({"files": {"README.md": HASH}}, "files has no model.onnx"),
        ({"files": {"model.onnx": "0" * 63}}, "files is .*; expected the SHA-256"),
        ({"files": {"model.onnx": HASH, "../secret": HASH}}, "without a path"),
        ({"files": {"model.onnx": HASH, "/etc/passwd": HASH}}, "without a path"),
        ({"files": {"model.onnx": HASH, "a\\b": HASH}}, "without a path"),
        ({"files": {"model.onnx": HASH, "..": HASH}}, "without a path"),
        ({"files": {"model.onnx": HASH, "C:x": HASH}}, "without a path"),
        ({"files": {"model.onnx": HASH, "a\n": HASH}}, "without a path"),
        ({"files": ["model.onnx"]}, "expected the SHA-256"),
        ({"versions": {"torch": 2}}, "versions is .*; expected the versions of packages"),
        ({"preprocessing": None}, "preprocessing is None; expected a JSON object"),
        ({"preprocessing": {}}, "'preprocessing.height' is missing; expected a number of pixels"),
        ({"preprocessing": {**PREPROCESSING, "crop": 1}}, "unknown key 'preprocessing.crop'"),
        ({"preprocessing": {**PREPROCESSING, "height": 0}}, "preprocessing.height is 0; expected"),
        ({"preprocessing": {**PREPROCESSING, "height": 2.0}}, "preprocessing.height is 2.0"),
        ({"preprocessing": {**PREPROCESSING, "width": True}}, "preprocessing.width is True"),
        ({"preprocessing": {**PREPROCESSING, "fit": "zoom"}}, "preprocessing.fit is 'zoom'"),
        ({"preprocessing": {**PREPROCESSING, "fit": None}}, "preprocessing.fit is None"),
        ({"preprocessing": {**PREPROCESSING, "crop_ratio": "1"}}, "crop_ratio is '1'"),
        ({"preprocessing": {**PREPROCESSING, "value_range": "0"}}, "value_range is '0'; expected"),
        ({"preprocessing": {**PREPROCESSING, "value_range": [1]}}, "value_range is .1.; expected"),
        ({"preprocessing": {**PREPROCESSING, "crop_ratio": 0}}, "preprocessing.crop_ratio is 0"),
        ({"parity": 1}, "parity is 1; expected null or a JSON object"),
        ({"quantization": 1}, "quantization is 1; expected null or a text"),
        ({"vector_size": 0}, "vector_size is 0; expected null, or the size of a vector"),
        ({"parity": {**PARITY, "agreement": 2}}, "parity.agreement is 2; expected a number in"),
        ({"parity": {**PARITY, "images": 1.5}}, "parity.images is 1.5; expected a number of"),
        ({"parity": {"images": 1}}, "'parity.agreement' is missing"),
        ({"checksum": "5" * 64}, "changed after the export"),
        ({"checksum": 5}, "checksum is 5; expected 64 hexadecimal digits"),
    ],
)
def test_bad_values_are_named(values: Dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=f"^somewhere.json: .*{message}") as raised:
        Manifest.from_bytes(changed(**values), "somewhere.json")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [b"[]", b"7", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="not JSON|expected a JSON object"):
        Manifest.from_bytes(data)

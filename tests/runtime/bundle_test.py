import os
from pathlib import Path

import pytest

from allencv.runtime import BundleError, is_bundle, open_bundle
from allencv.runtime.bundle import MANIFEST
from tests.runtime.tiny_bundle import LABELS, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_a_bundle_is_opened(bundle: Path) -> None:
    assert is_bundle(bundle)
    assert open_bundle(str(bundle)).labels == LABELS


@pytest.mark.parametrize("name", ["model.onnx", MANIFEST])
@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_changed_byte_is_refused(bundle: Path, name: str, place: int) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[place] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=name) as raised:
        open_bundle(bundle)
    assert "\n" not in str(raised.value)


def test_a_cut_file_is_refused(bundle: Path) -> None:
    data = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(data[:-1])
    with pytest.raises(BundleError, match="model.onnx: it was changed after the export"):
        open_bundle(bundle)


def test_a_manifest_of_gigabytes_is_not_read(bundle: Path) -> None:
    os.truncate(bundle / MANIFEST, 2**33)  # it takes no room on the disk
    with pytest.raises(BundleError, match=r"manifest.json: it has 8,589,934,592 bytes; expected"):
        open_bundle(bundle)


def test_a_pipe_is_not_waited_for(bundle: Path) -> None:
    (bundle / MANIFEST).unlink()
    os.mkfifo(bundle / MANIFEST)
    assert is_bundle(bundle)
    with pytest.raises(BundleError, match="manifest.json: a named pipe, not a regular file"):
        open_bundle(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model.onnx: it is missing; manifest.json lists it"):
        open_bundle(bundle)


@pytest.mark.parametrize("path", ["nowhere", ".", "bundle/model.onnx", "a\0b"])
def test_what_is_no_bundle_is_named(bundle: Path, path: str) -> None:
    assert not is_bundle(bundle.parent / path)
    with pytest.raises(BundleError, match=r"no bundle at '.*'; expected a folder with"):
        open_bundle(bundle.parent / path)

import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Callable, Dict

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.common.archives import load_archive
from allencv.common.torch_files import has_valid_checksums
from allencv.common.write_archive import archive_model
from tests.common.tiny_archive import files_of, packed, write_run
from tests.conftest import same_tensors


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("archive") / "run")


@pytest.fixture(scope="module")
def files(run_folder: Path) -> Dict[str, bytes]:
    return files_of(Path(archive_model(run_folder)))


def saved(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


CHANGES: Dict[str, "tuple[Callable[[Dict[str, bytes]], object], str]"] = {
    "another label": (
        lambda files: files.update({"vocabulary/labels.txt": b"ant\nbee\ndog"}),
        "'vocabulary/labels.txt' was changed: its checksum differs",
    ),
    "other weights": (
        lambda files: files.update({"weights.th": saved({})}),
        "'weights.th' was changed: its checksum differs",
    ),
    "another config": (
        lambda files: files.update({"config.json": files["config.json"] + b" "}),
        "'config.json' was changed",
    ),
    "a file less": (lambda files: files.pop("meta.json"), "'meta.json' is missing; checksums.json"),
    "a namespace more": (
        lambda files: files.update({"vocabulary/tags.txt": b"a"}),
        "'vocabulary/tags.txt' is not listed in checksums.json",
    ),
    "no list": (
        lambda files: files.update({"checksums.json": b"[]"}),
        r"checksums.json holds \[\]; expected a JSON object",
    ),
    "an empty list": (
        lambda files: files.update({"checksums.json": b"{}"}),
        "'config.json' is not listed in checksums.json",
    ),
    "a file outside": (
        lambda files: files.update({"checksums.json": b'{"../run/best.th": "0"}'}),
        "'../run/best.th' is missing",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_checksums_show_a_change(tmp_path: Path, files: Dict[str, bytes], change: str) -> None:
    changed = dict(files)
    CHANGES[change][0](changed)
    with pytest.raises(ConfigurationError, match=f"m.tar.gz' is not opened: {CHANGES[change][1]}"):
        load_archive(packed(tmp_path / "m.tar.gz", changed))


def test_an_archive_unpacked_by_hand_is_checked_too(
    tmp_path: Path, files: Dict[str, bytes]
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "notes.txt").write_text("what nobody reads")
    load_archive(tmp_path)
    (tmp_path / "vocabulary" / "labels.txt").write_bytes(b"cat\nant\nbee")
    with pytest.raises(ConfigurationError, match="labels.txt' was changed"):
        load_archive(tmp_path)


def test_a_changed_bit_in_the_weights_of_a_run_is_noticed(tmp_path: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    weights = tmp_path / "run" / "best.th"
    data = bytearray(weights.read_bytes())
    with zipfile.ZipFile(weights) as archive:
        (tensor,) = (entry for entry in archive.infolist() if entry.filename.endswith("data/0"))
    data[tensor.header_offset + 200] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"best.th was changed or cut off"):
        load_archive(tmp_path / "run")


ODD = {
    "no folder": (
        {"vocabulary/labels.txt": None, "vocabulary/non_padded_namespaces.txt": None},
        "it has no folder 'vocabulary'",
    ),
    "no config": ({"config.json": None}, "it has no config.json"),
    "no weights": ({"weights.th": None}, "it has no weights; expected weights.th, or best.th in"),
    "no bytes": ({"weights.th": b""}, "weights.th is not a file of weights"),
    "a text": ({"weights.th": b"weights"}, "weights.th is not a file of weights"),
    "a list": ({"weights.th": saved([])}, "weights.th holds a list; expected names and tensors"),
    "numbers for names": (
        {"weights.th": saved({3: torch.zeros(1)})},
        "weights.th has 3 as the name of a tensor; expected a string",
    ),
    "no list of namespaces": (
        {"vocabulary/non_padded_namespaces.txt": None},
        "'vocabulary/non_padded_namespaces.txt' is missing; expected a file",
    ),
    "no object as meta": ({"meta.json": b"[]"}, r"meta.json holds \[\]; expected a JSON object"),
    "a number as version": (
        {"meta.json": b'{"version": 5}'},
        "meta.json holds {'version': 5}; expected AllenNLP's version",
    ),
    "half a version": ({"meta.json": b'{"version": "2"}'}, "meta.json holds {'version': '2'}; exp"),
    "more than a version": (
        {"meta.json": b'{"version": "2.10.1", "x": 1}'},
        "meta.json holds .*; expected AllenNLP's version only",
    ),
    "a zip": ({"weights.th": b"PK\x05\x06" + bytes(18)}, "weights.th is not a file of weights"),
    "a cut zip": ({"weights.th": saved({})[:-30]}, "weights.th is not a file of weights"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_missing_or_odd_is_named(
    tmp_path: Path, files: Dict[str, bytes], case: str
) -> None:
    changes, message = ODD[case]
    kept = {**files, **changes, "checksums.json": None}
    members = {name: content for name, content in kept.items() if content is not None}
    with pytest.raises(ConfigurationError, match=f"is not opened: {message}") as raised:
        load_archive(packed(tmp_path / "m.tar.gz", members))
    assert "\n" not in str(raised.value)


def as_pipe(file: Path) -> None:
    os.mkfifo(file)


def as_broken_link(file: Path) -> None:
    file.symlink_to("nowhere")


IRREGULAR = [
    (as_pipe, "a named pipe, not a regular file"),
    (as_broken_link, "a broken link; expected a file"),
    (Path.mkdir, "a folder; expected a file"),
]
READ_NAMES = ["vocabulary/tags.txt", "vocabulary/labels.txt", "meta.json", "checksums.json"]
READ_NAMES += ["vocabulary/non_padded_namespaces.txt"]


@pytest.mark.parametrize("name", READ_NAMES)
@pytest.mark.parametrize(("make", "kind"), IRREGULAR)
def test_what_is_no_regular_file_in_a_run_is_named(
    tmp_path: Path, run_folder: Path, name: str, make: Callable[[Path], None], kind: str
) -> None:
    shutil.copytree(run_folder, tmp_path / "run", ignore=lambda _, names: {Path(name).name})
    make(tmp_path / "run" / name)
    with pytest.raises(ConfigurationError, match=f"run' is not opened: '{name}' is {kind}"):
        load_archive(tmp_path / "run")


def test_a_link_to_a_regular_file_is_read(tmp_path: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    labels = tmp_path / "run" / "vocabulary" / "labels.txt"
    labels.rename(tmp_path / "labels.txt")
    labels.symlink_to(tmp_path / "labels.txt")
    load_archive(tmp_path / "run")


def test_a_namespace_that_is_not_listed_is_explained(tmp_path: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "vocabulary" / "non_padded_namespaces.txt").write_text("*tags\n")
    expected = "a file of its vocabulary has no out-of-vocabulary token, and vocabulary/non_padded"
    with pytest.raises(ConfigurationError, match=f"cannot be loaded: {expected}"):
        load_archive(tmp_path / "run")


def test_missing_labels_are_named(tmp_path: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "vocabulary" / "labels.txt").unlink()
    with pytest.raises(
        ConfigurationError, match="run' cannot be loaded: .* 0 in the namespace 'labels'"
    ):
        load_archive(tmp_path / "run")


def test_weights_from_before_pytorch_1_6_are_read(tmp_path: Path, files: Dict[str, bytes]) -> None:
    state = torch.load(io.BytesIO(files["weights.th"]))
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    members = {**files, "weights.th": buffer.getvalue()}
    del members["checksums.json"]
    loaded = load_archive(packed(tmp_path / "m.tar.gz", members)).model
    assert same_tensors(loaded.state_dict(), state)


def test_complex_weights_are_refused(tmp_path: Path, files: Dict[str, bytes]) -> None:
    state = torch.load(io.BytesIO(files["weights.th"]))
    state["_classification_layer.bias"] = state["_classification_layer.bias"] * 1j
    members = {**files, "weights.th": saved(state)}
    del members["checksums.json"]
    expected = (
        "cannot be loaded: the weights of _classification_layer.bias are torch.complex64; exp"
    )
    with pytest.raises(ConfigurationError, match=expected):
        load_archive(packed(tmp_path / "m.tar.gz", members))


def test_weights_at_another_place(tmp_path: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    weights = (tmp_path / "run" / "best.th").rename(tmp_path / "other.th")
    load_archive(tmp_path / "run", weights_file=str(weights))
    missing = tmp_path / "missing.th"
    with pytest.raises(ConfigurationError, match=r"no weights; expected them at '.*missing.th'"):
        load_archive(tmp_path / "run", weights_file=str(missing))


def test_a_zip_that_would_grow_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "weights.th", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**7))
    assert not has_valid_checksums(tmp_path / "weights.th")

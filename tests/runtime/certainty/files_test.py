import json
import os
import zipfile
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np
import pytest

from allencv.runtime.certainty import Certainty, LabelSets, Scaling
from allencv.runtime.certainty.files import ARRAYS_FILE, JSON, read_certainty, write_certainty
from allencv.runtime.errors import BundleError
from tests.runtime.certainty.certainties import NEAREST, certainty, everything, rule

Change = Callable[[Dict[str, Any]], Any]


def contents(found: Certainty) -> Dict[str, Any]:
    """Everything in it, with arrays as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    return plain(asdict(found))


def read(folder: Path, labels: int = 3, vector_size: Optional[int] = 3) -> Certainty:
    found = read_certainty(folder, labels, vector_size)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "written",
    [
        certainty(),
        certainty(overlap=None, images=1),
        *(everything(kind=kind) for kind in ("energy", "mahalanobis", "nearest")),
        everything(kind="max_probability", sets="raps"),
        certainty(data="ph\udce4tos", sets=LabelSets("missed", [0.9], [[0.1, 0.2, 1e9]])),
    ],
)
def test_what_was_written_is_read(tmp_path: Path, written: Certainty) -> None:
    write_certainty(tmp_path, written)
    assert contents(read(tmp_path)) == contents(written)


def test_without_files_there_is_none(tmp_path: Path) -> None:
    assert read_certainty(tmp_path, 3, 3) is None
    # A bundle of an older version gives no vectors.
    write_certainty(tmp_path, everything(kind="max_probability"))
    assert read(tmp_path, vector_size=None).unknown is not None


def changed(folder: Path, change: Change, written: Optional[Certainty] = None) -> None:
    """Write a certainty whose JSON a function changes."""
    write_certainty(folder, written or everything())
    content = json.loads((folder / JSON).read_text())
    change(content)
    (folder / JSON).write_text(json.dumps(content))


def refused(folder: Path, match: str, labels: int = 3, vector_size: Optional[int] = 3) -> None:
    with pytest.raises(BundleError, match=match) as error:
        read_certainty(folder, labels, vector_size)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(certainty_version=2), "was made by another version of allencv"),
        (lambda c: c.update(certainty_version="1"), "certainty_version is '1'"),
        (lambda c: c.update(more=1), "unknown key 'more'"),
        (lambda c: c.pop("sets"), "'sets' is missing"),
        (lambda c: c.update(images=-1), "images is -1"),
        (lambda c: c.update(overlap=True), "overlap is True"),
        (lambda c: c.update(precision="float8"), "precision is 'float8'"),
        (lambda c: c.update(scaling=[]), "scaling is "),
        (lambda c: c["scaling"].update(slopes=[1.0]), "expected a slope and an offset for each of"),
        (lambda c: c["scaling"].update(slopes=[1.0, 1.0, 0]), "scaling.slopes is"),
        (lambda c: c["scaling"].update(offsets=[1.0, 1.0, float("nan")]), "scaling.offsets is"),
        (lambda c: c["scaling"].update(offsets=[1.0, 1.0, 10**400]), "scaling.offsets is"),
        (lambda c: c["scaling"].update(offsets=[1.0, 1.0, True]), "scaling.offsets is"),
        (lambda c: c["sets"].update(kind="best"), "sets.kind is 'best'"),
        (lambda c: c["sets"].update(levels=[]), "sets.levels is"),
        (lambda c: c["sets"].update(levels=[1.0, 0.5]), "sets.levels is"),
        (lambda c: c["sets"].update(limits=[[0.1]]), "sets.limits has"),
        (lambda c: c["sets"].update(limits=[[0.1, 0.2], [0.1]]), "sets.limits has"),
        (lambda c: c["sets"].update(limits=[[float("inf")], [0.1]]), "sets.limits is"),
        (lambda c: c["sets"].update(free_ranks=0.5), "sets.free_ranks is"),
        (lambda c: c["selection"].update(least_confidence=1.5), "selection.least_confidence is"),
        (lambda c: c["selection"].update(target_accuracy=1), "selection.target_accuracy is"),
        (lambda c: c["unknown"].update(kind="os.system"), "unknown.kind is 'os.system'"),
        (lambda c: c["unknown"].update(kind="nearest"), "unknown array 'unknown.bias'"),
        (lambda c: c["unknown"].update(limit=None), "unknown.limit is None"),
        (lambda c: c["unknown"].update(known_share=0), "unknown.known_share is 0"),
    ],
)
def test_json_that_is_not_right_is_refused(tmp_path: Path, change: Change, match: str) -> None:
    changed(tmp_path, change)
    refused(tmp_path, match)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "cannot be read"),
        (b"[]", "expected a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff{}", "cannot be read"),
        (b" " * (2**24 + 1), "expected at most 16,777,216"),
        (b'{"images": 1' + b"0" * 5000 + b"}", "cannot be read"),
    ],
)
def test_a_file_that_is_not_its_json_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    write_certainty(tmp_path, everything())
    (tmp_path / JSON).write_bytes(content)
    refused(tmp_path, match)


def test_it_must_be_of_the_model(tmp_path: Path) -> None:
    write_certainty(tmp_path, everything())
    refused(tmp_path, "label_counts' is 3; expected 4", labels=4)
    refused(tmp_path, "unknown.weight' is 3 x 3; expected 3 x 5", vector_size=5)
    # The report of a run does not know the size.
    assert read(tmp_path, vector_size=None).unknown is not None


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"kept": np.zeros((0, 3), np.float16)}, "unknown.kept' is 0 x 3"),
        ({"kept": np.zeros(3, np.float16)}, "unknown.kept' is missing or malformed"),
        ({"kept": np.full((7, 3), np.nan, np.float16)}, "not finite"),
        ({"kept": np.zeros((7, 3), bool)}, "missing or malformed"),
        ({"kept": np.zeros((7, 3), np.complex64)}, "missing or malformed"),
        ({"neighbour": np.array(0)}, "neighbour is 0; expected 1 to 7"),
        ({"neighbour": np.array(8)}, "neighbour is 8; expected 1 to 7"),
        ({"neighbour": np.array(1.5)}, "neighbour is 1.5"),
        ({"neighbour": np.array([1])}, "missing or malformed; expected one number"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: Dict[str, np.ndarray], match: str
) -> None:
    write_certainty(tmp_path, certainty(unknown=rule(NEAREST, **arrays)))
    refused(tmp_path, match)


def test_arrays_must_fit_each_other(tmp_path: Path) -> None:
    unknown = rule("mahalanobis", means=np.zeros((3, 5)))  # the whitening gives two numbers
    write_certainty(tmp_path, certainty(unknown=unknown))
    refused(tmp_path, "unknown.whitening' is 3 x 2; expected 3 x 5")


def save(folder: Path, **arrays: Any) -> None:
    with open(folder / ARRAYS_FILE, "wb") as file:
        np.savez(file, **arrays)


class Pickled:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pickled",)


def test_no_code_of_an_array_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_certainty(tmp_path, certainty())
    save(tmp_path, known_scores=np.array([Pickled()], object), label_counts=np.ones(3))
    refused(tmp_path, "Object arrays cannot be loaded")
    assert not Path("pickled").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allencv.runtime.certainty.files.LARGEST", 2**20)
    write_certainty(tmp_path, certainty())
    with zipfile.ZipFile(tmp_path / ARRAYS_FILE, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("known_scores.npy", bytes(2**20 + 1))
    assert (tmp_path / ARRAYS_FILE).stat().st_size < 2**12
    refused(tmp_path, "expected at most 1,048,576")


def test_an_array_may_claim_any_size(tmp_path: Path) -> None:
    write_certainty(tmp_path, certainty())
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**45},), }}\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(tmp_path / ARRAYS_FILE, "w") as file:
        file.writestr("known_scores.npy", npy)
    refused(tmp_path, "cannot be read")


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    changed(tmp_path, lambda content: content.pop("arrays_sha256"), certainty())
    save(tmp_path, known_scores=np.ones(2), label_counts=np.ones(3), weights=np.ones(9))
    refused(tmp_path, "unknown array 'weights'; expected known_scores, label_counts")


def test_pipes_and_missing_files_are_refused(tmp_path: Path) -> None:
    write_certainty(tmp_path, certainty())
    (tmp_path / ARRAYS_FILE).unlink()
    refused(tmp_path, "certainty.npz: cannot be read: FileNotFoundError")
    os.mkfifo(tmp_path / ARRAYS_FILE)
    refused(tmp_path, "a named pipe")
    (tmp_path / JSON).unlink()
    os.mkfifo(tmp_path / JSON)
    refused(tmp_path, "a named pipe")


def test_a_damaged_archive_of_arrays_raises_nothing_else(tmp_path: Path) -> None:
    write_certainty(tmp_path, everything(kind=NEAREST))
    file = tmp_path / ARRAYS_FILE
    original = file.read_bytes()
    random = np.random.default_rng(0)
    opened = 0
    for _ in range(300):
        data = bytearray(original)
        for place in random.integers(0, len(data), random.integers(1, 5)):
            data[place] = random.integers(256)
        file.write_bytes(
            data[: random.integers(1, len(data) + 1)] if random.random() < 0.3 else data
        )
        with suppress(BundleError):
            opened += read_certainty(tmp_path, 3, 3) is not None
    assert opened < 100


def test_a_scaling_without_a_number_for_each_label_is_not_of_the_model(tmp_path: Path) -> None:
    write_certainty(tmp_path, replace(certainty(), scaling=Scaling([1.0] * 2, [0.0] * 2)))
    refused(tmp_path, "expected a slope and an offset for each of 3 labels")


def test_files_of_two_calibrations_are_refused(tmp_path: Path) -> None:
    write_certainty(tmp_path, everything(kind=NEAREST))
    earlier = (tmp_path / JSON).read_bytes()
    write_certainty(tmp_path, everything(kind="energy"))
    assert read(tmp_path) is not None
    (tmp_path / JSON).write_bytes(earlier)
    refused(
        tmp_path, "certainty.npz beside it is of another calibration; calibrate the model again"
    )


def test_files_without_a_checksum_of_the_arrays_are_read(tmp_path: Path) -> None:
    changed(tmp_path, lambda content: content.pop("arrays_sha256"))
    assert contents(read(tmp_path)) == contents(everything())


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"label_counts": np.array([1, 99, 1])}, "label_counts has numbers outside 0 to"),
        ({"label_counts": np.array([1, -1, 1])}, "label_counts has numbers outside 0 to"),
        ({"known_scores": np.zeros(0)}, "'known_scores' is 0"),
    ],
)
def test_counts_of_other_images_are_refused(
    tmp_path: Path, arrays: Dict[str, np.ndarray], match: str
) -> None:
    write_certainty(tmp_path, replace(certainty(images=30), **arrays))
    refused(tmp_path, match)

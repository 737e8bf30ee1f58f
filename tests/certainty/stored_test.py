import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from allencv.certainty.stored import store_certainty
from allencv.common.archives import opened_archive
from allencv.runtime.bundle import sha256_of
from allencv.runtime.certainty import Certainty, UnknownRule
from allencv.runtime.certainty.files import read_certainty
from allencv.runtime.errors import InputError
from tests.conftest import full_disk


@pytest.fixture
def run_folder(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def certainty(model: str, images: int = 3) -> Certainty:
    arrays = {"known_scores": np.zeros(images), "label_counts": np.zeros(2, np.int64)}
    return Certainty(images, "pets", "float32", model, **arrays)


def certainty_of(run_folder: Path, images: int = 3) -> Certainty:
    return certainty(sha256_of(run_folder / "best.th"), images)


def test_the_files_of_an_archive_stay(run_folder: Path) -> None:
    archive = run_folder / "model.tar.gz"
    with opened_archive(archive) as folder:
        before = {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert store_certainty(archive, certainty_of(run_folder)) == [archive]
    store_certainty(archive, certainty_of(run_folder, 4))
    with opened_archive(archive) as folder:
        found = read_certainty(folder, 2, None)
        after = {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        checksums = json.loads(after["checksums.json"])
    assert found is not None
    assert found.images == 4
    assert {name: after[name] for name in before if name != "checksums.json"} == {
        name: content for name, content in before.items() if name != "checksums.json"
    }
    assert {"certainty.json", "certainty.npz"} < set(checksums)


def test_an_archive_of_other_weights_is_left_alone(run_folder: Path) -> None:
    before = (run_folder / "model.tar.gz").read_bytes()
    written = store_certainty(run_folder, certainty("other"))
    assert [path.name for path in written] == ["certainty.json", "certainty.npz"]
    assert (run_folder / "model.tar.gz").read_bytes() == before


def test_a_full_disk_leaves_the_archive(run_folder: Path) -> None:
    archive = run_folder / "model.tar.gz"
    before = archive.read_bytes()
    with full_disk(), pytest.raises(OSError, match="No space"):
        store_certainty(archive, certainty_of(run_folder))
    assert archive.read_bytes() == before


def test_an_archive_elsewhere_is_refused(tmp_path: Path) -> None:
    certainty = Certainty(3, "pets", "float32", "other")
    with pytest.raises(InputError, match="'https:.*' is not a file or folder here"):
        store_certainty("https://example.com/model.tar.gz", certainty)


def test_a_full_disk_leaves_the_folder_of_a_run(run_folder: Path) -> None:
    store_certainty(run_folder, certainty_of(run_folder))
    before = {file: file.read_bytes() for file in run_folder.rglob("*") if file.is_file()}
    with full_disk(), pytest.raises(OSError, match="No space"):
        store_certainty(run_folder, certainty_of(run_folder, 4))
    assert {file: file.read_bytes() for file in run_folder.rglob("*") if file.is_file()} == before


def test_a_replaced_archive_is_not_said_to_be_written(run_folder: Path) -> None:
    archive = run_folder / "model.tar.gz"
    before = archive.read_bytes()
    with pytest.raises(InputError, match="was replaced by an archive with other weights"):
        store_certainty(archive, certainty("other"))
    assert archive.read_bytes() == before


def test_nothing_is_written_that_cannot_be_read(run_folder: Path) -> None:
    store_certainty(run_folder, certainty_of(run_folder))
    before = {file: file.read_bytes() for file in run_folder.rglob("*") if file.is_file()}
    empty = UnknownRule("nearest", 0.0, 0.9, {"kept": np.zeros((0, 8)), "neighbour": np.array(0)})
    with pytest.raises(InputError, match="of no use: certainty.json: .*unknown.kept' is 0 x 8"):
        store_certainty(run_folder, replace(certainty_of(run_folder), unknown=empty))
    assert {file: file.read_bytes() for file in run_folder.rglob("*") if file.is_file()} == before

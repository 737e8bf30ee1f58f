import json
import os
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
from allennlp.commands import train
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import archive_model as allennlps_archive_model
from allennlp.models.archival import load_archive as allennlps_load_archive

from allencv.common.archives import load_archive, opened_archive
from allencv.common.write_archive import archive_model
from tests.common.tiny_archive import files_of, packed, write_run
from tests.conftest import same_tensors


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def with_patterns(folder: Path, *patterns: str) -> "list[str]":
    """Name the files in the config too, as a run does."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "include_in_archive": patterns}))
    return list(patterns)


def test_it_holds_what_allennlp_s_holds_and_checksums(run_folder: Path) -> None:
    (run_folder / "tables").mkdir()
    (run_folder / "tables" / "prices.csv").write_text("1,2\n")
    (run_folder / "notes.txt").write_text("a note")
    patterns = with_patterns(run_folder, "tables", "*.txt", "nothing*")
    ours = files_of(Path(archive_model(run_folder, include_in_archive=patterns)))
    path = allennlps_archive_model(run_folder, include_in_archive=patterns)
    theirs = files_of(Path(path))
    assert theirs.pop("vocabulary/.lock") == b""  # of a process that is over
    checksums = json.loads(ours.pop("checksums.json"))
    assert ours == theirs
    assert checksums == {name: sha256(data).hexdigest() for name, data in theirs.items()}


def test_allennlp_reads_it(run_folder: Path) -> None:
    path = archive_model(run_folder)
    assert path == str(run_folder / "model.tar.gz")
    ours, theirs = load_archive(path), allennlps_load_archive(path)
    assert same_tensors(ours.model.state_dict(), theirs.model.state_dict())
    assert ours.config.as_dict() == theirs.config.as_dict()


def test_an_archive_of_allennlp_s_is_read(run_folder: Path) -> None:
    (run_folder / "vocabulary" / ".lock").touch()
    (run_folder / "notes.txt").write_text("a note")
    patterns = with_patterns(run_folder, "notes.txt")
    path = allennlps_archive_model(run_folder, include_in_archive=patterns)
    with opened_archive(path) as folder:
        assert (folder / "notes.txt").read_text() == "a note"
    load_archive(path)


@pytest.mark.parametrize("patterns", [None, 5, [5], ["other*"], {"notes.txt": 1}])
def test_a_file_that_the_config_does_not_name_is_refused(
    run_folder: Path, patterns: object
) -> None:
    config = json.loads((run_folder / "config.json").read_text())
    (run_folder / "config.json").write_text(json.dumps({**config, "include_in_archive": patterns}))
    files = files_of(Path(archive_model(run_folder)))
    path = packed(run_folder / "more.tar.gz", {**files, "notes.txt": b"a note"})
    with pytest.raises(ConfigurationError, match="it holds 'notes.txt', which is not part of"):
        load_archive(path)


def test_other_weights_and_places(run_folder: Path, tmp_path: Path) -> None:
    """As AllenNLP calls it for a run that was interrupted."""
    weights = (run_folder / "best.th").rename(tmp_path / "model_state_e1_b0.th")
    path = archive_model(run_folder, str(weights), tmp_path / "other.tar.gz")
    assert files_of(tmp_path / "other.tar.gz")["weights.th"] == weights.read_bytes()
    assert path == str(tmp_path / "other.tar.gz")
    assert archive_model(run_folder, str(weights), tmp_path) == str(tmp_path / "model.tar.gz")


def test_links_become_files(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "best.th").rename(tmp_path / "stored.th")
    (run_folder / "best.th").symlink_to(tmp_path / "stored.th")
    os.link(run_folder / "meta.json", run_folder / "vocabulary" / "tags.txt")
    path = archive_model(run_folder)
    with tarfile.open(path) as archive:
        assert all(member.isreg() for member in archive)


def test_a_failure_leaves_the_archive_before(run_folder: Path) -> None:
    path = Path(archive_model(run_folder))
    before = path.read_bytes()
    (run_folder / "best.th").unlink()
    with pytest.raises(FileNotFoundError, match=r"best.th"):
        archive_model(run_folder)
    assert path.read_bytes() == before
    assert not list(run_folder.glob(".allencv*"))


def test_training_writes_it() -> None:
    """AllenNLP's function writes in place, without checksums, and its `train` asks no registry."""
    import allencv.training  # noqa: F401

    assert train.archive_model is archive_model

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.training.run_folder import LOCKED, clear, has_checkpoint, is_unbegun, locked, read_json

fcntl = pytest.importorskip("fcntl")

HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def can_lock(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def test_a_folder_that_another_process_holds_is_refused_until_that_dies(tmp_path: Path) -> None:
    with held_by_another_process(tmp_path) as process:
        with (
            pytest.raises(ConfigurationError, match=f"another run is writing to {tmp_path}; wait"),
            locked(tmp_path),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(tmp_path):
            pass


def test_the_lock_needs_no_file_and_ends_with_the_block(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with locked(folder):
        assert list(folder.iterdir()) == []
        assert not can_lock(folder)
    assert not folder.exists()
    with locked(folder):
        (folder / "out.log").write_text("of use")
    assert can_lock(folder)
    with pytest.raises(ValueError, match="of the run"), locked(folder):
        raise ValueError("of the run")
    assert can_lock(folder)


def test_the_lock_outlives_what_the_folder_holds(tmp_path: Path) -> None:
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "labels.txt").write_text("cat")
    (tmp_path / "link").symlink_to(tmp_path / "vocabulary")
    (tmp_path / "config.json").write_text("{}")
    with locked(tmp_path):
        clear(tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert not can_lock(tmp_path)


def test_what_a_link_points_to_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat.jpg").write_text("a cat")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "images").symlink_to(tmp_path / "data")
    clear(tmp_path / "run")
    assert (tmp_path / "data" / "cat.jpg").exists()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_run_shares_its_lock_with_its_ranks_and_with_itself(tmp_path: Path) -> None:
    os.symlink(tmp_path, tmp_path / "link")
    with locked(tmp_path):
        assert os.environ[LOCKED] == str(tmp_path.resolve())  # which new processes inherit
        with locked(tmp_path / "link"):
            pass
        assert not can_lock(tmp_path)
        with locked(tmp_path / "other"):  # as a run of a sweep is
            assert os.environ[LOCKED] == str(tmp_path.resolve() / "other")
        assert os.environ[LOCKED] == str(tmp_path.resolve())
    assert LOCKED not in os.environ


def test_a_forked_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if child == 0:  # as a worker that outlives a trainer which was killed
            os.write(writing, b".")
            signal.pause()
        os.read(reading, 1)
    try:
        assert can_lock(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(9, "Bad file descriptor")  # as NFS does

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked (Bad file descriptor). Let no other run" in caplog.text
    caplog.clear()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(tmp_path):
        pass
    assert f"Let no other run write to {tmp_path}" in caplog.text


@pytest.mark.parametrize(
    ("names", "unbegun"),
    [
        ([], False),
        (["config.json"], False),  # maybe the user's own
        (["config.json", "meta.json"], True),
        (["out_worker0.log"], True),  # of a rank that was killed
        (["config.json", "out_worker0.log", "out_worker1.log"], True),
        (["out_worker0.log", "notes.txt"], False),
        (["config.json", "meta.json", "out.log", "vocabulary/labels.txt", "log/train/a"], True),
        (
            [
                "config.json",
                "meta.json",
                "predictions/run.json",
                "not_finite.th",
                "first_weights.th",
                "out_worker1.log",
            ],
            True,
        ),
        (["config.json", "meta.json", f".allencv-{'0' * 32}.th"], True),
        (["out.log", "vocabulary/labels.txt"], False),  # not of a run
        (["config.json", "meta.json", "training_state_e0_b3.th"], False),
        (["config.json", "meta.json", "metrics_epoch_0.json"], True),
        (["config.json", "meta.json", "metrics_epoch_0.json", "best.th"], False),
        (["config.json", "meta.json", "model.tar.gz"], False),
        (["config.json", "meta.json", "predictions/validation.npz"], False),
        (["config.json", "meta.json", "notes.txt"], False),
    ],
    ids=str,
)
def test_what_a_run_that_never_began_leaves(
    tmp_path: Path, names: "list[str]", unbegun: bool
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert is_unbegun(tmp_path) is unbegun
    assert has_checkpoint(tmp_path) is ("training_state_e0_b3.th" in names)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]", b"", b"[" * 100_000], ids=range(5))
def test_a_damaged_file_of_a_run_is_named_in_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model": 1}')
    assert read_json(path) == {"model": 1}
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^{path} (is damaged|holds a list)") as refused:
        read_json(path)
    assert "\n" not in str(refused.value)

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.gpu.programs import load
from tests.conftest import ROOT
from tests.shared_folders import SHARED

on_gpu = load("on_gpu.py")

HANGS = """
import os, time
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize(
    ("code", "status"),
    [("print('out')", "done"), ("import sys; print('out'); sys.exit(3)", "failed (3)")],
)
def test_a_stage_ends(code: str, status: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert on_gpu.run(["-c", code], 100, log) == status
    assert log.read_text() == "out\n"


def test_a_stage_that_hangs_is_cut_off_with_its_processes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert on_gpu.run(["-c", HANGS], 2, log) == "cut off"
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(log.read_text())).wait(10)


def test_a_stage_without_a_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["on_gpu", "loop"])
    with pytest.raises(SystemExit):
        on_gpu.main()
    assert "no stage 'loop'; expected one of check, tests, loops," in capsys.readouterr().err


def test_nothing_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["on_gpu"])
    monkeypatch.setattr(on_gpu, "PACKED", tmp_path)
    with pytest.raises(SystemExit):
        on_gpu.main()
    assert f"no packages in {tmp_path}; make them with" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The run of pytest in it is not part of this one.
    monkeypatch.delenv(SHARED)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setenv("GPU_WORK", str(tmp_path / "work"))
    command = [sys.executable, ROOT / "benchmarks/gpu/on_gpu.py", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    summary = json.loads((tmp_path / "out/summary.json").read_text())
    stages = {name: stage["status"] for name, stage in summary["stages"].items()}
    assert stages == dict.fromkeys(on_gpu.STAGES, "done"), done.stdout
    assert {file.stem for file in (tmp_path / "out").glob("*.log")} == {*on_gpu.STAGES}
    assert len(summary["tests"]["skipped"]) + len(summary["tests"]["passed"]) > 0
    for group in summary["loops"].values():
        assert group["loops"][group["baseline"]]["time_to_baseline"] == 1
        assert all(loop["images_per_second"] > 0 for loop in group["loops"].values())
    assert summary["loaders"]["errors"] == []
    assert len(summary["loaders"]["images_per_second"]) == 6
    assert [len(run["test_accuracy"]) for run in summary["cifar"]["runs"].values()] == [2, 2, 2]
    assert summary["end_to_end"]["loops"]["timm"]["to_timm"] == 1
    assert "| ResNet-18, 32 px | allencv |" in done.stdout

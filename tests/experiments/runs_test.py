import os
import signal
import sys
import threading
import time
from pathlib import Path
from threading import Event
from typing import Any, Dict, List

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.experiments import runs as module
from allencv.experiments.runs import (
    HasToEnd,
    Run,
    check_one_device,
    environments,
    run_command,
    train_all,
)
from allencv.runtime.launcher_watch import ENDS_WITH_PARENT


def has_time() -> bool:
    return False


def test_a_run_that_is_killed_is_said_to_be() -> None:
    kill = "import os, sys; print('last words', file=sys.stderr); os.kill(os.getpid(), 9)"
    command = [sys.executable, "-c", kill]
    assert run_command(command, {}, True, has_time) == (-9, "last words")


def test_a_command_has_the_variables_of_its_slot(capsys: pytest.CaptureFixture) -> None:
    show = "import os, sys; sys.exit(os.environ['OMP_NUM_THREADS'])"
    command = [sys.executable, "-c", show]
    assert run_command(command, {"OMP_NUM_THREADS": "7"}, False, has_time) == (1, "7")
    assert capsys.readouterr().err == ""
    run_command(command, {"OMP_NUM_THREADS": "7"}, True, has_time)
    assert capsys.readouterr().err == "7\n"


def test_a_command_ends_when_this_process_is_killed() -> None:
    """It is told to. tests/runtime/launcher_watch_test.py shows that it does."""
    show = f"import os, sys; sys.exit({ENDS_WITH_PARENT!r} in os.environ)"
    assert run_command([sys.executable, "-c", show], {}, False, has_time) == (1, "")


def test_the_last_error_is_without_the_name_of_the_command() -> None:
    fail = "import sys; sys.exit('warning: x\\nallencv: the disk is full')"
    assert run_command([sys.executable, "-c", fail], {}, False, has_time) == (1, "the disk is full")


def test_a_command_ends_when_it_has_to_stop() -> None:
    stop = Event()
    threading.Timer(0.2, stop.set).start()
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert run_command(command, {}, False, stop.is_set) == (-signal.SIGTERM, "")


@pytest.mark.parametrize(
    ("count", "visible", "expected"),
    [
        (2, None, ["0", "1", "0"]),
        (2, "4,6", ["4", "6", "4"]),
        (1, "GPU-8932f937", ["GPU-8932f937"] * 3),
        (0, None, [None] * 3),
    ],
)
def test_each_run_gets_a_gpu_and_a_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, count: int, visible: Any, expected: List[Any]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(module, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    given = environments(3)
    assert [each.get("CUDA_VISIBLE_DEVICES") for each in given] == expected
    assert {each["OMP_NUM_THREADS"] for each in given} == {"2"}
    assert {each["ALLENCV_RUNS_AT_ONCE"] for each in given} == {"3"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert {each["OMP_NUM_THREADS"] for each in environments(3)} == {"5"}
    assert environments(1) == [{}]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"distributed": {"cuda_devices": [0, 1]}}, "^the config has 'distributed', whose runs"),
        ({"trainer": {"cuda_device": 1}}, "^trainer.cuda_device is 1; expected 0 or no such key"),
    ],
)
def test_runs_that_choose_their_gpus_are_refused(config: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_one_device(config)
    check_one_device({"trainer": {"cuda_device": -1}})


def runs_in(folder: Path, count: int) -> List[Run]:
    return [Run({}, folder / f"seed_{number}", [], False) for number in range(count)]


def test_runs_are_trained_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each waits until another has begun; one failing stops no other."""
    both = threading.Barrier(2)

    def train(run: Run, environment: Dict[str, str], has_to_end: HasToEnd) -> Dict[str, Any]:
        both.wait(timeout=30)
        return {"error": "bad"} if run.folder.name == "seed_1" else {"metrics": {}}

    monkeypatch.setattr(module, "train", train)
    results = dict(train_all(runs_in(tmp_path, 4), 2, False))
    assert results == {
        tmp_path / f"seed_{number}": {"error": "bad"} if number == 1 else {"metrics": {}}
        for number in range(4)
    }


def test_all_runs_end_after_an_interruption(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those that have begun; no other begins."""
    begun: List[str] = []
    ended: List[str] = []

    def train(run: Run, environment: Dict[str, str], has_to_end: HasToEnd) -> Dict[str, Any]:
        begun.append(run.folder.name)
        if len(begun) == 2:
            time.sleep(0.2)  # until the main thread waits: it must know both threads to join them
            os.kill(os.getpid(), signal.SIGINT)
        while not has_to_end():
            time.sleep(0.01)
        ended.append(run.folder.name)
        return {"error": "stopped"}

    monkeypatch.setattr(module, "train", train)
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(train_all(runs_in(tmp_path, 5), 2, False))
    assert sorted(begun) == sorted(ended) == ["seed_0", "seed_1"]
    assert time.monotonic() - before < 30

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import allencv.common  # noqa: F401 - lets torch.load read the numbers of a training state
from tests.commands.conftest import Clone
from tests.conftest import Run, same_tensors

pytestmark = pytest.mark.slow


def has_checkpoint_of_second_epoch(folder: Path) -> bool:
    """Whether there is one from the middle of the second epoch; `model_state` is written first."""
    return any(folder.joinpath(f"training_state_e1_b{step}.th").exists() for step in range(1, 6))


def test_a_killed_run_recovers_to_the_same_weights_to_the_bit(
    clone: Clone, finished: Path, run: Run, tmp_path: Path
) -> None:
    """`finished` was trained by the same command, and nobody killed it."""
    command = clone.train(tmp_path / "killed")
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=clone.folder,
        env={**os.environ, **clone.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not has_checkpoint_of_second_epoch(tmp_path / "killed") and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "metrics.json").exists()
    # A kill while a checkpoint is being written leaves something like this.
    (tmp_path / "killed" / "model_state_e1_b5.th.tmp").write_bytes(b"cut off")

    run(*command, "--recover", cwd=clone.folder, env=clone.env)

    runs = (finished, tmp_path / "killed")
    for name in ("model_state_e5_b0.th", "best.th"):
        assert same_tensors(*(torch.load(folder / name) for folder in runs)), name
    averages = [
        torch.load(folder / "training_state_e5_b0.th")["moving_average"]["shadows"]
        for folder in runs
    ]
    assert same_tensors(*averages)
    # They are weights of their own, not those of the last step.
    assert not same_tensors(averages[0], torch.load(finished / "model_state_e5_b0.th"))
    assert not list(runs[1].rglob("*.tmp"))

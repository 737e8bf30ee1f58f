"""A launcher starts a rank, and is killed. Both are processes that import nothing large."""

import os
import signal
import subprocess
import sys

import pytest

RANK = """
import time
from allencv.runtime.launcher_watch import end_with_launcher
end_with_launcher()
print("begun", flush=True)
time.sleep(30)
print("not ended", flush=True)
"""
LAUNCHER = """
import subprocess, sys, time
subprocess.run([sys.executable, "-c", sys.argv[1]], start_new_session=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows gives an orphan no other parent")
@pytest.mark.parametrize("local_rank", ["0", "1"])
def test_a_rank_ends_when_its_launcher_is_killed(local_rank: str) -> None:
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "run", "LOCAL_RANK": local_rank}
    pipe = subprocess.PIPE
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, RANK], env=environment, stdout=pipe, stderr=pipe, text=True
    )
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "begun\n"
    launcher.send_signal(signal.SIGKILL)
    output, errors = launcher.communicate(timeout=25)  # when the rank has closed them, too
    assert output == ""
    expected = f"allencv: the launcher (process {launcher.pid}) was killed, so its ranks end"
    assert errors == ("" if local_rank == "1" else f"{expected}\n")

"""A launcher starts a process, and is killed. Both import nothing large."""

import os
import signal
import subprocess
import sys
from typing import Dict

import pytest

from allencv.runtime.launcher_watch import ENDS_WITH_PARENT

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
@pytest.mark.parametrize(
    ("variables", "says_so"),
    [
        ({"TORCHELASTIC_RUN_ID": "run", "LOCAL_RANK": "0"}, True),
        ({"TORCHELASTIC_RUN_ID": "run", "LOCAL_RANK": "1"}, False),
        ({ENDS_WITH_PARENT: "1"}, False),
    ],
)
def test_a_process_ends_when_its_launcher_is_killed(
    variables: Dict[str, str], says_so: bool
) -> None:
    environment = {**os.environ, **variables}
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
    assert errors == (f"{expected}\n" if says_so else "")

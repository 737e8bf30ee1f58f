"""A command that is forked shows what a new process shows."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List

import psutil
import pytest

from tests.conftest import Run
from tests.forking.commands import forked_commands

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked")

SEE = """
import os, sys
print(sys.argv, __name__, globals().get("__file__"), os.getcwd())
print([path for path in sys.path if path.startswith(os.getcwd()) or not path])
print(sys.stdin.read(), os.environ.get("GIVEN"), os.environ.get("PYTHONPATH"))
print(sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors)
print("to stderr", file=sys.stderr)
"""
LATE = """
import atexit, threading, time
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
print("end of script")
"""
CODES = {
    "nothing": "",
    "see": SEE,
    "late": LATE,
    "status": "import sys; sys.exit(3)",
    "large status": "import sys; sys.exit(259)",
    "status true": "import sys; sys.exit(True)",
    "message": "import sys; print('out'); sys.exit('what is wrong')",
    "status and late": LATE + "raise SystemExit(4)",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "segmentation fault": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "at once": "import os; print('lost'); os._exit(5)",
    "written": "import os; os.write(1, b'first'); print('second')",
    "syntax": "print(",
    "bytes": "import sys; sys.stdout.buffer.write(bytes(range(256)))",
    "child": "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1)'])",
    "closed output": "import sys; sys.stdout.close()",
    "fork": "import os; pid = os.fork(); pid and os.waitpid(pid, 0); print(bool(pid))",
    "signals": "import signal; print(*(signal.getsignal(s) for s in (2, 15, signal.SIGCHLD)))",
}


def both(arguments: List[str], folder: Path, **env: str) -> "List[subprocess.CompletedProcess]":
    """What a new process and a forked one give. They run at the same time."""

    def run(commands: Path) -> "subprocess.CompletedProcess":
        return subprocess.run(
            [commands / "python", *arguments],
            cwd=folder,
            env={**os.environ, "GIVEN": "é", **env},
            input=b"from stdin",
            capture_output=True,
            timeout=100,
        )

    with ThreadPoolExecutor(2) as executor:
        return list(executor.map(run, (Path(sys.executable).parent, forked_commands())))


@pytest.mark.parametrize("case", CODES)
def test_code(case: str, tmp_path: Path) -> None:
    real, forked = both(["-c", CODES[case], "--an", "argument"], tmp_path)
    assert forked.returncode == real.returncode
    assert forked.stdout == real.stdout
    assert forked.stderr == real.stderr or case in ("interrupt", "syntax")
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


@pytest.mark.parametrize("arguments", [["script.py", "one"], ["-m", "module", "two"]])
@pytest.mark.parametrize("env", [{}, {"PYTHONPATH": "elsewhere"}])
def test_scripts_and_modules(arguments: List[str], env: Dict[str, str], tmp_path: Path) -> None:
    for name in ("script.py", "module.py"):
        (tmp_path / name).write_text(SEE)
    real, forked = both(arguments, tmp_path, **env)
    assert real.returncode == 0
    assert (forked.returncode, forked.stdout, forked.stderr) == (0, real.stdout, real.stderr)


def test_an_error_ends_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("def fail():\n    1 / 0\nfail()\n")
    real, forked = both(["script.py"], tmp_path)
    assert forked.returncode == real.returncode == 1
    assert forked.stderr.startswith(b"Traceback (most recent call last):\n")
    assert forked.stderr.splitlines()[-3:] == real.stderr.splitlines()[-3:]


FORKED = "import sys; print('torch' in sys.modules, 'allencv' in sys.modules)"


def test_what_is_imported(run: Run) -> None:
    """AllenCV is not, so that `allennlp` must find its parts by itself."""
    assert run("python", "-c", FORKED).stdout == "True False\n"
    assert run("python", "-c", FORKED, fresh=True).stdout == "False False\n"


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "HF_HOME", "PYTHONHASHSEED"])
def test_variables_that_are_read_at_import_need_a_new_process(run: Run, variable: str) -> None:
    assert run("python", "-c", FORKED, env={variable: "7"}).stdout == "False False\n"


def test_random_numbers_differ(run: Run) -> None:
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    first, second = (run("python", "-c", code).stdout.split() for _ in range(2))
    assert not {*first} & {*second}


ASLEEP = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGUSR1):
    if number.name in sys.argv:
        signal.signal(number, lambda number, frame: sys.exit(100 + number))
print(os.getpid(), flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("handled", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_it(number: signal.Signals, handled: bool) -> None:
    command = [forked_commands() / "python", "-c", ASLEEP, number.name if handled else ""]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        caught = handled and number != signal.SIGINT
        assert process.wait(20) == (100 + number if caught else -number)


def test_it_ends_with_its_client() -> None:
    """So a time-out of `subprocess` leaves nothing behind."""
    command = [forked_commands() / "python", "-c", ASLEEP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    for _ in range(200):
        if not psutil.pid_exists(pid):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} still runs")

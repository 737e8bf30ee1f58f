"""Each test stops a process of its own, which does what a command might be doing then."""

import signal
import subprocess
import sys
import time
from typing import Tuple

import pytest

BEGIN = """
import os, sys, threading, time
from allencv.runtime.stopping import leave, name_of, status_after, stop_within
stop_within({seconds}, say_so={say_so})
def end(stop):
    print(name_of(stop), flush=True)
    leave(status_after(stop))
def begun():
    print("begun", flush=True)
"""
RAISES = """
try:
    begun()
    time.sleep(60)
except KeyboardInterrupt as stop:
    end(stop)
"""
BUSY_THREAD = (
    """
threading.Thread(target=time.sleep, args=[60]).start()  # for which Python would wait
"""
    + RAISES
)
FREED = """
import weakref
class Thing: pass
def free():
    begun()
    while True:  # until the signal
        pass
thing = Thing()
weakref.finalize(thing, free)
try:
    del thing
    time.sleep(60)
except KeyboardInterrupt as stop:
    end(stop)
"""
SWALLOWED = """
while True:
    try:
        begun()
        time.sleep(60)
    except BaseException:
        pass
"""
HELD = """
import ctypes
while True:
    try:
        begun()
        ctypes.CDLL(None).sleep(60)  # in a library, where Python raises nothing
    except BaseException:
        pass
"""
FORKED = (
    """
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.write(writing, b"there")
    time.sleep(60)
os.read(reading, 1)
os.kill(child, 15)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
time.sleep(0.5)
"""
    + RAISES
)


CHILD = (
    """
import multiprocessing
reading, writing = os.pipe()
def work():
    try:
        os.write(writing, b"there")
        time.sleep(60)
    except KeyboardInterrupt:
        os._exit(0)
multiprocessing.get_context("fork").Process(target=work).start()
os.read(reading, 1)
"""
    + RAISES
)


def stopped(
    code: str,
    number: signal.Signals,
    seconds: float = 60,
    times: int = 1,
    begin: str = "",
    say_so: bool = True,
) -> Tuple[int, str, str]:
    """The exit status of a process that was stopped, and what it wrote."""
    program = begin + BEGIN.format(seconds=seconds, say_so=say_so) + code
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while lines[-1] not in ("begun\n", ""):
        lines.append(process.stdout.readline())
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.01)
    output, errors = process.communicate(timeout=50)
    return process.returncode, "".join(lines) + output, errors


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("code", [RAISES, BUSY_THREAD])
def test_a_signal_ends_the_main_thread_and_does_not_wait_for_others(
    code: str, number: signal.Signals, status: int
) -> None:
    assert stopped(code, number) == (status, f"begun\n{number.name}\n", "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_an_object_is_freed_is_not_lost(number: signal.Signals, status: int) -> None:
    """Python ignores what is raised there."""
    assert stopped(FREED, number) == (status, f"begun\n{number.name}\n", "")


@pytest.mark.parametrize("code", [SWALLOWED, HELD])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_does_not_end_is_ended(code: str, number: signal.Signals, status: int) -> None:
    line = f"allencv: ended while busy, 0.2 seconds after {number.name}\n"
    status_and_errors = stopped(code, number, seconds=0.2)[::2]
    assert status_and_errors == (status, line)


def test_the_time_can_be_changed() -> None:
    code = "from allencv.runtime.stopping import allow_to_stop\nallow_to_stop(0.2)\n" + HELD
    line = "allencv: ended while busy, 0.2 seconds after SIGTERM\n"
    assert stopped(code, signal.SIGTERM)[::2] == (143, line)


def test_a_process_can_be_ended_in_silence() -> None:
    assert stopped(HELD, signal.SIGTERM, seconds=0.2, say_so=False)[::2] == (143, "")


def test_a_second_sigterm_does_not_disturb_the_first() -> None:
    code = RAISES.replace("end(stop)", "time.sleep(0.2); end(stop)")
    assert stopped(code, signal.SIGTERM, times=5) == (143, "begun\nSIGTERM\n", "")
    code = code.replace("time.sleep(0.2)", "os.kill(os.getpid(), 15); time.sleep(0.2)")
    assert stopped(code, signal.SIGINT) == (130, "begun\nSIGINT\n", "")


def test_child_processes_end_too() -> None:
    """Python waits for them at its end, as for the processes of distributed training."""
    assert stopped(CHILD, signal.SIGTERM) == (143, "begun\nSIGTERM\n", "")


def test_in_the_background_ctrl_c_is_ignored_as_before() -> None:
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code = RAISES.replace("time.sleep(60)", "time.sleep(0.3); print('done')")
    assert stopped(code, signal.SIGINT, begin=ignoring) == (0, "begun\ndone\n", "")


def test_a_signal_to_a_forked_process_is_its_own() -> None:
    """It would else be told to the parent, which would end after the time."""
    expected = (130, "child -15\nbegun\nSIGINT\n", "")
    assert stopped(FORKED, signal.SIGINT, seconds=0.2) == expected

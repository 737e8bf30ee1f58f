"""A command that is told to stop, by Ctrl-C or SIGTERM, ends within a stated time."""

import atexit
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

STATUSES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""The exit status after each signal, as shells have it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM told the process to stop. What handles Ctrl-C handles it alike."""


def status_after(stop: KeyboardInterrupt) -> int:
    return STATUSES[signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT]


def name_of(stop: KeyboardInterrupt) -> str:
    """The name of the signal that stopped a command."""
    return (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT).name


def stop_within(seconds: float) -> None:
    """
    Let SIGTERM raise `Terminated` in the main thread, as Ctrl-C raises `KeyboardInterrupt` there.
    If the process still runs `seconds` after either of them, it ends then.

    Python raises nothing while the main thread waits in a system call or in a library. So a thread
    is told of the signal too, and watches the time.
    """
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background
        signal.signal(signal.SIGINT, _stop)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=_forget)
    # The thread keeps both ends of the connection open.
    watch = threading.Thread(target=_watch, args=(reading, writing, seconds), daemon=True)
    watch.start()


def leave(status: int) -> NoReturn:
    """End the process without waiting for threads that are still at work."""
    if status == STATUSES[signal.SIGTERM]:  # Ctrl-C reaches other processes by itself
        for child in multiprocessing.active_children():
            if child.pid is not None:
                with suppress(OSError):
                    os.kill(child.pid, signal.SIGINT)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _stop(number: int, frame: Any) -> None:
    # Some programs send SIGTERM twice, or after Ctrl-C: it must not disturb what the first began.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _forget() -> None:
    """Let a forked process end by signals of its own, and tell its parent nothing of them."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _watch(reading: socket.socket, writing: socket.socket, seconds: float) -> None:
    while (number := reading.recv(1)[0]) not in STATUSES:
        pass
    time.sleep(seconds)
    name = signal.Signals(number).name
    os.write(2, f"allencv: ended while busy, {seconds:g} seconds after {name}\n".encode())
    os._exit(STATUSES[signal.Signals(number)])

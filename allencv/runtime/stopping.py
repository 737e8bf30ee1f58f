"""End a command within a given time after Ctrl-C or SIGTERM."""

import atexit
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Callable, NoReturn, Optional

STATUSES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""The exit status after each signal, as in shells."""


@dataclass
class _Limit:
    seconds: float


_limit = _Limit(math.inf)
"""How long this process may go on after a signal."""


class Terminated(KeyboardInterrupt):
    """SIGTERM told the process to stop. Handlers of Ctrl-C handle it too."""


def status_after(stop: KeyboardInterrupt) -> int:
    return STATUSES[signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT]


def name_of(stop: KeyboardInterrupt) -> str:
    """Return the name of the signal that stopped a command."""
    return (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT).name


def stop_within(seconds: float, say_so: bool = True) -> None:
    """
    Make SIGTERM raise `Terminated` in the main thread, as Ctrl-C raises `KeyboardInterrupt`. If the
    process still runs `seconds` after either signal, end it, and with `say_so` print a line.

    Python raises nothing while the main thread is in a system call or a library. So another thread
    receives the signal too, and watches the time.
    """
    _limit.seconds = seconds
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background
        signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = partial(_stop_again, sys.unraisablehook)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=_forget)
    # The thread keeps both ends of the connection open.
    watch = threading.Thread(target=_watch, args=(reading, writing, say_so), daemon=True)
    watch.start()


def allow_to_stop(seconds: float) -> None:
    """Change the time of `stop_within`, for a process that has to end others first."""
    _limit.seconds = seconds


def leave(status: int) -> NoReturn:
    """End the process without waiting for threads that still work."""
    if status == STATUSES[signal.SIGTERM]:  # Ctrl-C reaches child processes by itself
        for child in multiprocessing.active_children():
            if child.pid is not None:
                with suppress(OSError):
                    os.kill(child.pid, signal.SIGINT)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _stop(number: int, frame: Optional[FrameType]) -> None:
    # Some programs send SIGTERM twice, or after Ctrl-C: ignore the second signal.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _stop_again(otherwise: Callable[[Any], object], lost: Any) -> None:
    """
    Send a signal again whose exception Python has ignored, as it was raised while an object was
    freed: by a finalizer, in `__del__` or by the garbage collector. Pass other errors on.
    """
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        otherwise(lost)
        return
    number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
    signal.signal(signal.SIGTERM, _stop)
    # A moment later: here it would be ignored again.
    again = threading.Timer(0.01, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _forget() -> None:
    """Let signals end a forked process, without notice to its parent."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _watch(reading: socket.socket, writing: socket.socket, say_so: bool) -> None:
    while (number := reading.recv(1)[0]) not in STATUSES:
        pass
    seconds = _limit.seconds
    time.sleep(seconds)
    if say_so:
        name = signal.Signals(number).name
        os.write(2, f"allencv: ended while busy, {seconds:g} seconds after {name}\n".encode())
    os._exit(STATUSES[signal.Signals(number)])

"""
Commands that start in a tenth of a second: most of what a new process of AllenNLP does is to import
AllenNLP and torch, which takes ten seconds.
"""

import json
import os
import socket
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Dict

from tests.shared_folders import IS_WORKER, made_once

HERE = Path(__file__).parent
NAMES = ("allencv", "allennlp", "python")


@lru_cache
def environment() -> Dict[str, str]:
    """Return the server's environment, as it is before a test changes anything."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


@lru_cache
def forked_commands() -> Path:
    """
    Return a folder with the commands, for the PATH of a shell, or to start one by its path. On
    other systems than Linux, each command is a new process.
    """
    if sys.platform != "linux":
        return Path(sys.executable).parent
    return made_once("commands", start)


def start(folder: Path) -> None:
    folder.mkdir()
    write_commands(folder)
    start_server(folder)


def write_commands(folder: Path) -> None:
    code = (HERE / "command.py").read_text(encoding="utf-8")
    for name in NAMES:
        (folder / name).write_text(f"#!{sys.executable} -IS\n{code}")
        (folder / name).chmod(0o755)


def start_server(folder: Path) -> None:
    """Start it for as long as pytest runs; with `pytest -n` that is this process's parent."""
    pid = os.getppid() if IS_WORKER else os.getpid()
    (folder / "environment.json").write_text(json.dumps(environment()))
    listeners = []
    for name in ("libraries.socket", "allencv.socket"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / name))
        listener.listen()
        listeners.append(listener)
    descriptors = [listener.fileno() for listener in listeners]
    with (folder / "server.log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, HERE / "server.py", *map(str, descriptors), str(pid)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C in a terminal is for pytest
        )
    for listener in listeners:
        listener.close()

"""
Runs commands in processes forked from this one, which has imported what is slow to import. It is a
script of its own, with the descriptors of two listening sockets and a process to live as long as:
`server.py LIBRARIES_FD ALLENCV_FD PID`. `tests/forking/command.py` is the client.

Nothing here may start a thread: a forked process has only the thread that forked.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List, Optional

SCRIPT = ModuleType("__main__")
"""What a command's script or its `-c` is run as."""
status = 0

LIBRARIES = [
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "numpy",
    "PIL.Image",
    "sklearn.metrics",
    "torch",
    "torchvision.transforms.v2",
]
# What is imported for the commands of `allennlp` and `python`. They must find AllenCV's parts by a
# plugin or a package to include.
ALLENNLP = ["allennlp.commands", "tensorboardX", "timm", "torchmetrics"]
# What is imported for `allencv`.
ALLENCV = ["allencv.plugin", "tensorboardX", "timm"]
REFUSED = ["boto3", "botocore", "fairscale", "h5py", "nltk", "sentencepiece", "spacy"]
REFUSED += ["tokenizers", "transformers", "wandb"]
"""Packages for text. `allencv` must work where they are not installed."""


def import_packages_once() -> None:
    """Let AllenNLP import a package's modules once, as to look for them takes half a second."""
    plugins = importlib.import_module("allennlp.common.plugins")
    import_all = plugins.import_module_and_submodules
    missing: Dict[str, Optional[ModuleNotFoundError]] = {}

    def import_once(name: str, exclude: Any = None) -> None:
        if name not in missing:
            missing[name] = None
            try:
                import_all(name, exclude)
            except ModuleNotFoundError as error:
                missing[name] = error
        if (error := missing[name]) is not None:
            raise error

    plugins.import_module_and_submodules = import_once
    import_once("allennlp", {"allennlp.sanity_checks", "allennlp.tools"})  # as AllenNLP leaves out
    for name in plugins.DEFAULT_PLUGINS:
        with suppress(ModuleNotFoundError):
            import_once(name)


def serve(listener: socket.socket, pid: int) -> Dict[str, Any]:
    """
    Accept commands while the process `pid` lives. It returns in the forked process of each, with
    the command.
    """
    listener.settimeout(1)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                os._exit(0)
            continue
        if os.fork():
            connection.close()  # and SIGCHLD is ignored: nobody waits for the supervisor
        else:
            listener.close()
            return supervise(connection)


def supervise(connection: socket.socket) -> Dict[str, Any]:
    """Fork the command's process, pass signals on to it, and tell its client how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.settimeout(None)
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile() as lines:
        command = json.loads(lines.readline())
    child = os.fork()
    if not child:
        connection.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        return dict(command)
    for descriptor in (0, 1, 2, *descriptors):  # or a pipe would never end
        os.close(descriptor)
    ended = os.pidfd_open(child)
    while True:
        ready, _, _ = select.select([connection, ended], [], [])
        if ended in ready:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            try:
                connection.sendall(f"{status}\n".encode())
            finally:
                os._exit(0)
        if number := connection.recv(1):
            os.kill(child, number[0])
        else:  # the client was killed
            os.kill(child, signal.SIGKILL)
            os._exit(0)


def prepare(environment: Dict[str, str], folder: str) -> None:
    """Make this process like one that has just been started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    importlib.invalidate_caches()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "w" if number else "r"
        by_line = os.isatty(number) or number == 2 or "PYTHONUNBUFFERED" in os.environ
        stream = open(  # noqa: SIM115 - Python never closes it either
            number, mode, 1 if by_line else -1, "utf-8", getattr(sys, name).errors, closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    # As in any new process, the generators that nobody has seeded differ.
    sys.modules["numpy"].random.seed()


def run(arguments: List[str], python: str) -> None:
    """
    Run the script, the module or the code that `arguments` of Python name. `python` is the command
    that runs Python in a forked process.
    """
    first, *others = arguments
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = ["", *(os.path.abspath(path) for path in paths if path)]
    if others[:1] in (["sweep"], ["tune"]):  # whose runs are commands too
        sys.executable = python
    if first == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = others
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
        return
    if first == "-c":
        name, code = "<string>", others.pop(0)
        sys.argv = ["-c", *others]
    else:
        name, code = first, Path(first).read_text(encoding="utf-8")
        sys.path[0] = str(Path(first).resolve().parent)
        sys.argv = arguments
        SCRIPT.__file__ = os.path.abspath(first)
    sys.modules["__main__"] = SCRIPT
    exec(compile(code, name, "exec"), SCRIPT.__dict__)


def run_to_the_end(command: Dict[str, Any]) -> None:
    """Run it, and note how Python will end the process after what it does at exit."""
    global status
    try:
        run(command["arguments"], command["python"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:
        status = -signal.SIGINT
        raise
    except BaseException:
        status = 1
        raise


def leave() -> None:
    """Exit at once: taking apart all the imported modules would need a second."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 0xFF)


def main() -> None:
    atexit.register(leave)  # before all others, so that it is called after them
    libraries, allencv, pid = map(int, sys.argv[1:])
    listener = socket.socket(fileno=libraries)
    del sys.path[0]  # the folder of this file
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends pytest, and this with it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for name in LIBRARIES:
        importlib.import_module(name)
    if os.fork() == 0:
        listener.close()
        listener = socket.socket(fileno=allencv)
        for name in REFUSED:
            sys.modules[name] = None  # type: ignore[assignment]  # as if not installed
    else:
        os.close(allencv)
    for name in ALLENCV if listener.fileno() == allencv else ALLENNLP:
        importlib.import_module(name)
    import_packages_once()
    gc.collect()
    gc.freeze()  # so that collections in forked processes copy no pages
    command = serve(listener, pid)
    prepare(command["environment"], command["folder"])
    run_to_the_end(command)


if __name__ == "__main__":
    main()  # returns in a forked process, which ends as any other does

"""
Stands for `allencv`, `allennlp` or `python` in the folder of `forked_commands`: has a server
(`tests/forking/server.py`) run the command in a forked process, which gets this one's arguments,
environment, folder and files. It passes signals on and ends as that process does.

What a forked process cannot show is run as a real one: options of Python, and variables that
libraries read when they are imported.
"""

import json
import os
import signal
import socket
import sys

READ_AT_IMPORT = ("ALLENNLP_CACHE", "HF_", "HOME", "LANG", "LC_", "MKL_", "OMP_", "PYTHON", "XDG_")
"""The beginnings of their names."""


def main() -> None:
    folder = os.path.dirname(os.path.abspath(__file__))
    name = os.path.basename(__file__)
    arguments = sys.argv[1:]
    real = os.path.join(os.path.dirname(sys.executable), name)
    if name != "python":
        arguments = [real, *arguments]
    with open(os.path.join(folder, "environment.json")) as file:
        environment = json.load(file)
    if not arguments or (arguments[0][:1] == "-" and arguments[0] not in ("-c", "-m")):
        os.execv(real, [real, *arguments])
    for key, value in os.environ.items():
        given = key.startswith(READ_AT_IMPORT) and key != "PYTHONPATH"
        if given and environment.get(key) != value:
            os.execv(real, [real, *sys.argv[1:]])
    ours = name == "allencv" or arguments[:2] == ["-m", "allencv"]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.path.join(folder, "allencv.socket" if ours else "libraries.socket"))
    command = {
        "arguments": arguments,
        "environment": {**os.environ},
        "folder": os.getcwd(),
        "python": os.path.join(folder, "python"),
    }
    socket.send_fds(connection, [b"\0"], [0, 1, 2])
    connection.sendall(json.dumps(command).encode() + b"\n")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: connection.sendall(bytes([number])))
    status = int(connection.makefile().readline())
    if status < 0:
        if signal.Signals(-status) != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


main()

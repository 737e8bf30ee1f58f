"""
Wait for the machines of a run, which are started one after the other. Ctrl-C ends the wait, but not
torch's own.
"""

import socket
import time
from datetime import timedelta

from allennlp.common.checks import ConfigurationError
from torch.distributed import DistError, TCPStore

from allencv.training.errors import TrainingError

SECONDS_TO_RESOLVE = 30.0
"""How long a name may take to be known: clusters publish it when they start a machine."""
SECONDS_BETWEEN_TRIES = 1.0


def wait_until_resolved(key: str, address: str) -> None:
    """
    Wait until the address of the first machine can be resolved.

    # Raises

    `ConfigurationError` with the key or the variable that has the address, if it cannot.
    """
    end = time.monotonic() + SECONDS_TO_RESOLVE
    while True:
        try:
            socket.getaddrinfo(address, None)
            return
        except (OSError, UnicodeError) as error:  # the second for an empty or a very long part
            if time.monotonic() > end:
                reason = getattr(error, "strerror", None) or "not the name of a machine"
                raise ConfigurationError(
                    f"{key} is '{address}', which cannot be resolved ({reason}); expected the name "
                    "or the address of the first machine"
                ) from None
        time.sleep(SECONDS_BETWEEN_TRIES)


def wait_for_machines(
    address: str, port: int, node_rank: int, nodes: int, seconds: float
) -> TCPStore:
    """
    Wait until the command runs on all machines. Return the store of the first, which listens as
    long as the object lives there.

    # Raises

    `TrainingError` if a machine is missing after `seconds`, or the first one is lost.
    """
    try:
        return _wait(address, port, node_rank, nodes, seconds)
    except DistError as error:  # as when the first machine has stopped waiting
        first = str(error).partition("\n")[0]
        raise TrainingError(
            f"machine {node_rank} cannot join the others at {address}:{port} ({first}); see what "
            "the command with --node-rank 0 has printed"
        ) from None


def _wait(address: str, port: int, node_rank: int, nodes: int, seconds: float) -> TCPStore:
    timeout, end = timedelta(seconds=max(seconds, 1)), time.monotonic() + seconds
    if node_rank == 0:
        # torch's launcher shares what listens at the port.
        server = TCPStore("localhost", port, None, True, timeout, multi_tenant=True)
    _wait_until_reached(address, port, seconds)
    store = TCPStore(address, port, None, False, timeout)
    store.set(f"machine {node_rank}", "")
    for machine in range(nodes):
        while not store.check([f"machine {machine}"]):
            if time.monotonic() > end:
                raise TrainingError(
                    f"machine {machine} of {nodes} has not joined within distributed.timeout_s, "
                    f"{seconds:g} seconds; start the same command with --node-rank {machine} there"
                )
            time.sleep(SECONDS_BETWEEN_TRIES)
    return server if node_rank == 0 else store


def _wait_until_reached(address: str, port: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            left = max(end - time.monotonic(), 1)
            socket.create_connection((address, port), timeout=left).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise TrainingError(
                    f"the first machine cannot be reached at {address}:{port} within "
                    f"distributed.timeout_s, {seconds:g} seconds ({error.strerror or error}); "
                    "start the command with --node-rank 0 there, and check "
                    "distributed.primary_address and primary_port"
                ) from None
        time.sleep(SECONDS_BETWEEN_TRIES)

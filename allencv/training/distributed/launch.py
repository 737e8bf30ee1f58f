"""Start the ranks of this machine, and end them all when one of them fails."""

import logging
import signal
import socket
import sys
import tempfile
from inspect import signature
from typing import Any, Dict, List, Optional, Tuple

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import find_open_port
from torch.distributed import DistError, Store

from allencv.runtime.stopping import Terminated, allow_to_stop
from allencv.training.distributed.settings import Distributed
from allencv.training.distributed.wait_for_machines import wait_for_machines, wait_until_resolved
from allencv.training.errors import TrainingError

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)  # Windows has two
]
"""The signals that end all ranks. torch replaces their handlers."""
CAUSES = {
    "SIGKILL": "; if nobody did so, it may have used too much memory",
    "SIGABRT": "; if the GPUs' library NCCL did so, a rank did not answer within "
    "distributed.timeout_s",
    "SIGBUS": "; shared memory (/dev/shm) may be full",
}
"""What often makes the system or a library end a process with a signal."""
SECONDS_TO_END = 60
"""How long the ranks may take to end after a signal: the first archives the best epoch."""
NEWER_KEYS: Dict[str, Any] = {
    "shutdown_timeout": SECONDS_TO_END,
    # Not SIGINT: its exception ends the ranks by SIGTERM. A rank that is just starting would print
    # a traceback after SIGINT.
    "signals_to_handle": "SIGTERM,SIGHUP,SIGQUIT",
}
"""The keys of torch's `LaunchConfig` that older versions of torch lack."""


def launch(settings: Distributed, node_rank: int, command: List[str]) -> None:
    """
    Run a command of `allencv` as each rank of this machine, with the environment that `torchrun`
    would give it, and wait until all have ended.

    # Parameters

    node_rank : `int`
        The number of this machine.
    command : `List[str]`
        The arguments of `allencv`.

    # Raises

    `ConfigurationError` if the settings cannot be used here; `TrainingError` if a signal ended a
    rank; `SystemExit` if a rank failed, which has shown its error.
    """
    _check(settings, node_rank)
    settings.check_devices()
    # Only here: these modules take half a second to import.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):  # it would report each error once more
            logging.getLogger(name).setLevel(logging.CRITICAL)
    address, port, store = _meet(settings, node_rank)
    config = LaunchConfig(
        min_nodes=settings.num_nodes,
        max_nodes=settings.num_nodes,
        nproc_per_node=len(settings.cuda_devices or []),
        run_id="allencv",
        rdzv_backend="static",
        rdzv_endpoint=f"{address}:{port}",
        rdzv_configs={"rank": node_rank, "timeout": int(max(settings.timeout_s, 1))},
        max_restarts=0,
        **{key: NEWER_KEYS[key] for key in NEWER_KEYS.keys() & signature(LaunchConfig).parameters},
    )
    with tempfile.TemporaryDirectory(prefix="allencv-ranks-") as folder:
        config.logs_specs = DefaultLogsSpecs(log_dir=folder)  # for the files with the errors
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        allow_to_stop(SECONDS_TO_END + 15)
        try:
            elastic_launch(config, sys.executable)("-m", "allencv", *command)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode < 0:
                name = failure.signal_name()
                raise TrainingError(
                    f"rank {rank} (process {failure.pid}) was ended by {name}{CAUSES.get(name, '')}"
                    "; the last checkpoint is kept, and --recover resumes from it"
                ) from None
            sys.exit(failure.exitcode)  # the rank has shown its error
        except DistError as error:
            first = str(error).partition("\n")[0]
            raise TrainingError(f"the ranks cannot meet at {address}:{port}: {first}") from None
        except SignalException as error:
            is_term = error.sigval == signal.SIGTERM
            raise (Terminated if is_term else KeyboardInterrupt) from None
        finally:
            del store  # other machines used it until now
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _meet(settings: Distributed, node_rank: int) -> Tuple[str, int, Optional[Store]]:
    """
    Wait for the other machines. Return the address and port of the first, and on several machines
    what listens there as long as the object lives.
    """
    address, port = settings.primary_address or "127.0.0.1", settings.primary_port
    wait_until_resolved("distributed.primary_address", address)
    if settings.num_nodes == 1 or port is None:
        return address, port or find_open_port(), None
    nodes, seconds = settings.num_nodes, settings.timeout_s
    return address, port, wait_for_machines(address, port, node_rank, nodes, seconds)


def _check(settings: Distributed, node_rank: int) -> None:
    """Raise `ConfigurationError` if settings lack something, or contradict each other."""
    nodes, devices = settings.num_nodes, settings.cuda_devices
    if devices is None or (len(devices) < 2 and nodes < 2):
        raise ConfigurationError(
            f"distributed.cuda_devices is {devices}; expected two devices or more, or "
            "distributed.num_nodes above 1, or no distributed"
        )
    if not 0 <= node_rank < nodes:
        raise ConfigurationError(
            f"--node-rank is {node_rank}, but distributed.num_nodes is {nodes}; expected 0 to "
            f"{nodes - 1}"
        )
    for key, value in (
        ("primary_address", settings.primary_address),
        ("primary_port", settings.primary_port),
    ):
        if nodes > 1 and value is None:
            raise ConfigurationError(
                f"distributed.num_nodes is {nodes}, but distributed.{key} is missing; expected "
                "that of the first machine, which the others connect to"
            )
    if node_rank == 0 and settings.primary_port is not None:
        _check_port(settings.primary_port)


def _check_port(port: int) -> None:
    """Raise `ConfigurationError` if the port is in use."""
    # Python may know IPv6 where the system does not.
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise ConfigurationError(
                f"distributed.primary_port is {port}, which cannot be used ({error.strerror}); "
                "expected a free port"
            ) from None

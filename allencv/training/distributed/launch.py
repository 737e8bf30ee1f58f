"""Start the ranks of this machine, and end them all when one of them fails."""

import logging
import signal
import socket
import sys
import tempfile
from typing import List

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import find_open_port

from allencv.runtime.stopping import Terminated
from allencv.training.distributed.ranks import LAUNCHED
from allencv.training.distributed.settings import Distributed
from allencv.training.errors import TrainingError

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)  # Windows has two
]
"""The signals that end all ranks. torch replaces their handlers."""


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
    address, port = settings.primary_address or "127.0.0.1", settings.primary_port
    config = LaunchConfig(
        min_nodes=settings.num_nodes,
        max_nodes=settings.num_nodes,
        nproc_per_node=len(settings.cuda_devices or []),
        run_id="allencv",
        role=LAUNCHED,
        rdzv_backend="static",
        rdzv_endpoint=f"{address}:{port or find_open_port()}",
        rdzv_configs={"rank": node_rank, "timeout": int(max(settings.timeout_s, 1))},
        max_restarts=0,
    )
    with tempfile.TemporaryDirectory(prefix="allencv-ranks-") as folder:
        config.logs_specs = DefaultLogsSpecs(log_dir=folder)  # for the files with the errors
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            elastic_launch(config, sys.executable)("-m", "allencv", *command)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode < 0:
                raise TrainingError(
                    f"rank {rank} (process {failure.pid}) was ended by {failure.signal_name()}; "
                    "if nobody did so, it may have used too much memory; the last checkpoint is "
                    "kept, and --recover resumes from it"
                ) from None
            sys.exit(failure.exitcode)  # the rank has shown its error
        except SignalException as error:
            is_term = error.sigval == signal.SIGTERM
            raise (Terminated if is_term else KeyboardInterrupt) from None
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


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
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise ConfigurationError(
                f"distributed.primary_port is {port}, which cannot be used ({error.strerror}); "
                "expected a free port"
            ) from None

"""Connect to Ray, which runs work in many processes, on one machine or a cluster."""

import logging
import os
import signal
import threading
from contextlib import contextmanager
from typing import Any, Iterator, NamedTuple

from allencv.runtime.errors import InputError
from allencv.runtime.installing import pip_install
from allencv.runtime.ray_arguments import RAY

ADDRESS = "RAY_ADDRESS"
OF_THIS_MACHINE = "local"


class Resources(NamedTuple):
    """The CPUs and GPUs of a cluster, and the CPUs of its largest machine."""

    cpus: int
    gpus: int
    most_cpus: int


@contextmanager
def connected_ray() -> Iterator[Any]:
    """
    Yield the module `ray`, connected to the cluster at `RAY_ADDRESS`. Without that variable, start
    a Ray on this machine, which ends with the block. A connection of the program is used as it is.

    # Raises

    `InputError` if Ray is not installed, if nothing answers at `RAY_ADDRESS`, or if a worker dies
    again and again. The cause of an error in a task or an actor, if the block does not handle it.
    """
    try:
        import ray
    except ImportError:
        raise InputError(
            f"--on {RAY} needs Ray, which is not installed: {pip_install('ray')}"
        ) from None
    ours = not ray.is_initialized()
    if ours:
        _connect(ray)
    try:
        yield ray
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayActorError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"a worker of Ray has died several times: {reason}") from error
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to anyone
    address = os.environ.get(ADDRESS) or OF_THIS_MACHINE
    options = {"include_dashboard": False} if address == OF_THIS_MACHINE else {}
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{ADDRESS} is '{address}': {reason}; expected the address of a running cluster"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray has set its own


def resources_of(ray: Any) -> Resources:
    """Return what the cluster has now. One that grows may have more later."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    return Resources(sum(cpus), gpus, max(cpus, default=0))

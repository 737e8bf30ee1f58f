"""The number of this process among the ranks of a run, and errors that are shown once."""

import logging
import os
import re
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Iterator, Optional

import torch.distributed as dist
from allennlp.common.checks import ConfigurationError

from allencv.runtime.plurals import numbered
from allencv.runtime.stopping import leave, status_after
from allencv.training.distributed.settings import TIMEOUT_S
from allencv.training.distributed.wait_for_machines import wait_until_resolved
from allencv.training.errors import TrainingError

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The environment variables that a launcher sets at least."""
START = "start"
"""The key of what the first rank gives the others when they may start: null if it has failed."""
SECONDS_TO_BE_ENDED = 10.0
"""How long a rank waits for its launcher to end it when another rank has failed."""


@dataclass(frozen=True)
class Rank:
    """
    This process among the ranks of a run, as its launcher has set it in the environment.

    # Parameters

    rank, world_size : `int`
        The number of this process, and the number of processes.
    local_rank, local_world_size : `int`
        The same for those on this machine.
    store : `dist.Store`
        Values that all ranks can read and write.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    store: dist.Store

    def is_first_to_tell(self) -> bool:
        """Return whether no other rank has called this."""
        try:
            return self.store.add("told", 1) == 1
        except RuntimeError:  # the process that has the store has ended
            return self.local_rank == 0


@contextmanager
def joined() -> Iterator[Optional[Rank]]:
    """
    Join the other ranks, if this process is one, for the `with` block. Of the errors of all ranks,
    one is raised from here, and the others exit: an error often occurs on each rank, and one that
    ends a rank makes others fail that wait for it.

    Yield `None` if the process is no rank.

    # Raises

    `ConfigurationError` if an environment variable of the launcher is missing or wrong.
    """
    if not _is_rank():
        yield None
        return
    rank = _join()
    if rank.rank > 0:
        logging.disable(logging.WARNING)  # until it has a log of its own
    try:
        yield rank
    except KeyboardInterrupt as stop:
        if rank.rank > 0:  # the first says so, unless a launcher does
            leave(status_after(stop))
        raise
    except Exception as error:
        shown = _error_to_show(error, rank)
        if shown is error:
            raise
        raise shown from None
    finally:
        logging.disable(logging.NOTSET)


def _is_rank() -> bool:
    if not {"RANK", "WORLD_SIZE"} & os.environ.keys() or os.environ.get("WORLD_SIZE") == "1":
        return False
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        given = [name for name in VARIABLES if name in os.environ]
        raise ConfigurationError(
            f"{numbered(len(given), 'environment variable')} of distributed training "
            f"({', '.join(given)}) without {', '.join(missing)}; expected all, which torchrun "
            "sets, or neither RANK nor WORLD_SIZE"
        )
    return True


def _join() -> Rank:
    world_size = _number("WORLD_SIZE", 1, sys.maxsize)
    number = _number("RANK", 0, world_size - 1)
    local_rank = _number("LOCAL_RANK", 0, number, "0")
    local_world_size = _number("LOCAL_WORLD_SIZE", 1, world_size, "1")
    address, port = os.environ["MASTER_ADDR"], _number("MASTER_PORT", 1, 65535)
    wait_until_resolved("MASTER_ADDR", address)
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=TIMEOUT_S)))
    except (dist.DistError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        raise TrainingError(
            f"rank {number} cannot join the others at {address}:{port} (MASTER_ADDR, MASTER_PORT): "
            f"{first}"
        ) from None
    # A store may outlive the ranks that a launcher starts again.
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    return Rank(number, world_size, local_rank, local_world_size, store)


def _number(name: str, least: int, most: int, default: str = "") -> int:
    """Return the value of an environment variable. Raises `ConfigurationError`."""
    text = os.environ.get(name, default)
    if not (text.isdecimal() and least <= int(text) <= most):
        expected = f"{least} or more" if most == sys.maxsize else f"{least} to {most}"
        raise ConfigurationError(
            f"the environment variable {name} is '{text}'; expected a number, {expected}"
        )
    return int(text)


def _error_to_show(error: Exception, rank: Rank) -> Exception:
    """Return the error if this rank is to show it, or else exit."""
    lost = _lost_connection(error)
    if lost is not None:
        is_late = "timed out" in lost.lower() or "timeout" in lost.lower()
        what = "does not answer within distributed.timeout_s" if is_late else "has ended"
        error = TrainingError(
            f"rank {rank.rank} waits for another rank, which {what} ({lost}); the last checkpoint "
            "is kept, and --recover resumes from it"
        )
        if not is_late:
            # The other rank has failed and says why, or its launcher does, and ends this one.
            _wait_to_be_ended()
    is_first_to_tell = rank.is_first_to_tell()
    with suppress(RuntimeError):  # the process that has the store has ended
        if rank.rank == 0 and not rank.store.check([START]):
            rank.store.set(START, "null")
    if not is_first_to_tell:
        sys.exit(1)
    if rank.rank > 0:  # a traceback would go to the log of the rank only
        shown = logging.StreamHandler()
        shown.setLevel(logging.CRITICAL)
        logging.getLogger().addHandler(shown)
    return error


def _lost_connection(error: BaseException) -> Optional[str]:
    """Return what torch says of a lost connection to another rank, if that is the cause."""
    cause: Optional[BaseException] = error
    while cause is not None:
        text = str(cause)
        is_torch = isinstance(cause, dist.DistError)
        if is_torch or (isinstance(cause, RuntimeError) and "gloo" in text):
            return re.sub(r"^\[\S+\] ", "", text.partition("\n")[0])
        cause = cause.__cause__ or cause.__context__
    return None


def _wait_to_be_ended() -> None:
    try:
        time.sleep(SECONDS_TO_BE_ENDED)
    except KeyboardInterrupt as stop:
        leave(status_after(stop))

"""Make the batches of the "image" data loader in processes."""

import gc
import multiprocessing
import os
import pickle
import random
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.util import Finalize, is_exiting
from typing import Any, Callable, NamedTuple, Optional, TypeVar

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError

from allencv.data.data_loaders.pinned_batches import mapped, pinned
from allencv.data.data_loaders.shared_batches import SharedBlocks
from allencv.data.data_loaders.workers import (
    BatchJob,
    Begun,
    Collated,
    InstanceLookup,
    WorkersAhead,
    make_batch,
)

T = TypeVar("T")

BLOCKS_IN_USE = 3
"""The number of batches that a consumer usually uses at the same time."""


class WorkerEnded(ConfigurationError):
    """A worker process has ended, or could not start. The loader needs new ones."""


def processes_share_memory() -> bool:
    """Return whether worker processes get what this process has in memory, without a copy."""
    return multiprocessing.get_start_method() == "fork"


def may_fork() -> bool:
    """Return whether this process can have such workers: a daemon process can have none."""
    return processes_share_memory() and not multiprocessing.current_process().daemon


class ProcessWorkers(WorkersAhead):
    """
    Processes that each make whole batches, with one thread, and stay for the next epoch. They start
    with the first batch. If one of them ends, the others end too, and `WorkerEnded` is raised.

    Batches come back in memory that is shared and used again if processes are forked, as on Linux.
    Then the processes also have this one's objects, and nothing needs to be pickled.
    """

    def __init__(
        self, instances: InstanceLookup, num_workers: int, prefetch_batches: int, pin: bool = False
    ) -> None:
        super().__init__(num_workers + prefetch_batches)
        self._pin = pin
        self._blocks: Optional[SharedBlocks] = None
        if processes_share_memory():
            with suppress(OSError):  # addresses are limited (`ulimit -v`): batches are sent then
                self._blocks = SharedBlocks(self._ahead + BLOCKS_IN_USE)
        self._executor = ProcessPoolExecutor(
            num_workers, initializer=_begin, initargs=(instances, self._blocks)
        )
        self._is_started = False
        # At exit too. The queue of the executor ends with priority 10: without it, the processes
        # would wait for work forever, and Python for them.
        Finalize(self, _end, (self._executor,), exitpriority=20)

    def start_processes(self) -> None:
        """Start the processes now, and not with the first batch: before other threads do."""
        if not self._is_started:
            self._submit(_nothing)

    def start(self, job: BatchJob) -> Begun:
        block = None if self._blocks is None else self._blocks.take()
        batch = _BatchOfProcess(self._blocks, block, self._pin)
        making = batch.making = self._submit(_make, job, block)
        making.add_done_callback(batch.receive)
        return batch

    def _submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        others = () if self._is_started else multiprocessing.active_children()
        try:
            making = self._executor.submit(function, *arguments)
        except BrokenProcessPool:
            raise _has_ended() from None
        except BaseException as error:
            if not self._is_started:
                # Those that have started would wait for work forever, and Python for them to end.
                for process in set(multiprocessing.active_children()).difference(others):
                    process.kill()
            if not isinstance(error, OSError):
                raise
            raise WorkerEnded(
                f"a worker process of the data loader cannot be started ({error.strerror}); "
                'expected a smaller data_loader.num_workers, or "worker": "thread" there'
            ) from error
        self._is_started = True
        return making


class _BatchOfProcess(Future):
    """A batch made by one process, and received by a thread of the executor."""

    making: "Optional[Future[bytes]]" = None

    def __init__(self, blocks: Optional[SharedBlocks], block: Optional[int], pin: bool) -> None:
        super().__init__()
        self._blocks = blocks
        self._block = block
        self._pin = pin

    def receive(self, making: "Future[bytes]") -> None:
        self.making = None  # it refers to this batch, which has to be freed at once
        try:
            self.set_result(self._opened(pickle.loads(making.result())))
        except BrokenProcessPool:
            self.set_exception(_has_ended())
        except BaseException as error:  # any error must reach whoever waits for the batch
            self.set_exception(error)
        finally:
            if self._blocks is not None and self._block is not None:
                self._blocks.give_back(self._block)

    def _opened(self, collated: Collated) -> Collated:
        batch = collated.batch
        if self._blocks is not None and self._block is not None:
            block, self._block = self._block, None
            batch = self._blocks.opened(block, batch)
        return collated._replace(batch=pinned(batch) if self._pin else batch)

    def stop(self) -> None:
        making = self.making
        if making is not None:
            making.cancel()


def _has_ended() -> WorkerEnded:
    return WorkerEnded(
        "a worker process of the data loader has ended; often the system ended it for lack of "
        "memory: a smaller data_loader.num_workers needs less"
    )


def _end(executor: ProcessPoolExecutor) -> None:
    executor.shutdown(wait=is_exiting(), cancel_futures=True)


# In a worker process.


class _Given(NamedTuple):
    instances: InstanceLookup
    blocks: Optional[SharedBlocks]


_given: Optional[_Given] = None


def _begin(instances: InstanceLookup, blocks: Optional[SharedBlocks]) -> None:
    global _given
    _given = _Given(instances, blocks)
    # OpenMP's threads do not live on in a forked process; waiting for them would never end.
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too
    gc.freeze()  # the collector then leaves the parent's objects, and their memory stays shared
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _nothing() -> None:
    pass


def _make(job: BatchJob, block: Optional[int]) -> bytes:
    """
    Make a batch, put its tensors into a block, and return the rest pickled. The executor would
    pickle tensors that are not in the block as files in `/dev/shm`, which can be full.
    """
    assert _given is not None  # `_begin` was called
    _seed_generators(job[0][1])
    try:
        if _given.blocks is None or block is None:
            collated = make_batch(_given.instances, job)
        else:
            writer = _given.blocks.writer(block)
            collated = make_batch(_given.instances, job, writer.empty)
            collated = collated._replace(batch=mapped(collated.batch, writer.placed))
    except Exception as error:
        if not _can_be_sent(error):
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise
    try:
        return pickle.dumps(collated, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # each type has its own errors
        raise ConfigurationError(
            "a worker process of the data loader cannot send a batch "
            f"({type(error).__name__}: {error}); expected fields that pickle can copy, or "
            '"worker": "thread" in the data_loader'
        ) from None


def _seed_generators(seed: int) -> None:
    """
    Seed the generators of `random`, numpy and torch. Otherwise all processes would draw the same
    numbers, because each has a copy of its parent's generators. The images' own draws do not use
    them: see `random_source`.
    """
    random.seed(int(seed))
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for transforms that use it
    torch.default_generator.manual_seed(seed)


def _can_be_sent(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
        return True
    except Exception:  # each class has its own errors
        return False

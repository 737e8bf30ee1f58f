"""Make the batches of the "image" data loader in processes."""

import gc
import multiprocessing
import os
import signal
import threading
import weakref
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import NamedTuple, Optional

import torch

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

BLOCKS_IN_USE = 3
"""The number of batches that a consumer usually uses at the same time."""


def processes_share_memory() -> bool:
    """Return whether worker processes get what this process has in memory, without a copy."""
    return multiprocessing.get_start_method() == "fork"


def may_fork() -> bool:
    """Return whether this process can have such workers: a daemon process can have none."""
    return processes_share_memory() and not multiprocessing.current_process().daemon


class ProcessWorkers(WorkersAhead):
    """
    Processes that each make whole batches, with one thread, and stay for the next epoch. They start
    with the first batch.

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
        # At exit too: freed after its modules, an executor makes Python print errors.
        weakref.finalize(self, _end, self._executor)

    def start(self, job: BatchJob) -> Begun:
        block = None if self._blocks is None else self._blocks.take()
        batch = _BatchOfProcess(self._blocks, block, self._pin)
        making = batch.making = self._executor.submit(_make, job, block)
        making.add_done_callback(batch.receive)
        return batch


class _BatchOfProcess(Future):
    """A batch made by one process, and received by a thread of the executor."""

    making: "Optional[Future[Collated]]" = None

    def __init__(self, blocks: Optional[SharedBlocks], block: Optional[int], pin: bool) -> None:
        super().__init__()
        self._blocks = blocks
        self._block = block
        self._pin = pin

    def receive(self, making: "Future[Collated]") -> None:
        self.making = None  # it refers to this batch, which has to be freed at once
        try:
            self.set_result(self._opened(making.result()))
        except BrokenProcessPool:
            error = (
                "a worker process of the data loader has ended; often the system ended it for lack "
                "of memory: a smaller data_loader.num_workers needs less"
            )
            self.set_exception(RuntimeError(error))
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


def _end(executor: ProcessPoolExecutor) -> None:
    executor.shutdown(wait=False, cancel_futures=True)


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


def _make(job: BatchJob, block: Optional[int]) -> Collated:
    """Make a batch, and put its tensors into a block."""
    assert _given is not None  # `_begin` was called
    if _given.blocks is None or block is None:
        return make_batch(_given.instances, job)
    writer = _given.blocks.writer(block)
    collated = make_batch(_given.instances, job, writer.empty)
    return collated._replace(batch=mapped(collated.batch, writer.placed))

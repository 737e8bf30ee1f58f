"""Run a function in several processes that form a process group, without starting AllenNLP."""

import faulthandler
import gc
import os
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, Callable, List, Optional

import torch
import torch.distributed as dist
import torch.multiprocessing

SECONDS = 120


def on_ranks(
    count: int, function: Callable[..., Any], *arguments: Any, backend: str = "gloo"
) -> List[Any]:
    """
    Return what `function(*arguments)` returns on each of `count` ranks. Their processes are forked,
    so that nothing is imported again. One rank also has a process group. With the backend "nccl"
    each rank has its own GPU.
    """
    try:
        return _results(count, function, arguments, backend)
    except TimeoutError as error:
        # A fork of a process with threads may inherit a lock that nobody frees. It happened once in
        # some thousand groups. A fault of the tested code would show again.
        warnings.warn(f"once more, as {error}", stacklevel=2)
        return _results(count, function, arguments, backend)


def _results(count: int, function: Callable[..., Any], arguments: Any, backend: str) -> List[Any]:
    # Files rather than a queue: a process that waits for its queue to be read cannot be joined.
    context = torch.multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_rank, args=(rank, count, backend, folder, function, arguments))
            for rank in range(count)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(SECONDS)
        hung = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for rank in hung:
            processes[rank].kill()
        errors = [error for rank in range(count) if (error := _error(folder, rank))]
        assert not errors, "\n".join(errors)
        if hung:
            traces = (f"rank {rank} did not end: {_trace(folder, rank)}" for rank in hung)
            raise TimeoutError("\n".join(traces))
        return [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(count)]


def _rank(
    rank: int,
    count: int,
    backend: str,
    folder: str,
    function: Callable[..., Any],
    arguments: Any,
) -> None:
    # Garbage of the test process stays: the end of an object with threads of its own would wait for
    # them or abort this process, which does not have them.
    gc.freeze()
    # Where each thread is, if the rank does not end
    trace = open(f"{folder}/{rank}.trace", "w", encoding="utf-8")  # noqa: SIM115 (until the end)
    faulthandler.dump_traceback_later(SECONDS - 10, file=trace)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    try:
        if backend == "nccl":
            torch.cuda.set_device(rank)
        dist.init_process_group(
            backend, init_method=f"file://{folder}/rendezvous", world_size=count, rank=rank
        )
        torch.save(function(*arguments), f"{folder}/{rank}.pt")
        # A process that ends early takes the connections of others with it, and a barrier too.
        while not all(_has_ended(folder, each) for each in range(count)):
            time.sleep(0.01)
    except BaseException:
        with open(f"{folder}/{rank}.error", "w", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        raise
    finally:
        os._exit(0)  # run nothing that the test process has registered for its own end


def _has_ended(folder: str, rank: int) -> bool:
    return any(os.path.exists(f"{folder}/{rank}.{kind}") for kind in ("pt", "error"))


def _error(folder: str, rank: int) -> Optional[str]:
    try:
        with open(f"{folder}/{rank}.error", encoding="utf-8") as file:
            return f"rank {rank}: {file.read()}"
    except FileNotFoundError:
        return None


def _trace(folder: str, rank: int) -> str:
    """Return where each thread of a rank was."""
    trace = Path(folder, f"{rank}.trace")
    return trace.read_text(encoding="utf-8") if trace.exists() else "it has not begun"

"""Pairs of processes, forked from a process in which no test has run."""

import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import torch.multiprocessing as mp
from allennlp.common.util import find_open_port

Arguments = Tuple[Any, ...]


def run_pairs(
    function: Callable[..., None], cases: Dict[str, Arguments], folder: Path
) -> Dict[str, Path]:
    """
    Call a function for each case in two processes, which get their number, the arguments of the
    case, a free port, and a folder for their results. Return the folders, each with an `error.txt`
    if a process failed.

    Threads of torch that earlier tests have started do not work in forked processes, and imports
    take a new process many seconds. So there is one new process for all cases.
    """
    folders = {case: folder / str(number) for number, case in enumerate(cases)}
    for each in folders.values():
        each.mkdir()
    work = [(cases[case], str(folders[case])) for case in cases]
    process = mp.get_context("spawn").Process(target=_fork_pairs, args=(function, work))
    process.start()
    process.join()
    assert process.exitcode == 0
    return folders


def _fork_pairs(function: Callable[..., None], work: "list[Tuple[Arguments, str]]") -> None:
    for arguments, folder in work:
        try:
            every = (*arguments, find_open_port(), folder)
            mp.start_processes(function, every, 2, start_method="fork")
        except Exception:
            Path(folder, "error.txt").write_text(traceback.format_exc())

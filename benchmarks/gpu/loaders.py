"""
Measure the images per second of data loaders with 1 to 16 workers: RandomResizedCrop and a flip,
and batches that end on the GPU and are normalised there.

Each loader has a process, which imports its libraries once. The loaders take turns.
"""

import gc
import multiprocessing
import os
import sys
import time
import traceback
from collections import defaultdict
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Callable, Dict, Generator, List, Optional

from data_loading import Epoch, allencv_loader, timm_loader
from stage import DATA, DRY_RUN, save, seconds_left


def allencv_of_folders(folder: Path, workers: int, size: int, **arguments: Any) -> Epoch:
    """Take the labels from the folders. Making all instances for them would take seconds."""
    from allennlp.data import Vocabulary

    vocab = Vocabulary()
    for label in sorted(each.name for each in (folder / "train").iterdir()):
        vocab.add_token_to_namespace(label, "labels")
    return allencv_loader(folder, workers, size, vocab=vocab, **arguments)


LOADERS: Dict[str, Callable[..., Epoch]] = {
    "allencv, threads": allencv_of_folders,
    "allencv, processes": partial(allencv_of_folders, kind="process"),
    "timm": timm_loader,
}
WORKERS = (2,) if DRY_RUN else (16, 8, 4, 2, 1)
ROUNDS = 1 if DRY_RUN else 3
CIFAR10 = "CIFAR-10, 32 px"
IMAGES = {"500x375 to 224 px": ("photos", 224), CIFAR10: ("cifar10", 32)}
SECONDS = 0.3 if DRY_RUN else 1.2
"""The time of a measurement, after a third of it to warm up."""
MOST_SECONDS = 150 if DRY_RUN else 20
"""The time to answer, after which a loader is given up. It has three times as long to start."""


def measure(name: str, images: str, workers: int) -> Dict[str, float]:
    import psutil
    import torch
    from training_loops import DEVICE, ON_GPU

    folder, size = IMAGES[images]
    epoch = LOADERS[name](DATA / folder, workers, size, device=DEVICE)

    def endless() -> Generator[Any, None, None]:
        while True:
            yield from epoch()

    def now() -> float:
        if ON_GPU:
            torch.cuda.synchronize()
        return time.perf_counter()

    def busy() -> float:
        """Return the seconds that all cores together have worked."""
        times = psutil.cpu_times()
        return sum(times[:8]) - times.idle - times.iowait

    batches, count = endless(), 0
    next(batches)
    started = now()
    while time.perf_counter() < started + SECONDS / 3:
        next(batches)
    busy_before, started = busy(), now()
    while time.perf_counter() < started + SECONDS:
        count += len(next(batches)[0])
    seconds = now() - started
    cores = (busy() - busy_before) / seconds
    batches.close()
    return {"images_per_second": count / seconds, "cores_busy": cores}


def answer(name: str, questions: Connection) -> None:
    """Answer questions from another process, until it ends this one."""
    import timm.data  # noqa: F401
    import training_loops  # noqa: F401

    import allencv.plugin  # noqa: F401

    # This process was spawned, but its loaders start their workers as they do elsewhere.
    multiprocessing.set_start_method(None, force=True)
    questions.send({})
    while True:
        images, workers = questions.recv()
        try:
            found: Dict[str, Any] = measure(name, images, workers)
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        gc.collect()  # ends the workers
        questions.send(found)


class LoaderProcess:
    def __init__(self, name: str) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._questions, theirs = context.Pipe()
        self._process = context.Process(target=answer, args=(name, theirs))
        self._process.start()
        theirs.close()

    def answer(self, seconds: float) -> Optional[Dict[str, Any]]:
        """Return `None` without an answer in time, or if the process has ended."""
        try:
            return self._questions.recv() if self._questions.poll(seconds) else None
        except EOFError:
            return None

    def ask(self, images: str, workers: int) -> Optional[Dict[str, Any]]:
        self._questions.send((images, workers))
        return self.answer(MOST_SECONDS)

    def end(self) -> None:
        self._process.kill()


def compare(loaders: List[LoaderProcess]) -> Dict[str, Any]:
    """Ask all loaders in rounds, until the time is over. Save and return the report."""
    speeds: Dict[str, Dict[str, List[float]]] = defaultdict(lambda: defaultdict(list))
    cores: Dict[str, Dict[str, List[float]]] = defaultdict(lambda: defaultdict(list))
    errors: List[str] = []
    report = {"images_per_second": speeds, "cores_busy": cores, "errors": errors}
    for workers in WORKERS * ROUNDS:
        for images in IMAGES:
            for loader in list(loaders):
                if seconds_left() < 12:
                    return report
                found = loader.ask(images, workers)
                print(loader.name, images, workers, found, flush=True)
                if found is None:
                    loader.end()
                    loaders.remove(loader)
                    found = {"error": "no answer"}
                if "error" in found:
                    errors.append(f"{loader.name}, {images}, {workers} workers: {found['error']}")
                else:
                    name = f"{images}: {loader.name}"
                    speeds[name][str(workers)].append(found["images_per_second"])
                    cores[name][str(workers)].append(found["cores_busy"])
                save("loaders", report)
    return report


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # in the processes of the loaders
    loaders = [LoaderProcess(name) for name in LOADERS]
    try:
        able = [loader for loader in loaders if loader.answer(3 * MOST_SECONDS) is not None]
        report = compare(able)
    finally:
        for loader in loaders:
            loader.end()
    if report["errors"] or len(able) < len(loaders):
        sys.exit("not all loaders have answered")


if __name__ == "__main__":
    main()

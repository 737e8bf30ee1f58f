"""Train configs, each in a process of its own, one after the other or several at once."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from select import select
from threading import Event
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Sequence,
    Tuple,
)

from allennlp.common.checks import ConfigurationError

from allencv.common.available_memory import RUNS_AT_ONCE
from allencv.experiments.search_space import value_at
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.launcher_watch import ENDS_WITH_PARENT
from allencv.runtime.ray_cluster import connected_ray, resources_of
from allencv.runtime.whole_files import write_text
from allencv.training.run_folder import read_json

Config = Dict[str, Any]
Result = Dict[str, Any]
"""The `metrics` of a run, or the `error` that ended it."""
SECONDS_BETWEEN = 0.5
"""How often to look whether a run has to end."""
SECONDS_TO_END = 60.0
"""How long a run on Ray may take to end, as its model is archived."""


class Run(NamedTuple):
    """
    A run of `allencv train`: its config and folder, and what it has to import first. `is_shown`
    shows its output, which is in `out.log` of the folder too. `about` is printed
    after its name.
    """

    config: Config
    folder: Path
    include_packages: List[str]
    is_shown: bool = True
    about: str = ""


Environment = Mapping[str, str]
"""Variables of a run, besides those of this process."""
HasToEnd = Callable[[], bool]
Train = Callable[[Run, Environment, HasToEnd], Result]


def train_all(
    runs: Iterable[Run],
    parallel: int,
    on_ray: bool,
    has_to_end: Callable[[Path], bool] = lambda folder: False,
) -> Iterator[Tuple[Path, Result]]:
    """
    Train `parallel` runs at once, here or on Ray. Yield the folder and the result of each when it
    ends. If the caller stops, or after Ctrl-C, end all runs.

    # Parameters

    runs : `Iterable[Run]`
        A run is taken when one can begin, after the caller has seen the results of all that have
        ended. So it may depend on them.
    has_to_end : `Callable[[Path], bool]`
        Is asked in other threads, again and again, whether the run in a folder has to end. Its
        result is then usually an `error`; it may be done just before.
    """
    if not on_ray:
        yield from _train_all(runs, environments(parallel), train, has_to_end)
        return
    with connected_ray() as ray:
        resources = resources_of(ray)
        task = ray.remote(
            num_cpus=max(1, min(resources.most_cpus, resources.cpus // parallel)),
            num_gpus=1 if resources.gpus else 0,
        )(_train_in)
        # Ray sets CUDA_VISIBLE_DEVICES and OMP_NUM_THREADS in its workers.
        yield from _train_all(runs, [{}] * parallel, partial(_train_on_ray, ray, task), has_to_end)


def _train_all(
    runs: Iterable[Run],
    slots: Sequence[Environment],
    train_run: Train,
    has_to_end: Callable[[Path], bool],
) -> Iterator[Tuple[Path, Result]]:
    """Train one run in each slot at once, with the variables of the slot."""
    stop = Event()

    def work(run: Run, environment: Environment) -> Result:
        return train_run(run, environment, lambda: stop.is_set() or has_to_end(run.folder))

    waiting = iter(runs)
    free = list(reversed(slots))
    training: Dict[Future[Result], Tuple[Path, Environment]] = {}
    with ThreadPoolExecutor(len(slots)) as pool:
        try:
            while True:
                while free and (run := next(waiting, None)) is not None:
                    print(f"{run.folder.name}: training{run.about}", flush=True)
                    environment = free.pop()
                    training[pool.submit(work, run, environment)] = run.folder, environment
                if not training:
                    return
                for ended in wait(training, return_when=FIRST_COMPLETED).done:
                    folder, environment = training.pop(ended)
                    free.append(environment)
                    yield folder, ended.result()
        finally:
            stop.set()  # the block waits for the runs that train


def environments(parallel: int) -> List[Dict[str, str]]:
    """
    Return the variables of the runs that train at once: each gets its share of the cores and of the
    memory, and one GPU if there are any.
    """
    if parallel == 1:
        return [{}]
    import torch

    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cpu_count() // parallel))
    environment = {"OMP_NUM_THREADS": threads, RUNS_AT_ONCE: str(parallel)}
    count = torch.cuda.device_count()
    if not count:
        return [environment] * parallel
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(number) for number in range(count)]
    return [
        {**environment, "CUDA_VISIBLE_DEVICES": gpus[number % count]} for number in range(parallel)
    ]


def check_one_device(config: Config) -> None:
    """Raise `ConfigurationError` if a run chooses its GPUs itself: with others it gets one."""
    if config.get("distributed"):
        raise ConfigurationError(
            "the config has 'distributed', whose runs use several devices; expected no "
            "--parallel and no --on"
        )
    device = value_at(config, "trainer.cuda_device")
    if device not in (None, -1, 0, "cpu", "cuda", "cuda:0"):
        raise ConfigurationError(
            f"trainer.cuda_device is {device}; expected 0 or no such key, as --parallel and --on "
            "show each run a GPU of its own"
        )


def check_folder(folder: Path, config: Config) -> None:
    """Raise `ConfigurationError` if the folder has a run of another config: it would resume."""
    file = folder.with_suffix(".json")  # the config as it was given, and not as it was read
    if file.exists() and read_json(file) != json.loads(json.dumps(config)):
        raise ConfigurationError(
            f"{file} belongs to another experiment; expected the same config and overrides, or "
            "another folder (--serialization-dir)"
        )


def train(run: Run, environment: Environment, has_to_end: HasToEnd) -> Result:
    """Train as `allencv train` does, in a process of its own, until it is done or has to end."""
    config_file = run.folder.with_suffix(".json")
    write_text(config_file, json.dumps(run.config, indent=2) + "\n")
    command = [sys.executable, "-m", "allencv", "train", str(config_file), "-s", str(run.folder)]
    if run.folder.exists():
        begun = any(run.folder.glob("training_state_*.th"))
        command.append("--recover" if begun else "--force")
    for package in run.include_packages:
        command += ["--include-package", package]
    status, last_line = run_command(command, environment, run.is_shown, has_to_end)
    if status < 0:
        return {"error": f"killed by {signal.Signals(-status).name}"}
    if status:
        return {"error": last_line or f"exit status {status}"}
    return {"metrics": json.loads((run.folder / "metrics.json").read_text())}


def run_command(
    command: List[str], environment: Environment, is_shown: bool, has_to_end: HasToEnd
) -> Tuple[int, str]:
    """Run a command until it is done or has to end. Return its status and the last error line."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment, ENDS_WITH_PARENT: "1"},
        stdout=None if is_shown else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stderr is not None
    last = b""
    try:
        while not has_to_end():
            # Not without end: it may have to stop, and Ray interrupts nothing that waits.
            if not select([process.stderr], [], [], SECONDS_BETWEEN)[0]:
                continue
            if not (chunk := os.read(process.stderr.fileno(), 1 << 16)):
                process.wait()
                break
            if is_shown:
                sys.stderr.write(chunk.decode(errors="replace"))
                sys.stderr.flush()
            last = (last + chunk)[-4000:]
    finally:
        process.terminate()  # no effect if it has ended
        status = process.wait()
        process.stderr.close()
    lines = [line for line in last.decode(errors="replace").splitlines() if line.strip()]
    return status, lines[-1].strip().removeprefix("allencv: ") if lines else ""


def _train_on_ray(
    ray: Any, task: Any, run: Run, environment: Environment, has_to_end: HasToEnd
) -> Result:
    trained = task.remote(run, os.getcwd())
    while not has_to_end():
        if ray.wait([trained], timeout=SECONDS_BETWEEN)[0]:
            try:
                return ray.get(trained)
            except ray.exceptions.RayError as error:
                return {"error": f"Ray: {' '.join(str(error).split())}"}
    ray.cancel(trained)
    ray.wait([trained], timeout=SECONDS_TO_END)
    return {"error": "stopped"}


def _train_in(run: Run, folder: str) -> Result:
    """Train in a task of Ray, in the folder of the command, so that paths mean the same."""
    os.chdir(folder)
    return train(run, {}, lambda: False)

"""
Train training_config/cifar10.jsonnet with NETWORK=large for as many epochs as there is time for.
Two epochs tell how many that is. Then follows a run whose schedule ends with its last epoch.

The data loader is the config's, or one of worker processes if that is faster on this machine:
threads wait for Python's lock, and the images are small.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from loaders import CIFAR10
from stage import DATA, DRY_RUN, save, saved, seconds_left

from allencv.runtime.cpu_count import cpu_count

NETWORK, MOST_EPOCHS = ("small", 2) if DRY_RUN else ("large", 30)
MOST_SECONDS = 300 if DRY_RUN else 50
"""The time limit of the first two epochs."""
RESERVE = 8
"""Seconds of the stage that are kept for its end."""
RUN = DATA.parent / "cifar_run"
OVERRIDES: Dict[str, Dict[str, Any]] = {
    "threads": {},  # the default
    "processes": {"data_loader.worker": "process", "data_loader.num_workers": cpu_count()},
}

report: Dict[str, Any] = {"network": NETWORK, "runs": {}}


def train(
    what: str, workers: str, epochs: int, most_seconds: float = float("inf")
) -> Dict[str, Any]:
    """Train with the command that the config names. Save what the run has reached every 2 s."""
    shutil.rmtree(RUN, ignore_errors=True)
    command = [sys.executable, "-m", "allencv", "train", "training_config/cifar10.jsonnet"]
    command += ["-s", str(RUN), "-o", json.dumps(OVERRIDES[workers])]
    variables = {"DATA": str(DATA / "cifar10"), "NETWORK": NETWORK, "EPOCHS": str(epochs)}
    run: Dict[str, Any] = {"epochs": epochs, "overrides": OVERRIDES[workers], "status": "cut off"}
    report["runs"][f"{what}, {workers}"] = run
    started = time.perf_counter()
    with subprocess.Popen(command, env={**os.environ, **variables}) as child:
        status: Optional[int] = None
        while status is None:
            try:
                status = child.wait(2)
                run["status"] = "done" if status == 0 else f"failed ({status})"
            except subprocess.TimeoutExpired:
                if time.perf_counter() - started > most_seconds or seconds_left() < RESERVE:
                    child.kill()
                    status = child.wait()
            run.update(curve(RUN), whole_command_seconds=time.perf_counter() - started)
            save("cifar", report)
    print(what, workers, json.dumps(run), flush=True)
    return run


def curve(folder: Path) -> Dict[str, List[float]]:
    """Read the accuracy after each epoch so far, and the seconds until then."""
    from allencv.reporting.run_folder import read_run  # while the training starts

    run = read_run(folder) if (folder / "metrics_epoch_0.json").exists() else None
    epochs = run.epochs if run else []
    return {
        "test_accuracy": [epoch["validation_accuracy"] for epoch in epochs],
        "training_accuracy": [epoch["training_accuracy"] for epoch in epochs],
        "seconds": list(itertools.accumulate(run.epoch_seconds())) if run else [],
    }


def faster_first() -> Tuple[List[str], bool]:
    """Return the kinds of workers, and whether loaders.py has measured which are faster."""
    speeds = saved("loaders").get("images_per_second", {})
    threads = speeds.get(f"{CIFAR10}: allencv, threads", {}).get(str(min(8, cpu_count())))
    processes = speeds.get(f"{CIFAR10}: allencv, processes", {}).get(str(cpu_count()))
    is_known = bool(threads and processes)
    if is_known and max(threads) < 0.9 * max(processes):
        return ["processes", "threads"], True
    return ["threads", "processes"], is_known


def two_epochs(workers: str) -> Dict[str, Any]:
    """Add the seconds of the second epoch to a run of two, and all seconds that are no epoch."""
    run = train("two epochs", workers, 2, MOST_SECONDS)
    seconds = run["seconds"]
    run["an_epoch"] = seconds[1] - seconds[0] if len(seconds) == 2 else None
    run["besides"] = run["whole_command_seconds"] - (seconds[-1] if seconds else 0)
    return run


def main() -> None:
    order, is_known = faster_first()
    able: Dict[str, Dict[str, Any]] = {}
    for workers in order:
        if not (is_known and able):
            run = two_epochs(workers)
            if run["an_epoch"]:
                able[workers] = run
    if not able:
        sys.exit("no two epochs have ended in time")
    best = min(able, key=lambda workers: able[workers]["an_epoch"])
    an_epoch, besides = able[best]["an_epoch"], able[best]["besides"]
    left = seconds_left() - RESERVE
    epochs = min(MOST_EPOCHS, int((left - 1.2 * besides) / (1.05 * an_epoch)))
    print(f"{best}: {an_epoch:.2f} s an epoch, {besides:.1f} s besides: {epochs} epochs")
    if epochs >= 2:
        train("the recipe", best, epochs)
    for workers in order:
        if workers not in able and seconds_left() > RESERVE + besides + 10:
            two_epochs(workers)
    save("cifar", report)


if __name__ == "__main__":
    main()

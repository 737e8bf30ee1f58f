"""
Compare training loops with the same network, optimizer and batches: this project's trainer,
AllenNLP's trainer, a bare PyTorch loop, and the loops of timm's and torchvision's training scripts.

    pip install -e '.[benchmark]'
    python benchmarks/training.py [--rounds 5] [--steps 20] [--seconds 100]

"loops" measures the cost of the loop itself, which "one layer" shows best. The batches are in
memory, and the loops take turns in one process, in float32 unless their name says otherwise. With a
GPU, the networks are larger and computed in bfloat16, in AllenNLP's loop in float16. "beside"
measures a network in processes of their own, on a quiet machine and beside a program that keeps a
core busy. "files" reads JPEG files: each library has its own loader and defaults, in a
process of its own.

The program prints medians, of the ratios within a round where it compares, writes training.json
beside this file, and puts its tables into docs/training.md. It measures what the file lacks, or all
if the machine or the settings are others; with --seconds it stops early, and the next call goes on.
"""

import argparse
import itertools
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch
import training_from_files as from_files
from data_loading import make_images
from networks import processor
from tables import write_docs
from training_loops import (
    BATCH_SIZE,
    BESIDE,
    LOOPS,
    NETWORKS,
    ON_GPU,
    ONE_LAYER,
    make_batches,
    measure_loops,
    predicting_loop,
    seconds_of,
)

from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.openmp import FEW_SPINS, SPINS, THREADS
from allencv.runtime.plurals import numbered
from allencv.runtime.whole_files import write_text

Report = Dict[str, Any]
FILES = [f"{network}:64" for network in from_files.NETWORKS if network != "EfficientNet-Lite0"]
FILES += [f"{network}:128" for network in ("ResNet-18", "EfficientNet-Lite0")]
FEWER_THREADS = max(1, cpu_count() - 1)
SETTINGS_BESIDE: Dict[str, Tuple[Callable[..., Callable[[], None]], Dict[str, str]]] = {
    # name: the loop, and the variables of its process
    "allencv": (LOOPS["allencv, defaults"], {}),
    f"allencv, {numbered(FEWER_THREADS, 'thread')}": (
        LOOPS["allencv, defaults"],
        {THREADS: str(FEWER_THREADS)},
    ),
    "timm": (LOOPS["timm"], {}),
    "predicting": (predicting_loop, {}),
    f"predicting, {FEW_SPINS} spins": (predicting_loop, {SPINS: FEW_SPINS}),
}
SECONDS_BESIDE = 2.0
"""How long a turn beside a busy process lasts at least."""
BATCH_SIZE_BESIDE = 16


@contextmanager
def busy_process() -> Iterator[None]:
    """Run a program of the same priority that keeps a core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def speed_beside(name: str, is_busy: bool) -> float:
    """Return what `measure_beside` does in a new process."""
    variables = SETTINGS_BESIDE[name][1]
    with busy_process() if is_busy else nullcontext():
        output = subprocess.run(
            [sys.executable, __file__, "--beside", name],
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, **variables},
        ).stdout
    return float(json.loads(output.splitlines()[-1]))


def measure_beside(name: str) -> float:
    """Return the images per second of a loop."""
    steps = 2
    batches = make_batches(BESIDE, steps, BATCH_SIZE_BESIDE)
    epoch = SETTINGS_BESIDE[name][0](BESIDE, batches, steps)
    epoch()  # warms up
    seconds: List[float] = []
    while sum(seconds) < SECONDS_BESIDE:
        seconds.append(seconds_of(epoch))
    return BATCH_SIZE_BESIDE * steps * len(seconds) / sum(seconds)


def missing(report: Report, arguments: argparse.Namespace) -> Iterator[Callable[[], None]]:
    """Yield what measures the parts that the report lacks, and puts them there."""

    def put(network: str, steps: int) -> None:
        report["loops"][network] = measure_loops(network, arguments.rounds, steps)

    def add(speeds: List[float], speed: Callable[..., float], *of: Any) -> None:
        speeds.append(speed(*of))

    for network in NETWORKS:
        steps = arguments.steps * {ONE_LAYER: 100, "tiny CNN, 32 px": 20}.get(network, 1)
        if network not in report["loops"]:
            yield partial(put, network, steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder, arguments.images)
        for done in range(arguments.rounds_of_processes):
            for is_busy, setting in itertools.product([False, True], SETTINGS_BESIDE):
                row = "beside a busy process" if is_busy else "quiet"
                speeds = report["beside"].setdefault(row, {}).setdefault(setting, [])
                if len(speeds) == done and not ON_GPU:
                    yield partial(add, speeds, speed_beside, setting, is_busy)
            for row, loop in itertools.product(arguments.files, from_files.LOOPS):
                network, size = row.split(":")
                if "given back" in loop and network != "ResNet-18":
                    continue
                speeds = report["files"].setdefault(row, {}).setdefault(loop, [])
                if len(speeds) == done:
                    of = (loop, network, int(size), folder, arguments.workers)
                    yield partial(add, speeds, from_files.speed_of, *of)


def table(report: Report) -> str:
    """Return the report in Markdown, for docs/training.md."""
    settings = report["settings"]
    lines = [
        f"Medians of {settings['rounds']} rounds on {settings['device']}; batches of "
        f"{settings['batch_size']}, torch {settings['torch'].partition('+')[0]}.",
        "",
        "| network | loop | images/s | time relative to bare loop |",
        "|---|---|---|---|",
    ]
    for network, loops in report["loops"].items():
        lines += [
            f"| {network} | {name} | {each['images_per_second']:.0f} | {each['time_to_bare']:.3f} |"
            for name, each in loops.items()
        ]
    if ONE_LAYER in report["loops"]:
        of_step = {
            name: 1000 * settings["batch_size"] / each["images_per_second"]
            for name, each in report["loops"][ONE_LAYER].items()
        }
        more = [f"{name} {of_step[name] - of_step['bare']:.2f}" for name in list(of_step)[1:5]]
        lines += ["", f"Milliseconds that a step of one layer takes longer: {', '.join(more)}."]
    of_files = [
        f"| {row.replace(':', ', ')} px | {name} | {each['images_per_second']:.0f} "
        f"| {each['to_timm']:.2f} |"
        for row, speeds in report["files"].items()
        for name, each in from_files.report_of(speeds).items()
        if each["to_timm"] is not None
    ]
    if of_files:
        lines += ["", "| from JPEG files | loop | images/s | ratio to timm |", "|---|---|---|---|"]
        lines += of_files
    if any(each for speeds in report["beside"].values() for each in speeds.values()):
        lines += ["", *_beside_table(report["beside"])]
    return "\n".join(lines)


def _beside_table(rows: Dict[str, Dict[str, List[float]]]) -> List[str]:
    lines = [
        f"Training and predicting with {BESIDE}, in batches of {BATCH_SIZE_BESIDE} in memory: "
        "images/s, with the lowest and the highest of the rounds.",
        "",
        f"| | {' | '.join(SETTINGS_BESIDE)} |",
        "|---" * (1 + len(SETTINGS_BESIDE)) + "|",
    ]
    for row, speeds in rows.items():
        cells = [
            f"{statistics.median(each):.1f} ({min(each):.1f} to {max(each):.1f})" if each else ""
            for each in speeds.values()
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="of loops")
    parser.add_argument("--rounds-of-processes", type=int, default=3, help="of the other parts")
    parser.add_argument("--steps", type=int, default=20, help="of a ResNet; others: more")
    parser.add_argument("--files", nargs="+", default=FILES, metavar="NETWORK:SIZE")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, help="begin no part after so many seconds")
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    parser.add_argument("--beside", choices=SETTINGS_BESIDE, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.beside:
        print(json.dumps(measure_beside(arguments.beside)))
        return
    settings = {
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "images": arguments.images,
        "workers": arguments.workers,
        "batch_size": BATCH_SIZE,
        "device": torch.cuda.get_device_name() if ON_GPU else processor(),
        "torch": torch.__version__,
    }
    output = arguments.output or Path(__file__).with_suffix(".json")
    report: Report = json.loads(output.read_text()) if output.exists() else {}
    if report.get("settings") != settings:
        report = {"settings": settings, "loops": {}, "files": {}, "beside": {}}
    started = time.perf_counter()
    for measure in missing(report, arguments):
        if arguments.seconds and time.perf_counter() - started > arguments.seconds:
            break
        measure()
        write_text(output, json.dumps(report, indent=2) + "\n")
    print(table(report))
    if arguments.output is None:
        write_docs("training.md", "benchmarks/training.py", table(report))


if __name__ == "__main__":
    main()

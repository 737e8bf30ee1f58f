"""
Measure how training scales from one process to several: this project's trainer, and a bare PyTorch
loop with `DistributedDataParallel`.

    python benchmarks/distributed_training.py [--rounds 9] [--steps 10] [--processes 2]

One process per GPU, or, without one, per core with one thread each. The batches are in memory, the
same number for each process, so that twice the processes train twice the images. The loops take
turns in the same processes, in float32 on a CPU and in bfloat16 on GPUs. The program prints medians
over the rounds: images per second, the scaling, and the ratio to the bare loop within a round. It
writes distributed_training.json beside this file, and puts its table into docs/distributed.md.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from allennlp.data import Instance, TensorDict
from tables import write_docs
from training_loops import BATCH_SIZE, ON_GPU, Batches, Epoch, bare_loop, make_batches, trainer_loop

from allencv.runtime.whole_files import write_text

NETWORK = "ResNet-50, 224 px" if ON_GPU else "ResNet-18, 64 px"
LOOPS = ("bare", "allencv")
ROUNDS_IN_TURN = 3
"""How many rounds are measured in one process before several processes take their turn."""


class ShareOfBatches(Batches):
    """Batches in memory, whose numbers of images all ranks know without telling each other."""

    batches_left_out = 0
    another_epoch_follows = False
    data_path = None

    def keep_pace(self) -> None:
        pass

    def seek(self, epoch: int, batch: int = 0) -> None:
        pass

    def labels(self) -> Dict[str, int]:
        return {}

    def identity(self) -> Dict[str, object]:
        return {}

    def iter_instances(self) -> Iterator[Instance]:
        return iter(())

    def count_images(self, batch: int) -> Optional[int]:
        return len(self[batch]["image"]) * dist.get_world_size() if batch < len(self) else None


def make_loops(steps: int, rank: int, processes: int) -> Dict[str, Epoch]:
    batches: List[TensorDict] = make_batches(NETWORK, steps)
    repeated = ShareOfBatches(batches[step % len(batches)] for step in range(steps))
    arguments: Dict[str, Any] = {} if ON_GPU else {"use_amp": False, "channels_last": False}
    if processes > 1:
        arguments |= {"distributed": True, "local_rank": rank, "world_size": processes}
    arguments |= {"type": "image", "cuda_device": rank if ON_GPU else -1}
    return {
        "bare": bare_loop(NETWORK, Batches(repeated), steps, is_distributed=processes > 1),
        "allencv": trainer_loop(NETWORK, repeated, steps, **arguments),
    }


def times_of(loops: Dict[str, Epoch], rounds: int) -> Dict[str, List[float]]:
    """Return the seconds of each loop in each round. The first round warms up."""
    times: Dict[str, List[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, epoch in loops.items():
            if dist.is_initialized():
                dist.barrier()
            started = time.perf_counter()
            epoch()
            if ON_GPU:
                torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - started)
    return times


def measure_rank(rank: int, processes: int, steps: int, rounds: int, output: str) -> None:
    """Measure the loops in one process, and write the times of the first."""
    logging.disable(logging.WARNING)
    if ON_GPU:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(1)
    if processes > 1:
        backend = "nccl" if ON_GPU else "gloo"
        store = f"file://{output}.store"
        dist.init_process_group(backend, init_method=store, rank=rank, world_size=processes)
    times = times_of(make_loops(steps, rank, processes), rounds)
    if rank == 0:
        Path(output).write_text(json.dumps(times))
    if processes > 1:
        dist.destroy_process_group()


def measure(processes: int, steps: int, rounds: int) -> Dict[str, List[float]]:
    """Return the seconds of each loop, in so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/times.json"
        mp.spawn(measure_rank, (processes, steps, rounds, output), nprocs=processes)
        return json.loads(Path(output).read_text())


def make_report(steps: int, rounds: int, processes: int) -> Dict[str, Any]:
    times: Dict[int, Dict[str, List[float]]] = {
        count: {name: [] for name in LOOPS} for count in (1, processes)
    }
    for start in range(0, rounds, ROUNDS_IN_TURN):
        part = min(ROUNDS_IN_TURN, rounds - start)
        for count, loops in times.items():
            for name, seconds in measure(count, steps, part).items():
                loops[name] += seconds
    images = BATCH_SIZE * steps
    return {
        "settings": {
            "rounds": rounds,
            "steps": steps,
            "processes": processes,
            "batch_size": BATCH_SIZE,
            "network": NETWORK,
            "device": torch.cuda.get_device_name() if ON_GPU else platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        },
        "loops": {
            name: {
                "images_per_second": {
                    str(count): count * images / statistics.median(loops[name])
                    for count, loops in times.items()
                },
                "scaling": statistics.median(
                    processes * one / several
                    for one, several in zip(times[1][name], times[processes][name])
                ),
                "speed_to_bare": statistics.median(
                    bare / own
                    for bare, own in zip(times[processes]["bare"], times[processes][name])
                ),
            }
            for name in LOOPS
        },
    }


def table(report: Dict[str, Any]) -> str:
    """Return the report in Markdown, for docs/distributed.md."""
    settings = report["settings"]
    count = settings["processes"]
    lines = [
        f"Medians of {settings['rounds']} rounds on {settings['device']}, {settings['cores']} "
        f"cores; {settings['network']}, batches of {settings['batch_size']} per process, torch "
        f"{settings['torch'].partition('+')[0]}.",
        "",
        f"| loop | images/s, 1 process | images/s, {count} processes | scaling | speed relative to "
        "the bare loop |",
        "|---|---|---|---|---|",
    ]
    for name, each in report["loops"].items():
        one, several = each["images_per_second"]["1"], each["images_per_second"][str(count)]
        lines.append(
            f"| {name} | {one:.0f} | {several:.0f} | {each['scaling']:.2f} "
            f"| {each['speed_to_bare']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10)
    default = torch.cuda.device_count() if ON_GPU else 2
    parser.add_argument("--processes", type=int, default=default)
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    arguments = parser.parse_args()
    if arguments.processes < 2:
        sys.exit(f"--processes is {arguments.processes}; expected 2 or more")
    report = make_report(arguments.steps, arguments.rounds, arguments.processes)
    print(table(report))
    if arguments.output is None:
        file = Path(__file__).with_suffix(".json")
        write_text(file, json.dumps(report, indent=2) + "\n")
        write_docs("distributed.md", "benchmarks/distributed_training.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

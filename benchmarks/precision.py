"""
Compare the settings with which a network may be computed on a CPU: float32 and bfloat16, each in
torch's memory order and in channels-last order.

    pip install -e '.[benchmark]'
    python benchmarks/precision.py [--rounds 3] [--seconds 100]

A step of training and a pass of inference, each with a batch in memory. The settings take turns in
one process. bfloat16 is left out, unless --settings names it, where the processor has no
instructions for it: torch then computes in float32 and converts. The program writes
precision.json beside this file, with a report for each processor, and puts their tables into
docs/devices.md. It measures the rows that the report lacks or has of fewer rounds; with --seconds
it stops early, and the next call goes on.
"""

import argparse
import itertools
import json
import logging
import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import torch
from networks import CLASSES, NETWORKS, make_network, processor
from tables import write_docs
from torch.nn import functional as F

from allencv.common.memory import KEPT_BYTES, reuse_freed_memory
from allencv.runtime.whole_files import write_text
from allencv.training.acceleration import (
    choose_amp_dtype,
    computes_in_bfloat16,
    set_memory_format,
)

CPU = torch.device("cpu")
BATCH_SIZES = {64: 32, 128: 16, 224: 8}
SECONDS = 0.3
"""How long a turn lasts at least."""
Step = Callable[[], None]


class Setting(NamedTuple):
    half: bool
    channels_last: bool

    @property
    def order(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        order = ", channels_last" if self.channels_last else ""
        return ("bfloat16" if self.half else "float32") + order


SETTINGS = {
    str(each): each
    for each in itertools.starmap(Setting, itertools.product([False, True], repeat=2))
}


def training_step(network: torch.nn.Module, half: bool, images: torch.Tensor) -> Step:
    labels = torch.arange(len(images)) % CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = F.cross_entropy(network(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def inference(network: torch.nn.Module, half: bool, images: torch.Tensor) -> Step:
    def step() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            network(images)

    return step


KINDS = {"training": training_step, "inference": inference}


def seconds_of(step: Step) -> float:
    """Return how long a step takes, on average over `SECONDS`."""
    started, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - started < SECONDS:
        step()
        steps += 1
    return (time.perf_counter() - started) / steps


def median_ratio(values: List[float], baseline: List[float]) -> float:
    """Return the median of the ratios within a round."""
    return statistics.median(value / base for value, base in zip(values, baseline))


def default_setting(network: torch.nn.Module, kind: str) -> Setting:
    """Return what the trainer, or a command that predicts, chooses for a network here."""
    half = kind == "training" and choose_amp_dtype(network, CPU, None, None) is not None
    set_memory_format(network, None, CPU)
    weights = [each for each in network.parameters() if each.dim() == 4]
    return Setting(half, not all(each.is_contiguous() for each in weights))


def measure(name: str, size: int, kind: str, names: List[str], rounds: int) -> Dict[str, Any]:
    """Return the images per second of each setting, and of the default relative to the best."""
    pixels = torch.randn(BATCH_SIZES[size], 3, size, size)
    steps: Dict[str, Step] = {}
    for each in names:
        setting = SETTINGS[each]
        network = make_network(name, size).train(kind == "training")
        network.to(memory_format=setting.order)
        images = pixels.contiguous(memory_format=setting.order)
        steps[each] = KINDS[kind](network, setting.half, images)
        steps[each]()  # the first one warms up
    times: Dict[str, List[float]] = {each: [] for each in names}
    for _ in range(rounds):
        for each, step in steps.items():
            times[each].append(seconds_of(step))
    default = str(default_setting(make_network(name, size), kind))
    to_best = min(median_ratio(times[each], times[default]) for each in names)
    speeds = {each: BATCH_SIZES[size] / statistics.median(times[each]) for each in names}
    spread = {each: (max(of) - min(of)) / statistics.median(of) for each, of in times.items()}
    return {"images_per_second": speeds, "spread": spread, "default": default, "to_best": to_best}


def table(reports: List[Dict[str, Any]]) -> str:
    """Return the reports in Markdown, for docs/devices.md."""
    return "\n\n".join(map(_table_of_processor, reports))


def _table_of_processor(report: Dict[str, Any]) -> str:
    settings, names = report["settings"], report["settings"]["compared"]
    rounds = sorted({row["rounds"] for row in report["rows"]})
    spreads = [each for row in report["rows"] for each in row["spread"].values()]
    spread = statistics.median(spreads)
    name, _, details = settings["processor"].partition(", ")
    lines = [
        f"### {name}, {details.split(', ')[1]}",
        "",
        f"Images per second on {details}; torch {settings['torch']}; medians of "
        f"{' or '.join(map(str, rounds))} rounds, which differed by {spread:.0%} in the "
        "median (highest less lowest). Batches of 32 images at 64 px, 16 at 128 px and 8 at "
        "224 px. The default is in bold.",
    ]
    for kind in KINDS:
        lines += ["", f"| {kind} | px | {' | '.join(names)} | default to best |"]
        lines += ["|---" * (3 + len(names)) + "|"]
        for row in sorted(
            report["rows"], key=lambda row: (NETWORKS.index(row["network"]), row["size"])
        ):
            if row["kind"] == kind:
                lines.append(_line(row, names))
    return "\n".join(lines)


def _line(row: Dict[str, Any], names: List[str]) -> str:
    cells = []
    for name in names:
        speed = f"{row['images_per_second'][name]:.3g}"
        cells.append(f"**{speed}**" if name == row["default"] else speed)
    return f"| {row['network']} | {row['size']} | {' | '.join(cells)} | {row['to_best']:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--sizes", type=int, nargs="+", choices=BATCH_SIZES, default=[*BATCH_SIZES])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    has_bfloat16 = computes_in_bfloat16(CPU)
    fast = [name for name, each in SETTINGS.items() if has_bfloat16 or not each.half]
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=fast)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="begin no row after so many seconds")
    path = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    reuse_freed_memory(KEPT_BYTES)
    settings = {
        "processor": processor(),
        "torch": torch.__version__.partition("+")[0],
        "compared": arguments.settings,
    }
    output = arguments.output or path
    reports = json.loads(output.read_text()) if output.exists() else []
    report = next((each for each in reports if each["settings"] == settings), None)
    if report is None:
        reports.append(report := {"settings": settings, "rows": []})
    rows = {(row["network"], row["size"], row["kind"]): row for row in report["rows"]}
    started = time.perf_counter()
    for size, kind, name in itertools.product(arguments.sizes, arguments.kinds, arguments.networks):
        is_late = arguments.seconds and time.perf_counter() - started > arguments.seconds
        known = rows.get((name, size, kind), {"rounds": 0})
        if is_late or known["rounds"] >= arguments.rounds:
            continue
        found = measure(name, size, kind, arguments.settings, arguments.rounds)
        rows[name, size, kind] = row = {
            **{"network": name, "size": size, "kind": kind, "rounds": arguments.rounds},
            **found,
        }
        print(_line(row, arguments.settings), kind, flush=True)
        report["rows"] = [*rows.values()]
        write_text(output, json.dumps(reports, indent=2) + "\n")
    text = table(reports)
    print(text)
    if arguments.output is None:
        write_docs("devices.md", "benchmarks/precision.py", text)


if __name__ == "__main__":
    main()

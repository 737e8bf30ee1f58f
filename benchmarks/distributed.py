"""
Measure what several processes gain over one.

    python benchmarks/distributed.py [--rounds 3] [--images 512]

The commands take turns, each as a user starts it: `classify` with a bundle of a ResNet-18, in one
process, as two shards at once, and on Ray with one and with two workers; and `sweep` of two seeds,
one after the other and with `--parallel 2`. The program prints medians of the time, and of the
throughput as a ratio to that of the plain command in the same round. Each time includes the start
of the processes. It writes distributed.json beside this file, and puts its table into
docs/distributed.md. Rows on Ray need `ray[data]`.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from serving import CONFIG, make_model
from tables import write_docs

from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.whole_files import write_text

OUTPUT = "measured"


class Row(NamedTuple):
    """Commands that start at once, and the row that they are compared with."""

    commands: List[List[str]]
    compared_with: str


def rows_in(folder: Path, images: int) -> Dict[str, Row]:
    """Return the rows to measure, to be run in `folder`."""
    make_model(folder)
    photos = sorted((folder / "images").rglob("*.jpg"))
    (folder / "photos").mkdir()
    for number in range(images):
        (folder / "photos" / f"{number:06d}.jpg").symlink_to(photos[number % len(photos)])
    data = {f"{split}_data_path": "images/train" for split in ("train", "validation")}
    (folder / "config.json").write_text(json.dumps({**CONFIG, **data}))
    allencv = [sys.executable, "-m", "allencv"]
    classify = [*allencv, "classify", "bundle", "photos", "-o"]
    sweep = [*allencv, "sweep", "config.json", "--seeds", "2", "-s", OUTPUT]
    plain, one_by_one = "`classify`", "`sweep --seeds 2`"
    shards = [[*classify, f"{OUTPUT}/{k}.csv", "--shard", f"{k}/2"] for k in (1, 2)]
    rows = {
        plain: Row([[*classify, f"{OUTPUT}/all.csv"]], plain),
        "`classify`, 2 shards at once": Row(shards, plain),
        one_by_one: Row([sweep], one_by_one),
        "`sweep --seeds 2 --parallel 2`": Row([[*sweep, "--parallel", "2"]], one_by_one),
    }
    if find_spec("ray") is not None:
        for workers in (1, 2):
            options = ["--on", "ray", "--parallel", str(workers)]
            name = f"`classify --on ray --parallel {workers}`"
            rows[name] = Row([[*classify, f"{OUTPUT}/parquet", *options]], plain)
    return rows


def measure(row: Row, folder: Path) -> float:
    """Return the seconds until all commands of a row have ended."""
    shutil.rmtree(folder / OUTPUT, ignore_errors=True)
    paths = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    log = folder / "log.txt"
    with log.open("wb") as output:
        started = time.perf_counter()
        processes = [
            subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            for command in row.commands
        ]
        statuses = [process.wait() for process in processes]
        seconds = time.perf_counter() - started
    if any(statuses):
        raise RuntimeError(f"{' '.join(row.commands[0])} has failed:\n{log.read_text()[-4000:]}")
    return seconds


def medians(rounds: List[Dict[str, float]], rows: Dict[str, Row]) -> Dict[str, Dict[str, float]]:
    """Return the medians of the seconds, and of the throughput as a ratio in the same round."""
    return {
        name: {
            "seconds": statistics.median(one[name] for one in rounds),
            "ratio": statistics.median(one[row.compared_with] / one[name] for one in rounds),
        }
        for name, row in rows.items()
    }


def table(report: Dict[str, Any]) -> str:
    settings = report["settings"]
    lines = [
        f"{settings['images']:,} images, medians of {settings['rounds']} rounds, "
        f"{settings['cores']} cores, Python {settings['python']}.",
        "",
        "| | time, s | throughput relative to one process |",
        "|---|---|---|",
    ]
    for name, row in report["medians"].items():
        lines.append(f"| {name} | {row['seconds']:.1f} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=512, help="the images to classify")
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = rows_in(Path(name), arguments.images)
        rounds = [
            {label: measure(row, Path(name)) for label, row in rows.items()}
            for _ in range(arguments.rounds)
        ]
    report = {
        "settings": {
            "rounds": arguments.rounds,
            "images": arguments.images,
            "cores": cpu_count(),
            "python": platform.python_version(),
        },
        "medians": medians(rounds, rows),
    }
    print(table(report))
    if arguments.output is None:
        write_text(Path(__file__).with_suffix(".json"), json.dumps(report, indent=2) + "\n")
        write_docs("distributed.md", "benchmarks/distributed.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

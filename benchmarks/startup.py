"""
Measure how long commands of `allencv` take to start, next to the import of torch, torchvision and
timm alone.

    python benchmarks/startup.py [--rounds 5]

The commands take turns, each in a new process: help, a misspelt command, `components`,
`check-config`, `train` to its first batch, and `classify` of one image with a bundle. The program
prints medians of time, CPU time and memory, and the ratio of the time to that of the import in the
same round. It writes startup.json beside this file, and puts its table into docs/training.md.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Dict, List

from serving import CONFIG, make_model
from tables import write_docs

from allencv.runtime.whole_files import write_text

PACKAGES = ("timm", "torch", "torchvision")
FLOOR = "import of torch, torchvision and timm"
AT_FIRST_BATCH = """
import os
from allennlp.training.callbacks import TrainerCallback

@TrainerCallback.register("exit_at_first_batch")
class ExitAtFirstBatch(TrainerCallback):
    def on_batch(self, *args, **kwargs):
        os._exit(0)
"""
"""A part that ends the process of `train` after its first batch."""


def commands_in(folder: Path) -> Dict[str, List[str]]:
    """Return the command line of each row, to be run in `folder`."""
    make_model(folder)
    trainer = {**CONFIG["trainer"], "callbacks": ["exit_at_first_batch"]}
    data = {f"{split}_data_path": "images/train" for split in ("train", "validation")}
    (folder / "config.json").write_text(json.dumps({**CONFIG, **data}))
    (folder / "first_batch.json").write_text(json.dumps({**CONFIG, **data, "trainer": trainer}))
    (folder / "first_batch.py").write_text(AT_FIRST_BATCH)
    image = next((folder / "images").rglob("*.jpg"))
    allencv = [sys.executable, "-m", "allencv"]
    train = ["train", "first_batch.json", "-s", "new_run", "-f"]
    return {
        FLOOR: [sys.executable, "-c", "import torch, torchvision, timm"],
        "`allencv fit --help`": [*allencv, "fit", "--help"],
        "a misspelt command": [*allencv, "trian"],
        "`allencv classify`, a bundle": [*allencv, "classify", "bundle", str(image), "-o", "a.csv"],
        "`allencv components`": [*allencv, "components"],
        "`allencv check-config`": [*allencv, "check-config", "config.json"],
        "`allencv train` to its first batch": [*allencv, *train, "--include-package=first_batch"],
    }


def measure(command: List[str], folder: Path) -> Dict[str, float]:
    """Return the time and the CPU time in seconds, and the peak memory in megabytes."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent)])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) not in (0, 2):  # 2: a misspelt command
        raise RuntimeError(f"{' '.join(command)} has failed:\n{errors.decode()}")
    to_megabytes = 1e6 if sys.platform == "darwin" else 1e3
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "megabytes": used.ru_maxrss / to_megabytes,
    }


def summary(rounds: List[Dict[str, Dict[str, float]]]) -> Dict[str, Dict[str, float]]:
    """Return the medians of each command, and of its time to the import's in the same round."""
    medians = {}
    for name in rounds[0]:
        medians[name] = {
            key: statistics.median(one[name][key] for one in rounds) for key in rounds[0][name]
        }
        ratios = [one[name]["cpu_seconds"] / one[FLOOR]["cpu_seconds"] for one in rounds]
        medians[name]["ratio"] = statistics.median(ratios)
    return medians


def table(report: Dict[str, Any]) -> str:
    lines = [
        "| | time, s | CPU time, s | memory, MB | CPU time to the import's |",
        "|---|---|---|---|---|",
    ]
    for name, row in report["medians"].items():
        lines.append(
            f"| {name} | {row['seconds']:.2f} | {row['cpu_seconds']:.2f} | {row['megabytes']:.0f} "
            f"| {row['ratio']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        commands = commands_in(Path(name))
        rounds = [
            {label: measure(command, Path(name)) for label, command in commands.items()}
            for _ in range(arguments.rounds)
        ]
    report = {
        "settings": {"rounds": arguments.rounds, "python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "medians": summary(rounds),
    }
    print(table(report))
    if arguments.output is None:
        write_text(Path(__file__).with_suffix(".json"), json.dumps(report, indent=2) + "\n")
        write_docs("training.md", "benchmarks/startup.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

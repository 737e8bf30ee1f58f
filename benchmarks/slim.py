"""
Measure the cost of serving ResNet-18 (224 px, float32) from a bundle with the slim packages, and
from its archive with torch.

    python -m venv /tmp/slim
    /tmp/slim/bin/pip install --no-deps -r requirements-serve.txt .
    python benchmarks/slim.py --slim /tmp/slim/bin/python [--rounds 5]

Run it with a Python that has torch and the package. It measures the size of the installed packages,
the time from the start of the process to its first answer, and its memory after a hundred answers.
A start without compiled files shows the effect of `pip install --no-compile`. The program prints
medians, writes slim.json beside this file, and puts its table into docs/serving.md.
"""

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

import psutil
from load_generator import ask_once, request_of
from serving import free_port, make_model, running
from tables import write_docs

from allencv.runtime.whole_files import write_text

SITE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"
ANSWERS = 100


def megabytes(python: str) -> Dict[str, float]:
    """Return the size of an environment's packages without pip, and of compiled Python files."""
    command = [python, "-c", SITE_PACKAGES]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    folder = Path(printed.strip())
    files = [file for file in folder.rglob("*") if file.is_file()]
    sizes = {"installed_megabytes": 0.0, "compiled_megabytes": 0.0}
    for file in files:
        parts = file.relative_to(folder).parts
        if not parts[0].startswith(("pip", "setuptools")):
            key = "compiled_megabytes" if "__pycache__" in parts else "installed_megabytes"
            sizes[key] += file.lstat().st_size / 1e6
    return sizes


def memory(server: psutil.Process) -> float:
    return sum(p.memory_info().rss for p in [server, *server.children(recursive=True)]) / 1e6


def measure(
    python: str, model: Path, requests: List[bytes], folder: Path, **environment: str
) -> Dict[str, float]:
    port = free_port()
    command = [python, "-m", "allencv", "serve", str(model), "--port", str(port)]
    started = time.perf_counter()
    with running(command, port, requests[0], folder, **environment) as server:
        seconds = time.perf_counter() - started
        for number in range(ANSWERS):
            asyncio.run(ask_once(port, requests[number % len(requests)]))
        return {"first_answer_seconds": seconds, "memory_megabytes": memory(server)}


def measure_uncompiled(
    python: str, model: Path, requests: List[bytes], folder: Path
) -> Dict[str, float]:
    """Measure the first start after `pip install --no-compile`: Python compiles its imports."""
    compiled = Path(tempfile.mkdtemp(dir=folder))
    environment = {"PYTHONPYCACHEPREFIX": str(compiled), "PYTHONDONTWRITEBYTECODE": ""}
    run = measure(python, model, requests, folder, **environment)
    size = sum(file.stat().st_size for file in compiled.rglob("*.pyc")) / 1e6
    return {"uncompiled_answer_seconds": run["first_answer_seconds"], "used_megabytes": size}


def table(report: Dict[str, Any]) -> str:
    lines = ["| | slim, from a bundle | torch, from an archive |", "|---|---|---|"]
    for key, label, digits in (
        ("installed_megabytes", "installed packages, MB", 0),
        ("compiled_megabytes", "compiled Python files added by pip, MB", 0),
        ("used_megabytes", "compiled Python files with `pip install --no-compile`, MB", 0),
        ("first_answer_seconds", "start to first answer, s", 1),
        ("uncompiled_answer_seconds", "first start after `pip install --no-compile`, s", 1),
        ("memory_megabytes", "memory, MB", 0),
    ):
        values = [f"{report[name][key]:.{digits}f}" for name in ("slim", "torch")]
        lines.append(f"| {label} | {' | '.join(values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--slim", type=Path, required=True, help="the Python of the slim environment"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    arguments = parser.parse_args()
    report: Dict[str, Any] = {
        "settings": {"rounds": arguments.rounds, "python": platform.python_version()}
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder)
        images = sorted((folder / "images").rglob("*.jpg"))
        requests = [request_of(image.read_bytes()) for image in images]
        models = {
            "slim": (str(arguments.slim.absolute()), folder / "bundle"),
            "torch": (sys.executable, folder / "run" / "model.tar.gz"),
        }
        runs: Dict[str, List[Dict[str, float]]] = {name: [] for name in models}
        for _ in range(arguments.rounds):
            for name, (python, model) in models.items():
                # Run outside the clone, so that the installed package is imported
                arguments_of_run = (python, model, requests, folder)
                runs[name].append(
                    measure(*arguments_of_run) | measure_uncompiled(*arguments_of_run)
                )
        for name, (python, _) in models.items():
            report[name] = megabytes(python) | {
                key: statistics.median(run[key] for run in runs[name]) for key in runs[name][0]
            }
    print(table(report))
    if arguments.output is None:
        write_text(Path(__file__).with_suffix(".json"), json.dumps(report, indent=2) + "\n")
        write_docs("serving.md", "benchmarks/slim.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

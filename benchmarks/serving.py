"""
Compare `allencv serve` with the limit of the machine, with a plain FastAPI handler (pillow and
onnxruntime in a `def`, uvicorn with httptools and uvloop) and with LitServe. All use the same ONNX
file: torchvision's ResNet-18, 224 px, with random weights, exported by `allencv export` in float32
and in int8. All use onnxruntime. `allencv serve` also runs with OpenVINO in the fastest precision
of this machine (`--engine openvino-reduced`).

    pip install -e '.[benchmark,openvino]'
    python benchmarks/serving.py [--rounds 5] [--seconds 8] [--clients 1 8 64] [--workers 2]

Clients upload JPEG files of 500x375 pixels over open connections, one at a time each. Then requests
come at 0.8 of the rate that the server has reached. All servers have the same number of workers
(threads in `allencv serve`, processes in the others). They take turns. The clients run on the same
machine.

The limit (serving_limit.py) is a loop of decoding and the network, in as many threads, with the
files at hand. It has no HTTP, no clients and no processes. For n clients it takes batches of
n / threads images, at most 8.

The program prints medians and ratios within a round, writes serving.json beside this file, and puts
its tables into docs/serving.md. A round takes about 12 x (4 x (seconds + 1) + 4) seconds. To
measure in pieces, give `--folder`, `--rounds-file`, and `--rounds 1` with one of the `--precisions`
each time. `--rounds 0` makes the tables of such a file.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Dict, Iterator, List

import psutil
from data_loading import make_images
from load_generator import ask_once, closed_loop, open_loop, request_of
from tables import write_docs

from allencv.runtime.whole_files import write_text

HERE = Path(__file__).parent
PACKAGES = ("fastapi", "litserve", "onnxruntime", "openvino", "uvicorn")
PRECISIONS = {"float32": "bundle", "int8": "bundle_int8"}  # and the folder of each
REDUCED = "allencv, openvino-reduced"
LIMIT = "the limit"
SERVERS = ("allencv", LIMIT, "plain FastAPI", "LitServe", "LitServe, batches of 8", REDUCED)
MAX_BATCH = 8
"""The largest batch of `allencv serve`, of LitServe with batches, and of the limit."""

SHARE = 0.8
AT_RATE = f"{SHARE:g} of capacity"
CONFIG = {
    "dataset_reader": {
        "type": "image_folder",
        "transforms": [{"type": "eval", "size": 224}],
    },
    "data_loader": {"type": "image", "batch_size": 10},
    "model": {
        "type": "basic_image_classifier",
        "im2im_encoder": {
            "type": "resnet",
            "resnet_model": "resnet18",
            "weights": None,
            "pool": False,
        },
        "im2vec_encoder": {"type": "pooling", "input_channels": 512},
    },
    "trainer": {
        "type": "image",
        "num_epochs": 1,
        "cuda_device": -1,
        "optimizer": {"type": "sgd", "lr": 1e-3},
    },
}
RATIOS = (
    ("requests_per_second", LIMIT, "speed_to_limit"),
    ("cpu_ms_per_request", LIMIT, "cpu_to_limit"),
    ("p99_ms", "LitServe", "p99_to_litserve"),
)


def make_model(folder: Path) -> None:
    """
    Write `images/`, `run/model.tar.gz` and its bundles in float32 and int8. The model is ResNet-18
    with random weights, trained for one step.
    """
    make_images(folder / "images", 20)
    config = {**CONFIG, "train_data_path": str(folder / "images" / "train")}
    (folder / "config.json").write_text(json.dumps(config))
    export: List[Any] = ["export", folder / "run" / "model.tar.gz"]
    calibrated = ["--quantize", "int8", "--quantization-images", folder / "images"]
    for command in (
        ["train", folder / "config.json", "-s", folder / "run"],
        [*export, folder / PRECISIONS["float32"], "--no-parity"],
        [*export, folder / PRECISIONS["int8"], "--no-parity", *calibrated],
    ):
        subprocess.run(
            [sys.executable, "-m", "allencv", *map(str, command)],
            cwd=HERE.parent,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def command_of(server: str, bundle: Path, port: int, workers: int) -> List[str]:
    common = ["--port", str(port), "--workers", str(workers)]
    if server in ("allencv", REDUCED):
        engine = ["--engine", "openvino-reduced"] if server == REDUCED else []
        return [sys.executable, "-m", "allencv", "serve", str(bundle), *common, *engine]
    if server == "plain FastAPI":
        return [sys.executable, str(HERE / "rival_servers.py"), "plain", *common]
    batch = ["--max-batch", "8"] if "batches" in server else []
    return [sys.executable, str(HERE / "rival_servers.py"), "litserve", *common, *batch]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def running(
    command: List[str], port: int, body: bytes, folder: Path, **environment: str
) -> Iterator[psutil.Process]:
    """Start a server in a folder, wait for its first answer, and finally end all its processes."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,  # a new session could have another share of the CPU
    )
    try:
        deadline = time.perf_counter() + 120
        while not _answers(port, body):
            if process.poll() is not None or time.perf_counter() > deadline:
                raise RuntimeError(f"no answer from {' '.join(command)}")
            time.sleep(0.01)
        yield psutil.Process(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int, body: bytes) -> bool:
    try:
        asyncio.run(ask_once(port, body))
        return True
    except (OSError, EOFError, ValueError):
        return False


def run_limit(
    bundle: Path, images: Path, arguments: argparse.Namespace
) -> Dict[str, Dict[str, float]]:
    """
    Return the measurements of the limit by number of clients: with that many images at hand, in as
    many threads and batches as the servers.
    """
    command = [sys.executable, str(HERE / "serving_limit.py"), str(bundle), str(images)]
    lines = []
    for clients in arguments.clients:
        threads = min(clients, arguments.workers)
        batch = min(MAX_BATCH, math.ceil(clients / threads))
        lines.append(f"{threads} {batch} {arguments.seconds}")
    printed = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        input="\n".join(lines),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    measured = [json.loads(line) for line in printed.splitlines()]
    return dict(zip(map(str, arguments.clients), measured, strict=True))


Round = Dict[str, Dict[str, Dict[str, float]]]
"""The measurements by server, and by number of clients or `AT_RATE`."""


def measure(arguments: argparse.Namespace, folder: Path) -> Dict[str, List[Round]]:
    """Return the rounds of each precision."""
    if arguments.rounds and not (folder / PRECISIONS["int8"]).exists():
        make_model(folder)
    images = folder / "images"
    requests = [request_of(image.read_bytes()) for image in sorted(images.rglob("*.jpg"))]
    rounds: Dict[str, List[Round]] = {}
    for number in range(arguments.first_round, arguments.first_round + arguments.rounds):
        for precision in arguments.precisions:
            bundle = folder / PRECISIONS[precision]
            rounds.setdefault(precision, []).append({})
            for i in range(len(arguments.servers)):
                # Another server comes first in each round.
                name = arguments.servers[(number + i) % len(arguments.servers)]
                if name == LIMIT:
                    measured = run_limit(bundle, images, arguments)
                else:
                    measured = measure_server(name, bundle, requests, arguments)
                rounds[precision][-1][name] = measured
                print(f"round {number + 1}: {precision}, {name}: {measured}", file=sys.stderr)
    return rounds


def measure_server(
    name: str, bundle: Path, requests: List[bytes], arguments: argparse.Namespace
) -> Dict[str, Dict[str, float]]:
    """Start a server and return its measurements."""
    port, seconds = free_port(), arguments.seconds
    command = command_of(name, bundle, port, arguments.workers)
    environment = {"BENCHMARK_BUNDLE": str(bundle)}
    with running(command, port, requests[0], HERE.parent, **environment) as server:
        measured = {
            str(clients): closed_loop(server, port, requests, clients, seconds)
            for clients in arguments.clients
        }
        capacity = max(each["requests_per_second"] for each in measured.values())
        measured[AT_RATE] = open_loop(server, port, requests, SHARE * capacity, seconds)
        measured[AT_RATE]["p99_to_p50"] = measured[AT_RATE]["p99_ms"] / measured[AT_RATE]["p50_ms"]
    return measured


def summary(rounds: List[Round]) -> Dict[str, Any]:
    """Return medians, and the medians, smallest and largest of the ratios within a round."""
    result: Dict[str, Any] = {}
    for case in next(each for name, each in rounds[0].items() if name != LIMIT):
        result[case] = {}
        for name in filter(rounds[0].__contains__, SERVERS):
            runs = [each[name][case] for each in rounds if case in each[name]]
            if not runs:  # the limit has no rate
                continue
            row: Dict[str, Any] = {
                key: statistics.median(run[key] for run in runs) for key in runs[0]
            }
            for key, rival, label in RATIOS:
                if case in rounds[0].get(rival, {}) and key in runs[0]:
                    ratios = [each[name][case][key] / each[rival][case][key] for each in rounds]
                    row[label] = statistics.median(ratios)
                    row[f"{label}_range"] = [min(ratios), max(ratios)]
            result[case][name] = row
    return result


def table(report: Dict[str, Any]) -> str:
    settings = report["settings"]
    lines = [
        f"{settings['workers']} workers on {settings['cores']} cores, medians of "
        f"{settings['rounds']} rounds of {settings['seconds']:g} s. The last columns are ratios "
        "within a round, in parentheses the smallest and largest: requests/s and CPU time of the "
        "server relative to the limit, and p99 relative to LitServe. Last, the CPU time that the "
        "clients took on the same cores.",
        "",
        "| network | clients | server | requests/s | p50 ms | p99 ms | CPU ms per request "
        "| requests/s to the limit | CPU to the limit | p99 to LitServe | clients' CPU ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for precision, by_case in report["precisions"].items():
        for case, servers in by_case.items():
            if case != AT_RATE:
                lines += [
                    f"| {precision} | {case} | {name} | {row['requests_per_second']:.0f} "
                    f"| {_number(row, 'p50_ms')} | {_number(row, 'p99_ms')} "
                    f"| {row['cpu_ms_per_request']:.1f} | {_ratio(row, 'speed_to_limit')} "
                    f"| {_ratio(row, 'cpu_to_limit')} | {_number(row, 'p99_to_litserve', 2)} "
                    f"| {_number(row, 'client_cpu_ms_per_request', 1)} |"
                    for name, row in servers.items()
                ]
    lines += [
        "",
        f"At {SHARE:g} of what each server can do, with requests at a fixed rate:",
        "",
        "| network | server | requests/s | p50 ms | p99 ms | p99 to p50 | CPU ms per request |",
        "|---|---|---|---|---|---|---|",
    ]
    for precision, by_case in report["precisions"].items():
        lines += [
            f"| {precision} | {name} | {row['requests_per_second']:.0f} | {row['p50_ms']:.0f} "
            f"| {row['p99_ms']:.0f} | {row['p99_to_p50']:.2f} | {row['cpu_ms_per_request']:.1f} |"
            for name, row in by_case[AT_RATE].items()
        ]
    return "\n".join(lines)


def _number(row: Dict[str, Any], key: str, digits: int = 0) -> str:
    return f"{row[key]:.{digits}f}" if key in row else "-"


def _ratio(row: Dict[str, Any], key: str) -> str:
    if key not in row:
        return "-"
    least, most = row[f"{key}_range"]
    return f"{row[key]:.2f} ({least:.2f} to {most:.2f})"


def add_to_file(rounds: Dict[str, List[Round]], file: Path) -> Dict[str, List[Round]]:
    """Add rounds to those in a file, and return all of them."""
    kept: Dict[str, List[Round]] = json.loads(file.read_text()) if file.exists() else {}
    for precision, more in rounds.items():
        kept.setdefault(precision, []).extend(more)
    write_text(file, json.dumps(kept))
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), default=[*PRECISIONS])
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=[*SERVERS])
    parser.add_argument("--folder", type=Path, help="keep the model here, for another run")
    parser.add_argument(
        "--rounds-file",
        type=Path,
        help="add the rounds to those in this file, and report all of them: for a run in pieces",
    )
    parser.add_argument("--first-round", type=int, default=0, help="which server comes first")
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = measure(arguments, arguments.folder or Path(folder))
    if arguments.rounds_file:
        rounds = add_to_file(rounds, arguments.rounds_file)
    report = {
        "settings": {
            "rounds": min(map(len, rounds.values())),
            "seconds": arguments.seconds,
            "workers": arguments.workers,
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "precisions": {precision: summary(each) for precision, each in rounds.items()},
    }
    print(table(report))
    if arguments.output is None:
        write_text(Path(__file__).with_suffix(".json"), json.dumps(report, indent=2) + "\n")
        write_docs("serving.md", "benchmarks/serving.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

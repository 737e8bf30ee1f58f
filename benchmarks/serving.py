"""
Compare `allencv serve` with a plain FastAPI handler (pillow and onnxruntime in a `def`, uvicorn
with httptools and uvloop) and with LitServe. All serve the same ONNX file: torchvision's ResNet-18,
224 px, with random weights, exported by `allencv export` in float32 and in int8. All use
onnxruntime. `allencv serve` also runs with OpenVINO in the fastest precision of this machine
(`--engine openvino-reduced`).

    pip install -e '.[benchmark,openvino]'
    python benchmarks/serving.py [--rounds 5] [--seconds 8] [--clients 1 8 64] [--workers 2]

Clients upload JPEG files of 500x375 pixels over open connections, one at a time each. All servers
have the same number of workers (threads in `allencv serve`, processes in the others). They take
turns, and the clients run on the same machine. The program prints medians and ratios within a
round, writes serving.json beside this file, and puts its table into docs/serving.md. It takes about
rounds x 8 x (clients x (seconds + 1) + 4) seconds.
"""

import argparse
import asyncio
import contextlib
import json
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

import numpy as np
import psutil
from data_loading import make_images
from tables import write_docs

from allencv.runtime.whole_files import write_text

HERE = Path(__file__).parent
PACKAGES = ("fastapi", "litserve", "onnxruntime", "openvino", "uvicorn")
PRECISIONS = {"float32": "bundle", "int8": "bundle_int8"}  # and the folder of each
REDUCED = "allencv, openvino-reduced"
SERVERS = ("allencv", REDUCED, "plain FastAPI", "LitServe", "LitServe, batches of 8")
WARM_UP_SECONDS = 1.0
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
    ("requests_per_second", "LitServe", "speed_to_litserve"),
    ("p99_ms", "LitServe", "p99_to_litserve"),
    ("cpu_ms_per_request", "plain FastAPI", "cpu_to_plain"),
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
    calibrated = ["--quantize", "int8", "--calibration", folder / "images"]
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
        start_new_session=True,
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


def request_of(file: bytes) -> bytes:
    part = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    body = part + b"Content-Type: image/jpeg\r\n\r\n" + file + b"\r\n--xyz--\r\n"
    head = (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: multipart/form-data; boundary=xyz\r\nContent-Length: %d\r\n\r\n"
    )
    return head % len(body) + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    """Send a request and read its answer. Raise `ValueError` if the answer has no label."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
    content = await reader.readexactly(int(fields[b"content-length"]))
    if b" 200 " not in head[:16] or b'"label"' not in content:
        raise ValueError(f"{head[:40]!r} {content[:200]!r}")


async def ask_once(port: int, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await ask(reader, writer, request)
    finally:
        writer.close()


def cpu_seconds(server: psutil.Process) -> float:
    """Return the CPU time of a server and all its processes."""
    total = 0.0
    for process in [server, *server.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


async def load(
    server: psutil.Process, port: int, requests: List[bytes], clients: int, seconds: float
) -> Dict[str, float]:
    """Run `clients` clients for `seconds` seconds after a warm-up, and return the measurements."""
    latencies: List[float] = []
    begin = time.perf_counter() + WARM_UP_SECONDS
    end = begin + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = number
        while (sent := time.perf_counter()) < end:
            await ask(reader, writer, requests[turn % len(requests)])
            if begin <= (now := time.perf_counter()) < end:
                latencies.append(now - sent)
            turn += 1
        writer.close()

    async def processor_time() -> float:
        await asyncio.sleep(begin - time.perf_counter())
        before = cpu_seconds(server)
        await asyncio.sleep(end - time.perf_counter())
        return cpu_seconds(server) - before

    used, *_ = await asyncio.gather(processor_time(), *map(client, range(clients)))
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99]) * 1000
    return {
        "requests_per_second": len(latencies) / seconds,
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "cpu_ms_per_request": 1000 * used / len(latencies),
    }


Round = Dict[str, Dict[int, Dict[str, float]]]  # by server and number of clients


def measure(arguments: argparse.Namespace) -> Dict[str, List[Round]]:
    """Return the rounds of each precision."""
    rounds: Dict[str, List[Round]] = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        images = sorted((Path(folder) / "images").rglob("*.jpg"))
        requests = [request_of(image.read_bytes()) for image in images]
        for number in range(arguments.rounds):
            # Another server comes first in each round.
            turns = [SERVERS[(number + i) % len(SERVERS)] for i in range(len(SERVERS))]
            for precision, bundle in PRECISIONS.items():
                rounds[precision].append({})
                for name in turns:
                    rounds[precision][-1][name] = measure_server(
                        name, Path(folder) / bundle, requests, arguments
                    )
                    print(f"round {number + 1}: {precision}, {name}", file=sys.stderr)
    return rounds


def measure_server(
    name: str, bundle: Path, requests: List[bytes], arguments: argparse.Namespace
) -> Dict[int, Dict[str, float]]:
    """Start a server and return its measurements by number of clients."""
    port = free_port()
    command = command_of(name, bundle, port, arguments.workers)
    environment = {"BENCHMARK_BUNDLE": str(bundle)}
    with running(command, port, requests[0], HERE.parent, **environment) as server:
        return {
            clients: asyncio.run(load(server, port, requests, clients, arguments.seconds))
            for clients in arguments.clients
        }


def summary(rounds: List[Round], clients: List[int]) -> Dict[str, Any]:
    """Return medians, and the medians of the ratios within a round."""
    result: Dict[str, Any] = {}
    for number in clients:
        result[str(number)] = {}
        for name in SERVERS:
            runs = [each[name][number] for each in rounds]
            row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            for key, rival, label in RATIOS:
                theirs = [each[rival][number] for each in rounds]
                row[label] = statistics.median(a[key] / b[key] for a, b in zip(runs, theirs))
            result[str(number)][name] = row
    return result


def table(report: Dict[str, Any]) -> str:
    settings = report["settings"]
    lines = [
        f"{settings['workers']} workers on {settings['cores']} cores, medians of "
        f"{settings['rounds']} rounds of {settings['seconds']:g} s. The last three columns are "
        "ratios within a round: requests/s and p99 relative to LitServe, CPU relative to plain "
        "FastAPI.",
        "",
        "| network | clients | server | requests/s | p50 ms | p95 ms | p99 ms | CPU ms per request "
        "| requests/s ratio | p99 ratio | CPU ratio |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for precision, by_clients in report["precisions"].items():
        for clients, servers in by_clients.items():
            for name, row in servers.items():
                lines.append(
                    f"| {precision} | {clients} | {name} | {row['requests_per_second']:.0f} "
                    f"| {row['p50_ms']:.0f} | {row['p95_ms']:.0f} | {row['p99_ms']:.0f} "
                    f"| {row['cpu_ms_per_request']:.1f} | {row['speed_to_litserve']:.2f} "
                    f"| {row['p99_to_litserve']:.2f} | {row['cpu_to_plain']:.2f} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    arguments = parser.parse_args()
    rounds = measure(arguments)
    report = {
        "settings": {
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "workers": arguments.workers,
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "precisions": {
            precision: summary(each, arguments.clients) for precision, each in rounds.items()
        },
    }
    print(table(report))
    if arguments.output is None:
        write_text(Path(__file__).with_suffix(".json"), json.dumps(report, indent=2) + "\n")
        write_docs("serving.md", "benchmarks/serving.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

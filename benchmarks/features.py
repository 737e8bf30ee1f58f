"""
Compare the speed of `allencv embed` with that of the network alone, and of a script of timm.

    pip install -e '.[benchmark]'
    python benchmarks/features.py --data photos/train [--model tf_efficientnet_lite0] [--rounds 5]

Four or six ways take turns, each in a process of its own:

- the network of timm in channels-last order, with normalised batches in memory;
- `allencv embed` with a new cache, from the image files to the .npz file;
- a script: `timm.create_model`, timm's transform, and torch's DataLoader with 2 processes;
- the first two in bfloat16, if the processor has AMX.

Imports and the opening of the model are not counted. The weights are random, on which the speed
does not depend. The program prints medians, and medians of the ratios within a round. It writes
them into features.json beside this file, and its table into docs/quick.md.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
from networks import processor
from tables import write_docs

from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.whole_files import write_text

PROGRAM, JSON = "benchmarks/features.py", Path(__file__).with_suffix(".json")
BATCH = 32
SCRIPT_WORKERS = 2
IN_MEMORY = 256
"""The images that the network alone gets again and again."""
ALONE, EMBED, SCRIPT = "the network alone", "`allencv embed`", "a script of timm"
HALF_ALONE, HALF_EMBED = f"{ALONE}, bfloat16", f"{EMBED}, bfloat16"
BASELINES = {EMBED: ALONE, SCRIPT: ALONE, HALF_EMBED: HALF_ALONE}
"""The way that each way is compared with."""
Measured = Dict[str, float]


def files_in(data: Path, most: int) -> List[str]:
    """Return the images of a folder, or `most` of them, evenly spaced."""
    from allencv.runtime.image_files import list_images

    files = [image.file for image in list_images([str(data)], "image").images]
    return files[:: -(-len(files) // most)]


def network_alone(model: str, weights: str, files: List[str], half: bool) -> float:
    """Return the seconds that the network takes for as many images as there are files."""
    import timm
    import torch

    from allencv.common.memory import KEPT_BYTES, reuse_freed_memory

    reuse_freed_memory(KEPT_BYTES)
    network = timm.create_model(model, num_classes=0).eval()
    network.to(memory_format=torch.channels_last)
    size = timm.data.resolve_model_data_config(network)["input_size"]
    images = torch.randn(IN_MEMORY, *size).contiguous(memory_format=torch.channels_last)
    starts = [start % IN_MEMORY for start in range(0, len(files), BATCH)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        network(images[:BATCH])  # the first batch warms up
        started = time.perf_counter()
        for start in starts:
            network(images[start : start + BATCH])
    seconds = time.perf_counter() - started
    return seconds * len(files) / (BATCH * len(starts))


def allencv_embed(model: str, weights: str, files: List[str], half: bool) -> float:
    """Return the seconds of `embed` after it has opened the model."""
    from allencv.features import embedding

    precision = "bfloat16" if half else None
    encoder = embedding.open_encoder(model, weights, device="cpu", precision=precision)
    embedding.open_encoder = lambda *_: encoder
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ALLENCV_FEATURES"] = os.path.join(folder, "cache")
        started = time.perf_counter()
        embedding.embed(model, files, os.path.join(folder, "vectors.npz"), batch_size=BATCH)
        return time.perf_counter() - started


def script_of_timm(model: str, weights: str, files: List[str], half: bool) -> float:
    """Return the seconds of the script after it has opened the model."""
    import timm
    import torch
    from PIL import Image

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> torch.Tensor:
            return transform(Image.open(files[index]).convert("RGB"))

    network = timm.create_model(model, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)
    started = time.perf_counter()
    loader = torch.utils.data.DataLoader(Images(), BATCH, num_workers=SCRIPT_WORKERS)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        vectors = np.concatenate([network(images).numpy() for images in loader])
        np.savez(os.path.join(folder, "vectors.npz"), names=files, vectors=vectors)
    return time.perf_counter() - started


Way = Callable[[str, str, List[str], bool], float]
WAYS: Dict[str, Way] = {ALONE: network_alone, EMBED: allencv_embed, SCRIPT: script_of_timm}


def measure_way(way: str, model: str, weights: str, files: List[str]) -> Measured:
    """Measure a way in this process."""
    import timm  # noqa: F401 - imports are not measured

    import allencv.plugin  # noqa: F401 - imports are not measured

    half = way in (HALF_ALONE, HALF_EMBED)
    seconds = WAYS[way.removesuffix(", bfloat16")](model, weights, files, half)
    return {"images_per_second": len(files) / seconds}


def in_new_process(way: str, arguments: argparse.Namespace, weights: str) -> Measured:
    """
    Measure a way in a process of its own. Its peak memory is that of all its processes together,
    in which shared memory counts once: the sum of their PSS.
    """
    import psutil

    command = [sys.executable, __file__, "--data", arguments.data, "--model", arguments.model]
    command += ["--images", str(arguments.images), "--measure", way, weights]
    peak = 0.0
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as child,
        ThreadPoolExecutor() as executor,
    ):
        process = psutil.Process(child.pid)
        result = executor.submit(child.stdout.readline)  # type: ignore[union-attr]
        while not result.done():
            with contextlib.suppress(psutil.Error):
                tree = [process, *process.children(recursive=True)]
                peak = max(peak, sum(each.memory_full_info().pss for each in tree))
            time.sleep(0.2)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return {**json.loads(result.result()), "peak_memory_mb": peak / 2**20}


def measure_embed(arguments: argparse.Namespace) -> Dict[str, Any]:
    """Return the part "embed" of the report."""
    import timm
    import torch

    ways = [ALONE, EMBED, SCRIPT]
    if torch.cpu._is_amx_tile_supported():
        ways += [HALF_ALONE, HALF_EMBED]
    rounds: List[Dict[str, Measured]] = []
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.pth")
        network = timm.create_model(arguments.model)
        size = timm.data.resolve_model_data_config(network)["input_size"]
        torch.save(network.state_dict(), weights)
        for _ in range(arguments.rounds):
            rounds.append({way: in_new_process(way, arguments, weights) for way in ways})
            print(json.dumps(rounds[-1]), flush=True)
    measured = {}
    for way in ways:
        measured[way] = {
            key: statistics.median(each[way][key] for each in rounds) for key in rounds[0][way]
        }
        if way in BASELINES:
            ratios = sorted(
                each[way]["images_per_second"] / each[BASELINES[way]]["images_per_second"]
                for each in rounds
            )
            measured[way]["to_network"] = statistics.median(ratios)
            measured[way]["to_network_range"] = [ratios[0], ratios[-1]]
    settings = {
        "model": arguments.model,
        "pixels": size[1],
        "images": len(files_in(Path(arguments.data), arguments.images)),
        "rounds": arguments.rounds,
        "batch": BATCH,
        "processor": processor(),
        "cores": cpu_count(),
        "torch": torch.__version__.partition("+")[0],
        "timm": timm.__version__,
    }
    return {"settings": settings, "ways": measured}


def embed_table(part: Dict[str, Any]) -> str:
    settings = part["settings"]
    lines = [
        f"`{settings['model']}` at {settings['pixels']} px, {settings['images']} images, "
        f"{settings['rounds']} rounds, on {settings['processor']}; torch {settings['torch']}, timm "
        f"{settings['timm']}. Medians, and in brackets the lowest and the highest.",
        "",
        "| | images/s | to the network alone | peak memory |",
        "|---|---|---|---|",
    ]
    for way, row in part["ways"].items():
        ratio = ""
        if "to_network" in row:
            low, high = row["to_network_range"]
            ratio = f"{row['to_network']:.2f} ({low:.2f} to {high:.2f})"
        speed, memory = row["images_per_second"], row["peak_memory_mb"]
        lines.append(f"| {way} | {speed:.1f} | {ratio} | {memory:.0f} MB |")
    return "\n".join(lines)


PARTS: Dict[str, Callable[[argparse.Namespace], Dict[str, Any]]] = {"embed": measure_embed}
TABLES: Dict[str, Callable[[Dict[str, Any]], str]] = {"embed": embed_table}
"""The parts of the report, in the order of the page."""


def table(report: Dict[str, Any]) -> str:
    return "\n\n".join(TABLES[name](report[name]) for name in TABLES if name in report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, help="a folder of images")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="a network of timm's")
    parser.add_argument("--images", type=int, default=2000, help="the most images to use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "WEIGHTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        way, weights = arguments.measure
        files = files_in(Path(arguments.data), arguments.images)
        print(json.dumps(measure_way(way, arguments.model, weights, files)), flush=True)
        return
    output = arguments.output or JSON
    report = json.loads(output.read_text()) if output.exists() else {}
    report |= {name: PARTS[name](arguments) for name in arguments.parts}
    print(table(report))
    write_text(output, json.dumps(report, indent=2) + "\n")
    if arguments.output is None:
        write_docs("quick.md", PROGRAM, table(report))


if __name__ == "__main__":
    main()

"""
Compare bundles in int8 with bundles of the same models in float32: labels, accuracy and time.

    allencv export runs/pets/model.tar.gz pets
    allencv export runs/pets/model.tar.gz pets_int8 --quantize int8 \
        --quantization-images photos/train
    python benchmarks/int8.py --model pets pets pets_int8 --data photos/test [--rounds 15]

Give `--model` once for each model: its name in the table, its float32 bundle and its int8 bundle.
`--data` is a folder with one folder of images for each label. Give it once, or for each model. Use
images that were not used for the quantization. The two bundles take turns in one process, on
batches of 8 images with all processors. The program prints medians of the ratios within a round,
writes int8.json beside this file, and puts its table into docs/export.md. `--keep` keeps the other
models of int8.json.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from networks import processor
from tables import write_docs

from allencv.runtime import OnnxClassifier
from allencv.runtime.classifier import compare
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.image_files import list_images
from allencv.runtime.whole_files import write_text

JSON = Path(__file__).with_suffix(".json")
BATCH = 8


def measure(float32: Path, int8: Path, data: Path, most: int, rounds: int) -> Dict[str, Any]:
    files = [image.file for image in list_images([str(data)], "image").images]
    files = files[:: -(-len(files) // most)]
    bundles = [OnnxClassifier(folder, threads=cpu_count()) for folder in (float32, int8)]
    pixels = np.stack([bundles[0].preprocess(file) for file in files])
    starts = range(0, len(files), BATCH)
    answers = [
        np.concatenate([bundle.probabilities(pixels[start : start + BATCH]) for start in starts])
        for bundle in bundles
    ]
    labels = [bundles[0].labels.index(Path(file).parent.name) for file in files]
    seconds: List[List[float]] = []
    for _ in range(rounds):
        seconds.append([])
        for bundle in bundles:
            started = time.perf_counter()
            bundle.probabilities(pixels[:BATCH])
            seconds[-1].append(time.perf_counter() - started)
    ratios = sorted(int8 / float32 for float32, int8 in seconds)
    return {
        "images": len(files),
        "pixels": pixels.shape[1],
        "labels": len(bundles[0].labels),
        "agreement": compare(*answers, bundles[0].thresholds)[0],
        "accuracy": [float((each.argmax(axis=1) == labels).mean()) for each in answers],
        "milliseconds": [statistics.median(each) / BATCH * 1000 for each in zip(*seconds)],
        "time_ratio": statistics.median(ratios),
        "time_ratio_quartiles": [ratios[rounds // 4], ratios[-1 - rounds // 4]],
        "quantization": bundles[1].manifest.quantization,
        "processor": processor(),
    }


def table(report: Dict[str, Any]) -> str:
    lines = [
        "| model | labels | images | same label | accuracy, float32 | int8 | time to float32's "
        "| processor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report["models"].items():
        before, after = row["accuracy"]
        low, high = row["time_ratio_quartiles"]
        lines.append(
            f"| {name}, {row['pixels']} px | {row['labels']} | {row['images']} "
            f"| {row['agreement']:.1%} | {before:.1%} | {after:.1%} "
            f"| {row['time_ratio']:.2f} ({low:.2f} to {high:.2f}) | {row['processor']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--model", nargs=3, action="append", required=True, metavar=("NAME", "FLOAT32", "INT8")
    )
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="one, or one for each model"
    )
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--keep", action="store_true", help="keep the other models of int8.json")
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    arguments = parser.parse_args()
    if len(arguments.data) not in (1, len(arguments.model)):
        parser.error("expected --data once, or once for each --model")
    report: Dict[str, Any] = {
        "settings": {
            "rounds": arguments.rounds,
            "batch": BATCH,
            "threads": cpu_count(),
            "python": platform.python_version(),
        },
        "models": json.loads(JSON.read_text())["models"] if arguments.keep else {},
    }
    for index, (name, float32, int8) in enumerate(arguments.model):
        data = arguments.data[index % len(arguments.data)]
        report["models"][name] = measure(
            Path(float32), Path(int8), data, arguments.images, arguments.rounds
        )
        print(name, json.dumps(report["models"][name]), flush=True)
    print(table(report))
    if arguments.output is None:
        write_text(JSON, json.dumps(report, indent=2) + "\n")
        write_docs("export.md", "benchmarks/int8.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

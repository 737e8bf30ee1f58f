"""
Measure what each form of storing a dataset costs: files, bytes and the time to the first batch.

    pip install "datasets>=5.0" psutil
    python benchmarks/storage.py [--images 10000] [--rounds 3]

The program stores the same JPEG files of 32x32 pixels in each form and reads them in a new process:
it makes the reader, the data loader and the vocabulary, and takes one batch. The forms take turns.
It prints medians and an extrapolation to a million images, writes storage.json beside this file,
and puts its table into docs/data_loading.md.
"""

import argparse
import csv
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

from tables import write_docs

from allencv.runtime.whole_files import write_text

BATCH_SIZE, CLASSES = 64, 10
MILLION = 1_000_000

FORMS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "a folder for each class": ("images", {"type": "image_folder"}),
    "a list": ("list.txt", {"type": "image_list"}),
    "a table with paths (CSV)": (
        "table.csv",
        {"type": "image_table", "image_column": "path", "label_column": "label"},
    ),
    "Parquet with images": ("images.parquet", {"type": "huggingface", "split": "train"}),
    "tar shards": ("plain/*.tar", {"type": "webdataset"}),
    "tar shards with an index": ("indexed", {"type": "webdataset"}),
    "tar shards with an index, streamed": ("indexed", {"type": "webdataset", "streaming": True}),
}
"""The data path and the reader of each form."""


def image_bytes(number: int) -> bytes:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((32, 32)).save(file, "JPEG", quality=90)
    return file.getvalue()


def store(folder: Path, count: int) -> int:
    """Store the images in each form. Return their bytes."""
    from datasets import ClassLabel, Dataset, Features, Image

    from allencv.data.dataset_readers import ImageFolderReader
    from allencv.data.packing import PackOptions, pack

    names = [f"class{number % CLASSES}/{number:07d}.jpg" for number in range(count)]
    size = 0
    for number, name in enumerate(names):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size += path.write_bytes(image_bytes(number))
    labels = [name.partition("/")[0] for name in names]
    lines = [f"images/{name} {label}\n" for name, label in zip(names, labels)]
    (folder / "list.txt").write_text("".join(lines))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([f"images/{name}", label] for name, label in zip(names, labels))
    classes = ClassLabel(names=sorted(set(labels)))
    images = [{"bytes": (folder / "images" / name).read_bytes(), "path": None} for name in names]
    features = Features({"image": Image(), "label": classes})
    rows = Dataset.from_dict({"image": images, "label": labels}, features=features)
    rows.to_parquet(folder / "images.parquet")
    options = PackOptions(max_images=1000)
    pack(ImageFolderReader(), folder / "images", str(folder / "indexed"), options, 4)
    (folder / "plain").mkdir()
    for shard in (folder / "indexed").glob("*.tar"):
        shutil.copy(shard, folder / "plain")
    return size


def stored(folder: Path, path: str) -> Dict[str, int]:
    """Return the files of a form, their bytes, and the bytes that the disk uses for them."""
    place = folder / path.partition("/*")[0]
    files = [each for each in place.rglob("*") if each.is_file()] if place.is_dir() else [place]
    if path.endswith((".txt", ".csv")):
        files += [each for each in (folder / "images").rglob("*") if each.is_file()]
    stats = [file.stat() for file in files]
    return {
        "files": len(files),
        "bytes": sum(stat.st_size for stat in stats),
        "disk_bytes": sum(stat.st_blocks * 512 for stat in stats),
    }


def measure(name: str, folder: Path) -> Dict[str, float]:
    """Return the seconds to list the images and make a vocabulary, and then to the first batch."""
    from allennlp.common import Params
    from allennlp.data import DatasetReader

    import allencv.plugin  # noqa: F401 - imports are not measured
    from allencv.data import ImageDataLoader
    from allencv.data.label_vocabulary import LabelVocabulary

    path, reader = FORMS[name]
    if reader["type"] == "huggingface":
        import datasets  # noqa: F401 - imports are not measured
    started = time.perf_counter()
    loader = ImageDataLoader(
        DatasetReader.from_params(Params(dict(reader))),
        str(folder / path),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=1,
    )
    loader.index_with(LabelVocabulary.from_instances(loader.iter_instances()))
    listed = time.perf_counter()
    batch = next(iter(loader))
    assert len(batch["image"]) == BATCH_SIZE
    return {"listing": listed - started, "first_batch": time.perf_counter() - listed}


def run(name: str, folder: Path) -> Dict[str, float]:
    command = [sys.executable, __file__, "--measure", name, str(folder)]
    with tempfile.TemporaryDirectory() as cache:  # the datasets library copies what it reads
        environment = {**os.environ, "HF_DATASETS_CACHE": cache, "HF_HUB_OFFLINE": "1"}
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    seconds: Dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return seconds


def table(report: Dict[str, Any]) -> str:
    """Return the report in Markdown, for docs/data_loading.md."""
    settings = report["settings"]
    count = settings["images"]
    factor = MILLION / count
    lines = [
        f"{count:,} JPEG files of {settings['image_bytes'] / count:,.0f} bytes on average, medians "
        f"of {settings['rounds']} rounds, files in the page cache, {settings['file_system']}, "
        f"Python {settings['python']}. The columns for a million are {factor:g} times the files, "
        "the bytes and the listing time, plus the time of the first batch.",
        "",
        "| form | files | MB on disk | listing, s | first batch, s | files for a million "
        "| GB on disk for a million | s to the first batch of a million |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report["forms"].items():
        lines.append(
            f"| {name} | {row['files']:,} | {row['disk_bytes'] / 1e6:.1f} "
            f"| {row['listing']:.2f} | {row['first_batch']:.2f} | {row['files'] * factor:,.0f} "
            f"| {row['disk_bytes'] * factor / 1e9:.1f} "
            f"| {row['listing'] * factor + row['first_batch']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    parser.add_argument("--measure", nargs=2, metavar=("FORM", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.measure:
        name, place = arguments.measure
        print(json.dumps(measure(name, Path(place))), flush=True)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        size = store(folder, arguments.images)
        results: Dict[str, List[Dict[str, float]]] = {name: [] for name in FORMS}
        for number in range(arguments.rounds):
            for name in FORMS:
                results[name].append(run(name, folder))
                print(f"round {number + 1}, {name}: {results[name][-1]}", file=sys.stderr)
        forms = {
            name: {
                **stored(folder, FORMS[name][0]),
                **{key: statistics.median(each[key] for each in rounds) for key in rounds[0]},
            }
            for name, rounds in results.items()
        }
        report = {
            "settings": {
                "images": arguments.images,
                "image_bytes": size,
                "rounds": arguments.rounds,
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "machine": platform.machine(),
                "file_system": file_system(place),
            },
            "forms": forms,
        }
    print(table(report))
    if arguments.output is None:
        write_text(Path(__file__).with_suffix(".json"), json.dumps(report, indent=2) + "\n")
        write_docs("data_loading.md", "benchmarks/storage.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


def file_system(folder: str) -> str:
    """Return the kind of file system of a folder, such as "ext4"."""
    import psutil

    mounts = [
        each for each in psutil.disk_partitions(all=True) if folder.startswith(each.mountpoint)
    ]
    return max(mounts, key=lambda each: len(each.mountpoint)).fstype if mounts else "unknown"


if __name__ == "__main__":
    main()

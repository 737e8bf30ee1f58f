"""
Compare the speed of this project's data loader with 1 to 16 workers, in threads and in processes,
with its defaults, with a cache, from a tar shard, and with timm's loader. The images are JPEG
files: small ones of 32 x 32 pixels, which are padded, cropped and flipped, and photo-like ones of
500 x 375 pixels, with RandomResizedCrop(224) and a flip. The shard has the same files.

    pip install -e '.[benchmark]'
    python benchmarks/loader_workers.py [--sizes 32 224] [--workers 1 2 4 8 16] [--rounds 3]

In each round the loaders take turns, in one process. `--add` keeps the rounds of an earlier run, to
measure in several short runs. The program writes loader_workers.json beside this file, and puts its
table into docs/data_loading.md.
"""

import argparse
import io
import itertools
import json
import os
import platform
import statistics
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

from data_loading import BATCH_SIZE, Epoch, make_images, timm_loader
from tables import write_docs

from allencv.runtime.whole_files import write_text

DISTINCT = 256
"""The number of different photos; others are links to them."""
IMAGES = 2048
WORKERS = ("auto", "thread", "process")
SHARD = "shard, "
KINDS = (*WORKERS, *(f"{SHARD}{each}" for each in WORKERS), "timm")
DEFAULT = "default"
CACHED = "default with cache"
"""`cache: "memory"`, after the epoch that decodes the images."""


def make_folder(folder: Path, size: int) -> None:
    """Write `IMAGES` JPEG files."""
    import numpy as np
    from PIL import Image

    if size >= 128:
        make_images(folder, DISTINCT)
        files = sorted(folder.glob("train/*/*.jpg"))
        for number in range(DISTINCT, IMAGES):
            file = files[number % DISTINCT]
            os.link(file, file.with_name(f"{number:05d}.jpg"))
        return
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        path = folder / "train" / f"class{number % 10}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(path, quality=95)


def make_shard(folder: Path) -> None:
    """Write the files of a folder into one tar file, each with its label."""
    with tarfile.open(folder / "train.tar", "w") as tar:
        for number, file in enumerate(sorted((folder / "train").rglob("*.jpg"))):
            for suffix, content in (("jpg", file.read_bytes()), ("cls", file.parent.name.encode())):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def our_loader(folder: Path, size: int, is_shard: bool = False, **arguments: Any) -> Epoch:
    from allennlp.data import Vocabulary

    from allencv.data import ImageDataLoader
    from allencv.data.dataset_readers import ImageFolderReader, WebDatasetReader
    from allencv.data.transforms import RandomCrop, RandomHorizontalFlip, RandomResizedCrop

    crop = RandomResizedCrop(size) if size >= 128 else RandomCrop(size, padding=size // 8)
    kind, name = (WebDatasetReader, "train.tar") if is_shard else (ImageFolderReader, "train")
    reader = kind(transforms=[crop, RandomHorizontalFlip()])
    loader = ImageDataLoader(reader, folder / name, BATCH_SIZE, shuffle=True, **arguments)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))

    def epoch() -> Iterator[Any]:
        return ((batch["image"], batch["label"]) for batch in loader)

    return epoch


def make_loaders(folder: Path, size: int, workers: List[int]) -> Dict[str, Epoch]:
    loaders = {
        DEFAULT: our_loader(folder, size),
        CACHED: our_loader(folder, size, cache="memory"),
    }
    for count in workers:
        for worker, start in itertools.product(WORKERS, ("", SHARD)):
            loaders[f"{start}{worker} {count}"] = our_loader(
                folder, size, bool(start), num_workers=count, worker=worker
            )
        loaders[f"timm {count}"] = timm_loader(folder, count, size)
    return loaders


def speed(epoch: Epoch) -> float:
    started = time.perf_counter()
    images = sum(len(batch[0]) for batch in epoch())
    return images / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 224])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--add", action="store_true", help="keep the rounds of an earlier run")
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    arguments = parser.parse_args()
    output = arguments.output or Path(__file__).with_suffix(".json")
    report: Dict[str, Any] = {
        "settings": {
            "images": IMAGES,
            "batch_size": BATCH_SIZE,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "images_per_second": {},
    }
    if arguments.add:
        report = json.loads(output.read_text())
    for size in arguments.sizes:
        results = report["images_per_second"].setdefault(str(size), {})
        with tempfile.TemporaryDirectory() as folder:
            make_folder(Path(folder), size)
            make_shard(Path(folder))
            loaders = make_loaders(Path(folder), size, arguments.workers)
            for epoch in loaders.values():  # workers start, memory is touched
                speed(epoch)
            for _ in range(arguments.rounds):
                for name, epoch in loaders.items():
                    results.setdefault(name, []).append(speed(epoch))
        write_text(output, json.dumps(report, indent=2) + "\n")
    print(table(report))
    if arguments.output is None:
        write_docs("data_loading.md", "benchmarks/loader_workers.py", table(report))


def table(report: Dict[str, Any]) -> str:
    """Return the report in Markdown, for docs/data_loading.md."""
    settings, sizes = report["settings"], report["images_per_second"]
    rounds = {len(values) for results in sizes.values() for values in results.values()}
    counts = sorted(
        {int(name.split()[-1]) for each in sizes.values() for name in each if name[-1].isdigit()}
    )
    lines = [
        f"Images per second, medians of {'/'.join(map(str, sorted(rounds)))} rounds, "
        f"{settings['cores']} cores ({settings['machine']}), batches of {settings['batch_size']}, "
        f"{settings['images']:,} images, Python {settings['python']}.",
        "",
        f"| px | loader | {' | '.join(f'{count} workers' for count in counts)} |",
        "|---|---|" + "---|" * len(counts),
    ]
    for size, results in sizes.items():
        median = {name: statistics.median(values) for name, values in results.items()}
        for kind in KINDS:
            cells = [f"{median[f'{kind} {count}']:,.0f}" for count in counts]
            lines.append(f"| {size} | {kind} | {' | '.join(cells)} |")
        ours = [name for name in median if name.startswith(("thread", "process", DEFAULT))]
        best = max(median[name] for name in ours if name != CACHED)
        found = median[DEFAULT]
        share = f"{found:,.0f}, which is {found / best:.2f} of the best of ours"
        gain = f"{median[CACHED]:,.0f}, {median[CACHED] / found:.1f} times the default"
        for kind, cell in ((DEFAULT, share), (CACHED, gain)):
            lines.append(f"| {size} | {kind} | {cell} |" + " |" * (len(counts) - 1))
    return "\n".join(lines)


if __name__ == "__main__":
    main()

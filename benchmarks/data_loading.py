"""
Compare the data loaders of this project, timm, torchvision and AllenNLP on the same JPEG files of
500x375 pixels, with RandomResizedCrop, a flip, and normalised float batches.

    pip install -e '.[benchmark]'
    python benchmarks/data_loading.py [--sizes 224 128] [--images 1024] [--workers 2] [--rounds 5]

Each measurement runs in a new process, and the loaders take turns. The program prints medians and
the ratios to timm within a round, writes data_loading.json beside this file, and puts its table
into docs/data_loading.md.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from tables import write_docs

from allencv.runtime.whole_files import write_text

BATCH_SIZE = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LOADERS = (
    "allencv",
    "allencv, dct_scaling",
    "allencv, processes",
    "allencv, cache",
    "timm",
    "torchvision",
    "allennlp",
)


def make_images(folder: Path, count: int) -> None:
    """Write images like photos: smooth colours, edges and some grain, about 50 KB each as JPEG."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for index in range(count):
        pixels = np.zeros((375, 500, 3), np.float32)
        for cells, strength in ((4, 90), (16, 50), (60, 25)):
            coarse = random.normal(0, strength, (cells, cells, 3)).clip(-127, 127)
            image = Image.fromarray((coarse + 128).astype(np.uint8)).resize((500, 375), 3)
            pixels += np.asarray(image, np.float32) - 128
        pixels += 128 + random.normal(0, 6, pixels.shape)
        path = folder / "train" / f"class{index % 10}" / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=88)


Epoch = Callable[[], Iterator[Any]]


def allencv_loader(
    folder: Path,
    workers: int,
    size: int,
    kind: str = "thread",
    dct_scaling: bool = False,
    cache: Optional[str] = None,
    device: Optional[Any] = None,
    vocab: Optional[Any] = None,
) -> Epoch:
    """Make batches in memory, or on a `device`, where they are normalised then."""
    from allennlp.data import Vocabulary

    from allencv.data import ImageDataLoader
    from allencv.data.dataset_readers import ImageFolderReader
    from allencv.data.transforms import RandomHorizontalFlip, RandomResizedCrop
    from allencv.models.pixel_normalization import PixelNormalization

    normalize = PixelNormalization(list(MEAN), list(STD))  # the models do this
    crop = RandomResizedCrop(size, dct_scaling=dct_scaling)
    reader = ImageFolderReader(transforms=[crop, RandomHorizontalFlip()])
    loader = ImageDataLoader(
        reader,
        folder / "train",
        BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        worker=kind,
        cache=cache,
    )
    loader.index_with(vocab or Vocabulary.from_instances(loader.iter_instances()))
    loader.another_epoch_follows = True  # the trainer sets this
    if device is not None:
        loader.set_target_device(device)
        normalize.to(device)

    def epoch() -> Iterator[Any]:
        for batch in loader:
            yield normalize(batch["image"]), batch["label"]

    return epoch


def timm_loader(
    folder: Path,
    workers: int,
    size: int,
    device: Optional[Any] = None,
    batch_size: int = BATCH_SIZE,
) -> Epoch:
    """Make batches in memory, or on a `device`, where timm's prefetcher normalises them then."""
    import torch
    from timm.data import create_dataset, create_loader

    dataset = create_dataset("", root=str(folder / "train"))
    loader = create_loader(
        dataset,
        (3, size, size),
        batch_size,
        is_training=True,
        use_prefetcher=device is not None,
        pin_memory=device is not None and device.type == "cuda",
        device=device or torch.device("cpu"),
        no_aug=False,
        color_jitter=0.0,
        interpolation="bilinear",
        num_workers=workers,
        mean=MEAN,
        std=STD,
        persistent_workers=True,
    )
    return lambda: iter(loader)


def torchvision_loader(folder: Path, workers: int, size: int) -> Epoch:
    import torch
    from torchvision import datasets, transforms

    dataset = datasets.ImageFolder(
        folder / "train",
        transforms.Compose(
            [
                transforms.RandomResizedCrop(size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        ),
    )
    loader = torch.utils.data.DataLoader(
        dataset, BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=True
    )
    return lambda: iter(loader)


def allennlp_loader(folder: Path, workers: int, size: int) -> Epoch:
    from allennlp.data import DatasetReader, Vocabulary
    from allennlp.data.data_loaders import MultiProcessDataLoader
    from allennlp.data.fields import LabelField, TensorField
    from allennlp.data.instance import Instance
    from PIL import Image
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    class Reader(DatasetReader):
        """The usual reader with AllenNLP alone: it decodes each image when it reads it."""

        def __init__(self) -> None:
            super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True)

        def _read(self, file_path: Any) -> Iterator[Instance]:
            for path in self.shard_iterable(sorted(Path(file_path).glob("*/*.jpg"))):
                image = transform(Image.open(path).convert("RGB"))
                label = LabelField(int(path.parent.name[5:]), skip_indexing=True)
                yield Instance({"image": TensorField(image), "label": label})

    loader = MultiProcessDataLoader(
        Reader(),
        str(folder / "train"),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        max_instances_in_memory=4 * BATCH_SIZE,
        quiet=True,
    )
    loader.index_with(Vocabulary())
    return lambda: iter(loader)


def measure(name: str, folder: Path, workers: int, size: int) -> Dict[str, float]:
    """Measure two epochs: the first for the time to its first batch, the second for speed."""
    import psutil
    import torch  # noqa: F401 - imports are not measured

    import allencv.plugin  # noqa: F401 - imports are not measured

    if name == "timm":
        import timm.data  # noqa: F401
    make_loader: Dict[str, Callable[..., Epoch]] = {
        "allencv": allencv_loader,
        "allencv, dct_scaling": partial(allencv_loader, dct_scaling=True),
        "allencv, processes": partial(allencv_loader, kind="process"),
        "allencv, cache": partial(allencv_loader, cache="memory"),
        "timm": timm_loader,
        "torchvision": torchvision_loader,
        "allennlp": allennlp_loader,
    }
    process = psutil.Process()

    def processes() -> List[psutil.Process]:
        return [process, *process.children(recursive=True)]

    def cpu_seconds() -> float:
        ended = process.cpu_times()
        alive = sum(sum(each.cpu_times()[:2]) for each in processes())
        return alive + ended.children_user + ended.children_system

    def used_up(epoch: Epoch) -> Tuple[int, float]:
        """Return the number of images of an epoch, and the time of its first batch."""
        images, first = 0, 0.0
        for batch in epoch():
            first = first or time.perf_counter()
            images += len(batch["image"] if isinstance(batch, dict) else batch[0])
        return images, first

    started = time.perf_counter()
    epoch = make_loader[name](folder, workers, size)
    _, first = used_up(epoch)
    cpu, restarted = cpu_seconds(), time.perf_counter()
    images, first_again = used_up(epoch)
    return {
        "images_per_second": images / (time.perf_counter() - restarted),
        "cpu_ms_per_image": 1000 * (cpu_seconds() - cpu) / images,
        "first_batch_seconds": first - started,
        "first_batch_of_second_epoch_seconds": first_again - restarted,
    }


def run(command: List[str]) -> Dict[str, float]:
    """
    Run one measurement and watch the memory of its processes from outside. The watch stops when
    they begin to end, which reads a hundred megabytes of libraries. Shared memory (imports of
    forked workers, batches in shared memory) counts once: the sum of their PSS.
    """
    import psutil

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    peak = 0.0
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child,
        ThreadPoolExecutor() as executor,
    ):
        process = psutil.Process(child.pid)
        result = executor.submit(child.stdout.readline)  # type: ignore[union-attr]
        while not result.done():
            with contextlib.suppress(psutil.Error):
                tree = [process, *process.children(recursive=True)]
                peak = max(peak, sum(each.memory_full_info().pss for each in tree))
            time.sleep(0.05)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return {**json.loads(result.result()), "peak_memory_mb": peak / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 128])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loaders", nargs="+", choices=LOADERS, default=LOADERS)
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    parser.add_argument("--measure", nargs=3, metavar=("LOADER", "FOLDER", "SIZE"))
    arguments = parser.parse_args()
    if arguments.measure:
        name, folder, size = arguments.measure
        print(json.dumps(measure(name, Path(folder), arguments.workers, int(size))), flush=True)
        return

    report: Dict[str, Any] = {
        "settings": {
            "images": arguments.images,
            "workers": arguments.workers,
            "rounds": arguments.rounds,
            "batch_size": BATCH_SIZE,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "sizes": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), arguments.images)
        for size in arguments.sizes:
            results: Dict[str, List[Dict[str, float]]] = {name: [] for name in arguments.loaders}
            for number in range(arguments.rounds):
                for name in arguments.loaders:
                    command = [sys.executable, __file__, "--workers", str(arguments.workers)]
                    results[name].append(run([*command, "--measure", name, folder, str(size)]))
                    speed = results[name][-1]["images_per_second"]
                    print(f"{size} px, round {number + 1}, {name}: {speed:.0f}/s", file=sys.stderr)
            report["sizes"][str(size)] = summary(results)
    print(table(report))
    if arguments.output is None:
        write_text(Path(__file__).with_suffix(".json"), json.dumps(report, indent=2) + "\n")
        write_docs("data_loading.md", "benchmarks/data_loading.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


def summary(results: Dict[str, List[Dict[str, float]]]) -> Dict[str, Any]:
    """Return the medians of each loader, and the medians of its ratios to timm within a round."""
    report: Dict[str, Any] = {"medians": {}, "ratios_to_timm": {}}
    for name, rounds in results.items():
        pairs = list(zip(rounds, results["timm"]))
        for key in rounds[0]:
            values = [each[key] for each in rounds]
            ratios = [ours[key] / theirs[key] for ours, theirs in pairs]
            report["medians"].setdefault(name, {})[key] = statistics.median(values)
            report["ratios_to_timm"].setdefault(name, {})[key] = statistics.median(ratios)
    return report


def table(report: Dict[str, Any]) -> str:
    """Return the report in Markdown, for docs/data_loading.md."""
    settings = report["settings"]
    lines = [
        f"Medians of {settings['rounds']} rounds, {settings['workers']} workers on "
        f"{settings['cores']} cores ({settings['machine']}), batches of {settings['batch_size']}, "
        f"{settings['images']} images, Python {settings['python']}.",
        "",
        "| px | loader | images/s | ratio to timm | CPU ms per image | first batch, s "
        "| first batch of epoch 2, s | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size, results in report["sizes"].items():
        for name, median in results["medians"].items():
            lines.append(
                f"| {size} | {name} | {median['images_per_second']:.0f} "
                f"| {results['ratios_to_timm'][name]['images_per_second']:.2f} "
                f"| {median['cpu_ms_per_image']:.2f} | {median['first_batch_seconds']:.2f} "
                f"| {median['first_batch_of_second_epoch_seconds']:.3f} "
                f"| {median['peak_memory_mb']:.0f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""
Training from JPEG files, for benchmarks/training.py: each library with its own loader and defaults,
and with batches of the same size.

    python benchmarks/training_from_files.py LOOP NETWORK SIZE FOLDER [--workers 2]

trains two epochs of the images in a folder and prints the images per second of the second one.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import torch
from data_loading import timm_loader
from networks import NETWORKS, make_classifier, make_network
from training_loops import BATCH_SIZE, DEVICE, ON_GPU, autocast, median_ratio, optimizer_of

Epochs = Callable[[str, int, Path, int], Iterator[int]]


def allencv_epochs(network: str, size: int, folder: Path, workers: int) -> Iterator[int]:
    """Train an epoch, and yield its number of images."""
    from allennlp.common import Params
    from allennlp.data import Vocabulary
    from allennlp.training import Trainer

    from allencv.data import ImageDataLoader
    from allencv.data.dataset_readers import ImageFolderReader
    from allencv.data.transforms import TrainLight

    reader = ImageFolderReader(transforms=[TrainLight(size)])
    data = folder / "train"
    loader = ImageDataLoader(reader, data, BATCH_SIZE, shuffle=True, num_workers=workers)
    vocab = Vocabulary.from_instances(loader.iter_instances())
    loader.index_with(vocab)
    trainer = Trainer.from_params(
        Params(
            {
                "type": "image",
                "cuda_device": 0 if ON_GPU else -1,
                "num_epochs": 10**6,
                "optimizer": {"type": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
                "checkpointer": None,
            }
        ),
        model=make_classifier(network, size, vocab).to(DEVICE),
        data_loader=loader,
        serialization_dir=None,
    )
    while True:
        trainer._batches_in_epoch_completed = 0
        trainer._train_epoch(trainer._epochs_completed)
        trainer._epochs_completed += 1
        yield len(loader.images)  # type: ignore[arg-type]


def timm_epochs(
    network: str, size: int, folder: Path, workers: int, half: bool = False
) -> Iterator[int]:
    device = DEVICE if ON_GPU else None
    epoch_of_batches = timm_loader(folder, workers, size, device, BATCH_SIZE)
    net = make_network(network, size).to(DEVICE).train()
    layout = torch.channels_last if half else torch.contiguous_format
    net = net.to(memory_format=layout)
    optimizer, loss_function = optimizer_of(net), torch.nn.CrossEntropyLoss()
    while True:
        images = 0
        for image, label in epoch_of_batches():
            optimizer.zero_grad()
            with autocast(half):
                loss = loss_function(net(image.contiguous(memory_format=layout)), label)
            loss.backward()
            optimizer.step()
            loss.item()
            images += len(image)
        yield images


LOOPS: Dict[str, Epochs] = {
    "allencv": allencv_epochs,
    "allencv, freed memory given back": allencv_epochs,
    "timm": timm_epochs,
}
if ON_GPU:  # this project's trainer computes like that there
    LOOPS["timm, bf16 channels_last"] = partial(timm_epochs, half=True)


def measure(loop: str, network: str, size: int, folder: Path, workers: int) -> float:
    """Return the images per second of the second epoch."""
    import allencv.plugin  # noqa: F401 - imports are not measured

    epochs = LOOPS[loop](network, size, folder, workers)
    next(epochs)
    started = time.perf_counter()
    images = next(epochs)
    if ON_GPU:
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


def speed_of(loop: str, network: str, size: int, folder: Path, workers: int) -> float:
    """Return what `measure` does in a new process."""
    # The trainer keeps a malloc setting that is already set, here glibc's default.
    given_back = {"MALLOC_MMAP_MAX_": "65536"} if "given back" in loop else {}
    output = subprocess.run(
        [sys.executable, __file__, loop, network, str(size), str(folder), f"--workers={workers}"],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, **given_back},
    ).stdout
    return float(json.loads(output.splitlines()[-1]))


def report_of(speeds: Dict[str, List[float]]) -> Dict[str, Any]:
    """Return the medians of the loops that have been measured."""
    return {
        name: {
            "images_per_second": statistics.median(each),
            "to_timm": median_ratio(each, speeds.get("timm", [])),
        }
        for name, each in speeds.items()
        if each
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("size", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    logging.disable(logging.WARNING)
    print(json.dumps(measure(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()

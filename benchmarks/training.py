"""
Compare training loops with the same network, optimizer and batches: this project's trainer,
AllenNLP's trainer, a bare PyTorch loop, and the loops of timm's and torchvision's training scripts.

    pip install -e '.[benchmark]'
    python benchmarks/training.py [--rounds 7] [--steps 20]

"loop" measures the cost of the loop itself, which "one layer" shows best. The batches are in
memory, and the loops take turns in one process, in float32 unless their name says otherwise. "end
to end" reads JPEG files. Each loop has its own loader and defaults, in a process of its own. With a
GPU, the networks are larger and computed in bfloat16. The program prints medians of the ratios to
the bare loop within a round, writes training.json beside this file, and puts its tables into
docs/training.md.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch
from data_loading import make_images, timm_loader
from tables import write_docs
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from allencv.runtime.whole_files import write_text

CLASSES = 10
Epoch = Callable[[], None]
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
ONE_LAYER = "one layer, 4 px"
NETWORKS: Dict[str, Tuple[Optional[Dict[str, Any]], int, int]] = {
    # name: encoder, its output channels, pixels of an image's side
    ONE_LAYER: (None, 3, 4),
    "tiny CNN, 32 px": (
        {"type": "small_resnet", "widths": [8, 16], "blocks": [1, 1]},
        16,
        32,
    ),
    "ResNet-18, 64 px": (
        {"type": "resnet", "resnet_model": "resnet18", "weights": None, "pool": False},
        512,
        64,
    ),
}
if ON_GPU:
    NETWORKS = {
        "ResNet-50, 224 px": (
            {"type": "resnet", "resnet_model": "resnet50", "weights": None, "pool": False},
            2048,
            224,
        )
    }
BATCH_SIZE = 256 if ON_GPU else 32


def make_model(network: str) -> Any:
    """Return the classifier that this project's and AllenNLP's trainers train."""
    from allennlp.common import Params
    from allennlp.data import Vocabulary
    from allennlp.models import Model

    import allencv.plugin  # noqa: F401 - registers the parts

    encoder, channels, size = NETWORKS[network]
    vocab = Vocabulary()
    for label in range(CLASSES):
        vocab.add_token_to_namespace(str(label), "labels")
    torch.manual_seed(0)
    vector: Dict[str, Any] = {"type": "pooling", "input_channels": channels}
    if encoder is None:
        vector |= {"type": "flatten", "input_height": size, "input_width": size}
    params = {
        "type": "basic_image_classifier",
        "im2im_encoder": encoder and dict(encoder),
        "im2vec_encoder": vector,
    }
    return Model.from_params(Params(params), vocab=vocab).to(DEVICE)


def plain_network(model: Any, compiled: bool = False) -> Any:
    """Return the same network without AllenNLP's code around it."""
    parts = (model._im2im_encoder, model._im2vec_encoder, model._classification_layer)
    network = torch.nn.Sequential(*(part for part in parts if part is not None))
    return torch.compile(network, dynamic=False) if compiled else network


class Batches(List[Any]):
    """Batches in memory, with the interface of an AllenNLP data loader."""

    def set_target_device(self, device: torch.device) -> None:
        pass


def make_batches(network: str, steps: int, batch_size: int = BATCH_SIZE) -> Batches:
    generator = torch.Generator().manual_seed(0)
    size = NETWORKS[network][2]
    return Batches(
        {
            "image": torch.randn(batch_size, 3, size, size, generator=generator).to(DEVICE),
            "label": torch.randint(0, CLASSES, (batch_size,), generator=generator).to(DEVICE),
        }
        for _ in range(min(steps, 8))
    )


def optimizer_of(network: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


def autocast(on: bool) -> Any:
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=on)


# The loops. Each returns a function that trains `steps` steps.


def trainer_loop(network: str, batches: Batches, steps: int, **arguments: Any) -> Epoch:
    from allennlp.common import Params
    from allennlp.training import Trainer

    repeated = Batches(batches[step % len(batches)] for step in range(steps))
    trainer = Trainer.from_params(
        Params(
            {
                "cuda_device": 0 if ON_GPU else -1,
                "num_epochs": 10**6,
                "optimizer": {"type": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
                "checkpointer": None,
                "run_confidence_checks": False,
                **arguments,
            }
        ),
        model=make_model(network),
        data_loader=repeated,
        serialization_dir=None,
    )

    def epoch() -> None:
        trainer._batches_in_epoch_completed = 0
        trainer._train_epoch(trainer._epochs_completed)

    return epoch


def allencv_loop(network: str, batches: Batches, steps: int) -> Epoch:
    half = {} if ON_GPU else {"use_amp": False, "channels_last": False}
    return trainer_loop(network, batches, steps, type="image", **half)


def allencv_default_loop(network: str, batches: Batches, steps: int) -> Epoch:
    return trainer_loop(network, batches, steps, type="image")


def allennlp_loop(network: str, batches: Batches, steps: int) -> Epoch:
    return trainer_loop(network, batches, steps, type="gradient_descent", use_amp=ON_GPU)


def bare_loop(
    network: str,
    batches: Batches,
    steps: int,
    half: bool = ON_GPU,
    compiled: bool = False,
    is_distributed: bool = False,
) -> Epoch:
    net = plain_network(make_model(network), compiled).train()
    if half:
        net = net.to(memory_format=torch.channels_last)
    if is_distributed:
        net = DistributedDataParallel(net)
    optimizer = optimizer_of(net)

    def epoch() -> None:
        for step in range(steps):
            batch = batches[step % len(batches)]
            optimizer.zero_grad()
            with autocast(half):
                logits = net(batch["image"])
            F.cross_entropy(logits.float(), batch["label"]).backward()
            optimizer.step()

    return epoch


def bare_half_loop(network: str, batches: Batches, steps: int) -> Epoch:
    return bare_loop(network, batches, steps, half=True)


def timm_loop(network: str, batches: Batches, steps: int, compiled: bool = False) -> Epoch:
    """Train like train_one_epoch of timm's train.py, with its defaults."""
    from timm.scheduler import CosineLRScheduler
    from timm.utils import AverageMeter

    net = plain_network(make_model(network), compiled).train()
    if ON_GPU:
        net = net.to(memory_format=torch.channels_last)
    optimizer, loss_function = optimizer_of(net), torch.nn.CrossEntropyLoss()
    scheduler = CosineLRScheduler(optimizer, t_initial=10**6, t_in_epochs=False)

    def epoch() -> None:
        update_time, data_time, losses = AverageMeter(), AverageMeter(), AverageMeter()
        data_started = update_started = time.time()
        optimizer.zero_grad()
        for step in range(steps):
            batch = batches[step % len(batches)]
            data_time.update(time.time() - data_started)
            with autocast(ON_GPU):
                loss = loss_function(net(batch["image"]), batch["label"])
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(batch["image"]))
            optimizer.zero_grad()
            update_time.update(time.time() - update_started)
            update_started = time.time()
            scheduler.step_update(num_updates=step, metric=losses.avg)
            data_started = time.time()

    return epoch


def torchvision_loop(network: str, batches: Batches, steps: int) -> Epoch:
    """Train like train_one_epoch of torchvision's classification reference."""
    net = plain_network(make_model(network)).train()
    optimizer, loss_function = optimizer_of(net), torch.nn.CrossEntropyLoss()

    def epoch() -> None:
        meters: Dict[str, List[float]] = {"loss": [], "acc1": [], "acc5": [], "img/s": []}
        for step in range(steps):
            batch, started = batches[step % len(batches)], time.time()
            with autocast(ON_GPU):
                output = net(batch["image"])
                loss = loss_function(output, batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.inference_mode():
                _, predicted = output.topk(5, 1, True, True)
                correct = predicted.t() == batch["label"][None]
                for k in (1, 5):
                    hits = correct[:k].flatten().sum(dtype=torch.float32)
                    meters[f"acc{k}"].append((hits * (100.0 / len(output))).item())
            meters["loss"].append(loss.item())
            meters["img/s"].append(len(output) / (time.time() - started))

    return epoch


LOOPS: Dict[str, Callable[[str, Batches, int], Epoch]] = {
    "bare": bare_loop,
    "allencv": allencv_loop,
    "allennlp": allennlp_loop,
    "timm": timm_loop,
    "torchvision": torchvision_loop,
    "bare, bf16 channels_last": bare_half_loop,
    "allencv, defaults": allencv_default_loop,
}
if ON_GPU:  # all of them compute in bfloat16 there
    LOOPS = {name: loop for name, loop in LOOPS.items() if "," not in name}


def seconds_of(epoch: Epoch) -> float:
    """Return how long an epoch takes, including the work that it leaves to the GPU."""
    started = time.perf_counter()
    epoch()
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def median_ratio(values: List[float], baseline: List[float]) -> Optional[float]:
    """Return the median of the ratios within a round. `None` if no round has both."""
    ratios = [value / base for value, base in zip(values, baseline)]
    return statistics.median(ratios) if ratios else None


def measure_loops(network: str, rounds: int, steps: int) -> Dict[str, Any]:
    batches = make_batches(network, steps)
    epochs = {name: loop(network, batches, steps) for name, loop in LOOPS.items()}
    times: Dict[str, List[float]] = {name: [] for name in LOOPS}
    for number in range(rounds + 1):
        for name, epoch in epochs.items():
            seconds = seconds_of(epoch)
            if number:  # the first round warms up
                times[name].append(seconds)
    return {
        name: {
            "images_per_second": BATCH_SIZE * steps / statistics.median(each),
            "time_to_bare": median_ratio(each, times["bare"]),
        }
        for name, each in times.items()
    }


# End to end, from JPEG files.


def end_to_end_allencv(folder: Path, size: int, workers: int) -> Iterator[int]:
    from allennlp.common import Params
    from allennlp.data import Vocabulary
    from allennlp.models import Model
    from allennlp.training import Trainer

    from allencv.data import ImageDataLoader
    from allencv.data.dataset_readers import ImageFolderReader
    from allencv.data.transforms import TrainLight

    loader = ImageDataLoader(
        ImageFolderReader(transforms=[TrainLight(size)]),
        folder / "train",
        BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
    )
    vocab = Vocabulary.from_instances(loader.iter_instances())
    loader.index_with(vocab)
    encoder = {"type": "resnet", "resnet_model": "resnet18", "weights": None, "pool": False}
    params = {
        "type": "basic_image_classifier",
        "im2im_encoder": encoder,
        "im2vec_encoder": {"type": "pooling", "input_channels": 512},
    }
    trainer = Trainer.from_params(
        Params(
            {
                "type": "image",
                "cuda_device": 0 if ON_GPU else -1,
                "num_epochs": 10**6,
                "optimizer": {"type": "sgd", "lr": 0.01, "momentum": 0.9},
                "checkpointer": None,
            }
        ),
        model=Model.from_params(Params(params), vocab=vocab).to(DEVICE),
        data_loader=loader,
        serialization_dir=None,
    )
    while True:
        trainer._batches_in_epoch_completed = 0
        trainer._train_epoch(trainer._epochs_completed)
        trainer._epochs_completed += 1
        yield len(loader.images)  # type: ignore[arg-type]


def end_to_end_timm(folder: Path, size: int, workers: int, half: bool = False) -> Iterator[int]:
    import timm

    device = DEVICE if ON_GPU else None
    epoch_of_batches = timm_loader(folder, workers, size, device, BATCH_SIZE)
    net = timm.create_model("resnet18", num_classes=CLASSES).to(DEVICE).train()
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


END_TO_END: Dict[str, Callable[[Path, int, int], Iterator[int]]] = {
    "allencv": end_to_end_allencv,
    "allencv, freed memory given back": end_to_end_allencv,
    "timm": end_to_end_timm,
}
if ON_GPU:  # this project's trainer computes like that there
    END_TO_END["timm, bf16 channels_last"] = partial(end_to_end_timm, half=True)


def measure_end_to_end(name: str, folder: Path, size: int, workers: int) -> float:
    """Return the images per second of the second epoch."""
    import allencv.plugin  # noqa: F401 - imports are not measured

    epochs = END_TO_END[name](folder, size, workers)
    next(epochs)
    started = time.perf_counter()
    images = next(epochs)
    if ON_GPU:
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


def end_to_end_speed(name: str, folder: Path, size: int, workers: int) -> float:
    """Return what `measure_end_to_end` does in a new process."""
    command = [sys.executable, __file__, "--end-to-end", name, str(folder), str(size)]
    # The trainer keeps a malloc setting that is already set, here glibc's default.
    given_back = {"MALLOC_MMAP_MAX_": "65536"} if "given back" in name else {}
    output = subprocess.run(
        [*command, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, **given_back},
    ).stdout
    return json.loads(output.splitlines()[-1])


def end_to_end_report(speeds: Dict[str, List[float]]) -> Dict[str, Any]:
    """Return the medians of the loops that have been measured."""
    return {
        name: {
            "images_per_second": statistics.median(each),
            "to_timm": median_ratio(each, speeds["timm"]),
        }
        for name, each in speeds.items()
        if each
    }


def run_end_to_end(size: int, rounds: int, images: int, workers: int) -> Dict[str, Any]:
    speeds: Dict[str, List[float]] = {name: [] for name in END_TO_END}
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), images)
        for _ in range(rounds):
            for name in END_TO_END:
                speeds[name].append(end_to_end_speed(name, Path(folder), size, workers))
    return end_to_end_report(speeds)


def table(report: Dict[str, Any]) -> str:
    """Return the report in Markdown, for docs/training.md."""
    settings = report["settings"]
    lines = [
        f"Medians of {settings['rounds']} rounds on {settings['device']}, {settings['threads']} "
        f"threads, AMX: {'yes' if settings['amx'] else 'no'}, AVX-512 BF16: "
        f"{'yes' if settings['avx512_bf16'] else 'no'}; batches of {settings['batch_size']}, torch "
        f"{settings['torch'].partition('+')[0]}.",
        "",
        "| network | loop | images/s | time relative to bare loop |",
        "|---|---|---|---|",
    ]
    for network, loops in report["loop"].items():
        lines += [
            f"| {network} | {name} | {each['images_per_second']:.0f} | {each['time_to_bare']:.3f} |"
            for name, each in loops.items()
        ]
    if ONE_LAYER in report["loop"]:
        of_step = {
            name: 1000 * settings["batch_size"] / each["images_per_second"]
            for name, each in report["loop"][ONE_LAYER].items()
        }
        more = [f"{name} {of_step[name] - of_step['bare']:.2f}" for name in list(of_step)[1:5]]
        lines += ["", f"Milliseconds that a step of one layer takes longer: {', '.join(more)}."]
    lines += ["", "| from JPEG files | loop | images/s | ratio to timm |", "|---|---|---|---|"]
    for size, loops in report["end_to_end"].items():
        lines += [
            f"| ResNet-18, {size} px | {name} | {each['images_per_second']:.0f} "
            f"| {each['to_timm']:.2f} |"
            for name, each in loops.items()
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="for ResNets; others: 20 times")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    parser.add_argument("--end-to-end", nargs=3, metavar=("LOOP", "FOLDER", "SIZE"))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.end_to_end:
        name, folder, size = arguments.end_to_end
        speed = measure_end_to_end(name, Path(folder), int(size), arguments.workers)
        print(json.dumps(speed))
        return
    report: Dict[str, Any] = {
        "settings": {
            "rounds": arguments.rounds,
            "steps": arguments.steps,
            "batch_size": BATCH_SIZE,
            "device": torch.cuda.get_device_name() if ON_GPU else platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "amx": torch.cpu._is_amx_tile_supported(),
            "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
            "torch": torch.__version__,
        },
        "loop": {},
        "end_to_end": {},
    }
    for network in NETWORKS:
        steps = arguments.steps * (1 if "ResNet" in network else 20)
        report["loop"][network] = measure_loops(network, arguments.rounds, steps)
    for size in arguments.sizes:
        rounds = max(1, arguments.rounds // 2)
        report["end_to_end"][str(size)] = run_end_to_end(
            size, rounds, arguments.images, arguments.workers
        )
    print(table(report))
    if arguments.output is None:
        write_text(Path(__file__).with_suffix(".json"), json.dumps(report, indent=2) + "\n")
        write_docs("training.md", "benchmarks/training.py", table(report))
    else:
        write_text(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

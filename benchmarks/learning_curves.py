"""
Compare the learning curves of training_config/cifar10.jsonnet and of a plain PyTorch loop with
torchvision's ImageFolder. Network, augmentation, optimizer and schedule are the same.

    python benchmarks/learning_curves.py data/cifar10 [--epochs 3] [--minutes 5] [--seeds 0 1]

First both train for the same number of epochs. Then each trains for the epochs that fit into
`--minutes`, estimated from the first training, with a schedule of this length. The time is that of
training and evaluation, without the start of the process. The program prints the accuracies on the
test images after each epoch, with their spread over the seeds, writes learning_curves.json beside
this file, and puts its tables into docs/recipes.md.
"""

import argparse
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from tables import write_docs

from allencv.runtime.whole_files import write_text

CONFIG = Path(__file__).parent.parent / "training_config" / "cifar10.jsonnet"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Curve(NamedTuple):
    """The accuracy on the test images after each epoch, and the seconds until then."""

    accuracy: List[float]
    seconds: List[float]


def recipe(data: Path, network: str, epochs: int, seed: int) -> Curve:
    """Train with the command that the config names."""
    overrides = {"random_seed": seed, "numpy_seed": seed, "pytorch_seed": seed}
    from allencv.reporting.run_folder import read_run

    with tempfile.TemporaryDirectory() as run:
        subprocess.run(
            [
                *(sys.executable, "-m", "allencv", "train", str(CONFIG), "-f", "-s", run),
                *("-o", json.dumps(overrides)),
            ],
            env={**os.environ, "DATA": str(data), "NETWORK": network, "EPOCHS": str(epochs)},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        trained = read_run(run)
        accuracy = [epoch["validation_accuracy"] for epoch in trained.epochs]
        return Curve(accuracy, list(itertools.accumulate(trained.epoch_seconds())))


def plain(data: Path, network: str, epochs: int, seed: int) -> Curve:
    import torch
    from allennlp.common import Params
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    from allencv.modules.im2im_encoders import Im2ImEncoder

    torch.manual_seed(seed)
    variables = {"DATA": str(data), "NETWORK": network, "EPOCHS": str(epochs)}
    encoder = Im2ImEncoder.from_params(
        Params.from_file(CONFIG, ext_vars=variables)["model"]["im2im_encoder"]
    )
    net = torch.nn.Sequential(
        encoder,
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(encoder.get_output_channels(), 10),
    )
    end = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    start = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
    train = DataLoader(
        ImageFolder(str(data / "train"), v2.Compose(start + end)),
        batch_size=128,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
    )
    test = DataLoader(
        ImageFolder(str(data / "test"), v2.Compose(end)),
        batch_size=500,
        num_workers=2,
        persistent_workers=True,
    )
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=epochs * len(train), cycle_momentum=False
    )
    curve, started = Curve([], []), time.perf_counter()
    for _ in range(epochs):
        net.train()
        for image, label in train:
            optimizer.zero_grad()
            loss_function(net(image), label).backward()
            optimizer.step()
            scheduler.step()
        net.eval()
        correct = 0
        with torch.no_grad():
            for image, label in test:
                correct += int((net(image).argmax(1) == label).sum())
        curve.accuracy.append(correct / len(test.dataset))  # type: ignore[arg-type]
        curve.seconds.append(time.perf_counter() - started)
    return curve


LOOPS = {"recipe": recipe, "plain PyTorch": plain}


def table(report: Dict[str, Any]) -> str:
    """Return the report in Markdown, for docs/recipes.md."""
    settings = report["settings"]
    lines = [
        f"Accuracy in % on the {settings['test_images']:,} test images after each epoch: mean of "
        f"{len(settings['seeds'])} seeds ± largest deviation, with "
        f"`NETWORK={settings['network']}` on {settings['cores']} cores:",
        "",
        "| | " + " | ".join(f"epoch {n + 1}" for n in range(settings["epochs"])) + " | seconds |",
        "|---|" + "---|" * (settings["epochs"] + 1),
    ]
    for name, runs in report["same_epochs"].items():
        cells = [spread(epoch) for epoch in zip(*(run["accuracy"] for run in runs))]
        lines.append(f"| {name} | {' | '.join(cells)} | {last_second(runs):.0f} |")
    lines += [
        "",
        f"As many epochs as fit into {settings['minutes']:g} minutes:",
        "",
        "| | epochs | seconds | final accuracy |",
        "|---|---|---|---|",
    ]
    for name, runs in report["same_time"].items():
        epochs = len(runs[0]["accuracy"])
        last = spread([run["accuracy"][-1] for run in runs])
        lines.append(f"| {name} | {epochs} | {last_second(runs):.0f} | {last} |")
    return "\n".join(lines)


def spread(shares: Sequence[float]) -> str:
    mean = statistics.mean(shares)
    return f"{100 * mean:.1f} ± {100 * max(abs(each - mean) for each in shares):.1f}"


def last_second(runs: List[Dict[str, List[float]]]) -> float:
    return statistics.mean(run["seconds"][-1] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="CIFAR-10 with train/<class>/ and test/<class>/")
    parser.add_argument("--network", default="small", choices=["small", "large"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    args = parser.parse_args()

    @functools.cache
    def trained(name: str, epochs: int) -> List[Dict[str, List[float]]]:
        runs = []
        for seed in args.seeds:
            runs.append(LOOPS[name](args.data, args.network, epochs, seed)._asdict())
            print(name, "seed", seed, runs[-1], flush=True)
        return runs

    same_epochs = {name: trained(name, args.epochs) for name in LOOPS}
    per_epoch = {name: last_second(runs) / args.epochs for name, runs in same_epochs.items()}
    done = {name: max(1, int(60 * args.minutes / each)) for name, each in per_epoch.items()}
    report: Dict[str, Any] = {
        "settings": {
            "network": args.network,
            "epochs": args.epochs,
            "minutes": args.minutes,
            "seeds": args.seeds,
            "test_images": sum(1 for _ in args.data.glob("test/*/*")),
            "cores": os.cpu_count(),
        },
        "same_epochs": same_epochs,
        "same_time": {name: trained(name, epochs) for name, epochs in done.items()},
    }
    print(table(report))
    output = args.output or Path(__file__).with_suffix(".json")
    write_text(output, json.dumps(report, indent=2) + "\n")
    if args.output is None:
        write_docs("recipes.md", "benchmarks/learning_curves.py", table(report))


if __name__ == "__main__":
    main()

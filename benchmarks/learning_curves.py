"""
Learning curves side by side: the recipe training_config/cifar10.jsonnet, and a plain PyTorch loop
with torchvision's ImageFolder, the same network, augmentation, optimizer, schedule and epochs.

    python benchmarks/learning_curves.py data/cifar10 [--epochs 5] [--seeds 0 1]

The two take turns, a seed each. Prints the accuracies on the test images after each epoch, with
their spread over the seeds; writes learning_curves.json beside this file, and puts its table into
docs/recipes.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from tables import write_docs

CONFIG = Path(__file__).parent.parent / "training_config" / "cifar10.jsonnet"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def recipe(data: Path, network: str, epochs: int, seed: int) -> List[float]:
    """Trains by the command that the config names."""
    overrides = {"random_seed": seed, "numpy_seed": seed, "pytorch_seed": seed}
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
        files = [Path(run, f"metrics_epoch_{epoch}.json") for epoch in range(epochs)]
        return [json.loads(file.read_text())["validation_accuracy"] for file in files]


def plain(data: Path, network: str, epochs: int, seed: int) -> List[float]:
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
    test = DataLoader(ImageFolder(str(data / "test"), v2.Compose(end)), batch_size=500)
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=epochs * len(train), cycle_momentum=False
    )
    accuracies = []
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
        accuracies.append(correct / len(test.dataset))  # type: ignore[arg-type]
    return accuracies


LOOPS = {"recipe": recipe, "plain PyTorch": plain}


def table(report: Dict[str, Any]) -> str:
    """The report in Markdown; docs/recipes.md holds it."""
    settings, curves = report["settings"], report["curves"]
    lines = [
        f"Accuracy on the {settings['test_images']:,} test images after each epoch in %, mean of "
        f"{len(settings['seeds'])} seeds and the widest distance of one from it, with "
        f"`NETWORK={settings['network']}`:",
        "",
        "| | " + " | ".join(f"epoch {n + 1}" for n in range(settings["epochs"])) + " |",
        "|---|" + "---|" * settings["epochs"],
    ]
    for name, runs in curves.items():
        cells = []
        for epoch in zip(*runs):
            mean = statistics.mean(epoch)
            spread = max(abs(each - mean) for each in epoch)
            cells.append(f"{100 * mean:.1f} ± {100 * spread:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="CIFAR-10 with train/<class>/ and test/<class>/")
    parser.add_argument("--network", default="small", choices=["small", "large"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path, help="a JSON file to write; the docs are left alone")
    args = parser.parse_args()

    report: Dict[str, Any] = {
        "settings": {
            "network": args.network,
            "epochs": args.epochs,
            "seeds": args.seeds,
            "test_images": sum(1 for _ in args.data.glob("test/*/*")),
        },
        "curves": {name: [] for name in LOOPS},
    }
    for seed in args.seeds:
        for name, loop in LOOPS.items():
            report["curves"][name].append(loop(args.data, args.network, args.epochs, seed))
            print(name, "seed", seed, report["curves"][name][-1], flush=True)
    print(table(report))
    output = args.output or Path(__file__).with_suffix(".json")
    output.write_text(json.dumps(report, indent=2) + "\n")
    if args.output is None:
        write_docs("recipes.md", "benchmarks/learning_curves.py", table(report))


if __name__ == "__main__":
    main()

"""
Compare networks and optimizers for `allencv fit` without pretrained weights, for the same CPU time.

    python benchmarks/small_networks.py data/cifar10 data/hymenoptera_data [--seconds 240]

The data are CIFAR-10 with the folders `train` and `test`, photos with the folders `train` and
`val`, 200 images of two classes of CIFAR-10, and the grey digits of scikit-learn. Each network
trains in a process of its own, with the config that `fit` writes for the data. NETWORKS says what
differs.

The time is CPU time: one thread decodes and computes, and `trainer.time_limit` counts the seconds
that this thread has a core. So other work on the machine matters little. Two minutes of two cores
are 240 seconds. The program writes small_networks.json beside this file after each training, goes
on from there if it is started again, and puts its table into docs/fit.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch
from networks import processor
from tables import write_docs

from allencv.runtime.whole_files import write_text

Config = Dict[str, Any]
Network = Callable[[Config], None]
FEW_CLASSES, FEW_IMAGES = ("cat", "horse"), {"train": 100, "val": 25, "test": 1000}


def with_adamw(config: Config) -> None:
    """Train as `fit` trains networks that are not of this project, in batches of at most 64."""
    model, loader = config["model"], config["data_loader"]
    encoder = model["im2im_encoder"]
    model.pop("initializer", None)
    if encoder["type"] == "whitening":
        model["im2im_encoder"] = encoder["encoder"]
        model["im2im_encoder"]["input_channels"] = encoder["input_channels"]
    loader["batch_size"] = min(loader["batch_size"], 64)
    optimizer = config["trainer"]["optimizer"]
    config["trainer"]["optimizer"] = {
        "type": "adamw",
        "lr": 3e-3,
        "weight_decay": optimizer["weight_decay"],
        "weight_decay_on_norm_and_bias": False,
    }


def unchanged(config: Config) -> None:
    pass


NETWORKS = {
    "small_resnet, AdamW": ("small_resnet", with_adamw),
    "small_resnet, Muon": ("small_resnet", unchanged),
    "conv_groups, AdamW": ("conv_groups", with_adamw),
    "conv_groups with whitening, Muon": ("conv_groups", unchanged),
}
PRECISIONS = {"bfloat16": True, "float32": False}


def few_images(cifar10: Path, folder: Path) -> Path:
    """Make a folder of links to images of two classes."""
    for split, count in FEW_IMAGES.items():
        source = "test" if split == "test" else "train"
        start = FEW_IMAGES["train"] if split == "val" else 0
        for label in FEW_CLASSES:
            (folder / split / label).mkdir(parents=True)
            images = sorted((cifar10 / source / label).resolve().iterdir())
            for image in images[start : start + count]:
                (folder / split / label / image.name).symlink_to(image)
    return folder


def many_images(cifar10: Path, folder: Path) -> Path:
    """Make a folder in which the test images of CIFAR-10 are the validation images."""
    folder.mkdir()
    (folder / "train").symlink_to((cifar10 / "train").resolve())
    (folder / "val").symlink_to((cifar10 / "test").resolve())
    return folder


def digits(folder: Path) -> Path:
    """Write the 8 by 8 grey digits of scikit-learn, a fifth of them for validation."""
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    for i, (pixels, label) in enumerate(zip(data.images, data.target)):
        place = folder / ("val" if i % 5 == 0 else "train") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype("uint8")).save(place / f"{i:04d}.png")
    return folder


def train(data: str, network: str, precision: str, seconds: float, seed: int) -> Dict[str, Any]:
    """Train in this process for some seconds of its CPU time. Return what it has reached."""
    import time
    from types import SimpleNamespace

    from allennlp.common import Params

    import allencv.plugin  # noqa: F401 - registers the parts
    from allencv.fitting import (
        FitOptions,
        TableColumns,
        as_config,
        choose,
        examine_data,
        find_data,
    )
    from allencv.training import resumable_state
    from allencv.training.train_in_folder import train_in_folder

    torch.set_num_threads(1)
    resumable_state.time = SimpleNamespace(time=time.process_time)  # type: ignore[attr-defined]
    backbone, change = NETWORKS[network]
    found = find_data(data, TableColumns())
    facts = examine_data(found)
    choices = choose(facts, FitOptions(backbone=backbone))
    config = as_config(found, facts, choices)
    change(config)
    for loader in ("data_loader", "validation_data_loader"):
        config[loader]["num_workers"] = 0
    config["trainer"] |= {
        "num_epochs": 1000,
        "patience": None,
        "time_limit": f"{seconds}s",
        "use_amp": PRECISIONS[precision],
    }
    config["trainer"]["learning_rate_scheduler"]["warmup_ratio"] = 0.1
    config |= dict.fromkeys(("random_seed", "numpy_seed", "pytorch_seed"), seed)
    with tempfile.TemporaryDirectory() as folder:
        train_in_folder(Params(config), f"{folder}/run")
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
    accuracy = metrics.get("test_accuracy", metrics["best_validation_accuracy"])
    return {"accuracy": accuracy, "epochs": metrics["epoch"] + 1, "size": choices.image_size}


def in_a_process(*arguments: Any) -> Dict[str, Any]:
    code = (
        "import json, sys; from small_networks import train; "
        "print(json.dumps(train(*json.loads(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        cwd=Path(__file__).parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(report: Dict[str, Any]) -> str:
    """Return the report in Markdown, for docs/fit.md."""
    settings, runs = report["settings"], report["runs"]
    precisions = [each for each in PRECISIONS if any(each in of for of in runs.values())]
    lines = [
        f"Accuracy in % after {settings['seconds']:g} s of CPU time, in brackets the epochs that "
        f"had begun. Seeds: {len(settings['seeds'])}. {settings['processor']}.",
        "",
        "| data | precision | " + " | ".join(NETWORKS) + " |",
        "|---|---|" + "---|" * len(NETWORKS),
    ]
    for data, of_data in runs.items():
        for precision in precisions:
            if precision not in of_data:
                continue
            cells = [cell(of_data[precision].get(network, [])) for network in NETWORKS]
            lines.append(f"| {data} | {precision} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(runs: List[Dict[str, Any]]) -> str:
    if not runs:
        return "-"
    mean = sum(each["accuracy"] for each in runs) / len(runs)
    epochs = sum(each["epochs"] for each in runs) / len(runs)
    return f"{100 * mean:.1f} ({epochs:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("cifar10", type=Path, help="with train/<class>/ and test/<class>/")
    parser.add_argument("photos", type=Path, help="with train/<class>/ and val/<class>/")
    parser.add_argument("--seconds", type=float, default=240, help="of CPU time per training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--only", nargs="+", help="the names of the data to train on")
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in the trainings, for what `processor` says
    output = args.output or Path(__file__).with_suffix(".json")
    settings = {"seconds": args.seconds, "seeds": args.seeds, "processor": processor()}
    report: Dict[str, Any] = {"settings": settings, "runs": {}}
    if output.exists():
        before = json.loads(output.read_text())
        report = before if before["settings"] == settings else report
    with tempfile.TemporaryDirectory() as made:
        sets = {
            "CIFAR-10, 50,000 images of 32 x 32": many_images(args.cifar10, Path(made, "many")),
            "CIFAR-10, 200 images of 2 classes": few_images(args.cifar10, Path(made, "few")),
            "grey digits, 1,437 images of 8 x 8": digits(Path(made, "digits")),
            "ants and bees, 244 photos at 128 x 128": args.photos,
        }
        for data, path in sets.items():
            if args.only and data not in args.only:
                continue
            for precision in args.precisions:
                of_data = report["runs"].setdefault(data, {}).setdefault(precision, {})
                for network in NETWORKS:
                    runs = of_data.setdefault(network, [])
                    for seed in args.seeds[len(runs) :]:
                        runs.append(
                            in_a_process(
                                str(path.resolve()), network, precision, args.seconds, seed
                            )
                        )
                        print(data, precision, network, runs[-1], flush=True)
                        write_text(output, json.dumps(report, indent=2) + "\n")
    print(table(report))
    if args.output is None:
        write_docs("fit.md", "benchmarks/small_networks.py", table(report))


if __name__ == "__main__":
    main()

"""The configs in `training_config/`, small data for each, and what runs their commands."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from allennlp.commands import main

import allencv.plugin  # noqa: F401
from allencv.modules.pretrained_weights import without_pretrained_weights
from tests.conftest import ROOT, run_in_process, write_images

CONFIGS = sorted((ROOT / "training_config").glob("*.jsonnet"))
SCENES = ("buildings", "forest", "glacier", "mountain", "sea", "street")


def folders(
    *splits: str, labels: "tuple[str, ...]", size: int = 40, count: int = 4
) -> Callable[[Path], None]:
    """Make a folder for each split, with some images of each label."""

    def write(root: Path) -> None:
        for seed, split in enumerate(splits):
            write_images(root / split, dict.fromkeys(labels, count), size=size, seed=seed)

    return write


def write_posters(root: Path) -> None:
    """Write a table with a column of 0 and 1 for each genre, and `images/{Id}.jpg`."""
    write_images(root, {"images": 12})
    rows = ["Id,Action,Comedy,Drama"]
    rows += [
        f"{number:03d},{number % 2},{number // 2 % 2},{number % 3 // 2}" for number in range(12)
    ]
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")


def write_flowers(root: Path) -> None:
    """Write lists with a path and a number on each line."""
    write_images(root, {"jpg": 12})
    for split, numbers in {"train": range(8), "val": range(8, 12)}.items():
        lines = [f"jpg/{number:03d}.jpg {number % 6}\n" for number in numbers]
        (root / f"{split}_list.txt").write_text("".join(lines))


DATA: Dict[str, "tuple[str, Callable[[Path], None]]"] = {
    "cifar10": ("data/cifar10", folders("train", "test", labels=("airplane", "truck"), size=32)),
    "cifar10_94": ("data/cifar10", folders("train", "test", labels=("airplane", "truck"), size=32)),
    "cifar10_96": ("data/cifar10", folders("train", "test", labels=("airplane", "truck"), size=32)),
    "digits": ("demo/digits", folders("train", "val", labels=tuple("0123456789"), size=8)),
    "flowers102_mobilenet_v3": ("data/flowers102", write_flowers),
    "hymenoptera": ("data/hymenoptera_data", folders("train", "val", labels=("ants", "bees"))),
    "hymenoptera_frozen": (
        "data/hymenoptera_data",
        folders("train", "val", labels=("ants", "bees")),
    ),
    "image_classifier": ("data/PetImages", folders("train", "val", labels=("Cat", "Dog"), count=2)),
    "imagenet_resnet50_a2": (
        "data/imagenet",
        folders("train", "val", labels=tuple(f"n{number}" for number in range(6)), count=2),
    ),
    "intel_scenes": (
        "data/intel",
        folders("seg_train/seg_train", "seg_test/seg_test", labels=SCENES),
    ),
    "movie_posters": ("data/posters", write_posters),
}
"""For each config the folder that its header names, and what makes such data there."""


def images_of(size: Any) -> Dict[str, Any]:
    """Return overrides for the size of a config's images."""
    readers = ("dataset_reader", "validation_dataset_reader")
    return {f"{reader}.transforms.0.size": size for reader in readers}


ONE_EPOCH = {"trainer.num_epochs": 1}
SHORT = {**ONE_EPOCH, "data_loader.batch_size": 4}
WARMUP = {**SHORT, "trainer.learning_rate_scheduler.warmup_epochs": 0.5}
NARROW = {
    "model.im2im_encoder.encoder.widths": [8, 16],
    "model.im2vec_encoder.input_channels": 16,
}
SMALL_IMAGES: Dict[str, Dict[str, Any]] = {
    "cifar10": {},
    "cifar10_94": {},
    "cifar10_96": {},
    "digits": {},
    "flowers102_mobilenet_v3": images_of(64),
    "hymenoptera": images_of(64),
    "hymenoptera_frozen": images_of(64),
    "image_classifier": images_of([64, 64]),
    "imagenet_resnet50_a2": images_of(64),
    "intel_scenes": images_of(64),
    "movie_posters": images_of([72, 48]),
}
"""Overrides for each config: the smallest images that its network takes well."""
QUICK: Dict[str, Dict[str, Any]] = {
    "cifar10": SHORT,
    "cifar10_94": {**SHORT, **NARROW},
    "cifar10_96": {**SHORT, **NARROW},
    "digits": SHORT,
    "flowers102_mobilenet_v3": WARMUP,
    "hymenoptera": WARMUP,
    "hymenoptera_frozen": WARMUP,
    "image_classifier": SHORT,
    "imagenet_resnet50_a2": {**WARMUP, "data_loader.batch_size": 6},
    "intel_scenes": WARMUP,
    "movie_posters": SHORT,
}
"""Overrides for each config: few epochs, small batches, few channels."""


def header(file: Path) -> str:
    (text,) = re.findall(r"\A((?://.*\n)+)", file.read_text(encoding="utf-8"))
    return re.sub(r"^// ?", "", text, flags=re.MULTILINE).replace("\\\n", "")


def train_command(file: Path) -> str:
    """Return the first training command of a config's header, with the variables that it sets."""
    commands = re.findall(r"^  (.*\b(?:allennlp|allencv) train .*)$", header(file), re.MULTILINE)
    return str(commands[0])


def external_variables(file: Path) -> List[str]:
    """Return the variables that a config asks for, itself or in what it imports."""
    text = file.read_text(encoding="utf-8")
    names = re.findall(r"std\.extVar\([\"'](\w+)[\"']\)", text)
    for imported in re.findall(r"import \"(.+)\"", text):
        names += external_variables(file.parent / imported)
    return names


def run_here(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> None:
    """
    Run a command in this process, which spares starting another: as if typed in a
    folder that has the configs. Weights are not downloaded.
    """
    if not (folder / "training_config").exists():
        (folder / "training_config").symlink_to(ROOT / "training_config")
    monkeypatch.chdir(folder)
    words = shlex.split(command)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    if "-o" in words:
        overrides = {**json.loads(words.pop()), **overrides}
        words.remove("-o")
    if overrides:
        words += ["-o", json.dumps(overrides)]
    if "export" in words:
        from tests.exporting.operators import read_operators_once

        read_operators_once()
    monkeypatch.setattr(sys, "argv", words)
    with without_pretrained_weights():
        if words[0] == "allencv":
            run_in_process(*words[1:])
        else:
            main()

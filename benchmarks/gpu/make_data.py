"""
Make the images to measure with: photographs of 500x375 pixels, as benchmarks/data_loading.py makes
them, and CIFAR-10 from an archive. In a dry run, a few small images stand for CIFAR-10.

    python benchmarks/gpu/make_data.py CIFAR10.TAR.XZ
"""

import os
import shutil
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Tuple

from data_loading import make_images
from PIL import Image
from stage import DATA, DRY_RUN

PARTS, IMAGES = (1, 20) if DRY_RUN else (16, 128)
LINKS = 8
"""Each photograph has this many names, to make an epoch long enough to measure."""

MADE = DATA / "made"
"""Tells a later call that all images are there."""


def make_part(arguments: Tuple[Path, int]) -> None:
    folder, number = arguments
    part = folder / f"part{number}"
    make_images(part, IMAGES)
    for image in part.glob("train/*/*.jpg"):
        target = folder / "train" / image.parent.name
        target.mkdir(parents=True, exist_ok=True)
        for link in range(LINKS):
            os.link(image, target / f"{number}_{link}_{image.name}")
    shutil.rmtree(part)


def make_small_images(photos: Path, folder: Path) -> None:
    """Make images of 32 pixels, in as many classes as CIFAR-10 has."""
    for split in ("train", "test"):
        for photo in photos.glob("*/*.jpg"):
            target = folder / split / photo.parent.name
            target.mkdir(parents=True, exist_ok=True)
            Image.open(photo).resize((32, 32)).save(target / photo.name)


def main() -> None:
    if MADE.exists():
        return
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    with ProcessPoolExecutor(min(PARTS, os.cpu_count() or 1)) as executor:
        parts = executor.map(make_part, [(DATA / "photos", number) for number in range(PARTS)])
        if not DRY_RUN:
            with tarfile.open(sys.argv[1]) as archive:
                archive.extractall(DATA, filter="data")
        list(parts)  # raises their errors
    if DRY_RUN:
        make_small_images(DATA / "photos" / "train", DATA / "cifar10")
    for split in ("photos/train", "cifar10/train", "cifar10/test"):
        print(sum(1 for _ in (DATA / split).glob("*/*.jpg")), "images in", split)
    MADE.touch()


if __name__ == "__main__":
    main()

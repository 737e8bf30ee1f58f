"""
Write scikit-learn's 1,797 handwritten digits (8x8 grey levels) as a folder of PNG images:
`FOLDER/{train,val,test}/{0..9}/NNNN.png`. The split is stratified and always the same.

    python scripts/make_digits.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def make_digits(folder: Path) -> None:
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    rest, test = train_test_split(
        np.arange(len(images)), test_size=360, stratify=digits.target, random_state=0
    )
    train, val = train_test_split(rest, test_size=180, stratify=digits.target[rest], random_state=0)
    for split, indices in (("train", train), ("val", val), ("test", test)):
        for index in sorted(indices):
            path = folder / split / str(digits.target[index]) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(path)
        print(f"{len(indices):5d} images in {folder / split}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make_digits(Path(sys.argv[1]))

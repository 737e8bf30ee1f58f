"""Divides images into folds, each of which is held out once in cross-validation."""

import numpy as np

FOLDS = 5
SEED = 0


def choose_folds(labels: np.ndarray) -> np.ndarray:
    """
    Return the fold `(n,)` in which each image is held out, from 0 to 4 or fewer; -1 for an image
    that is never held out.

    With class indices, each class is spread evenly over the folds, and an image that is the only
    one of its class is never held out. So every class is in every training part. There are as many
    folds as the largest class has images, at most 5; and none, so -1 for all, if each class has
    one image. With several labels per image, images are drawn regardless of their labels. The seed
    is fixed.
    """
    random = np.random.default_rng(SEED)
    folds = np.full(len(labels), -1)
    if labels.ndim == 2:
        count = min(FOLDS, len(labels))
        if count > 1:
            folds[random.permutation(len(labels))] = np.arange(len(labels)) % count
        return folds
    counts = np.bincount(labels)
    start = 0
    for label in np.flatnonzero(counts > 1):
        rows = random.permutation(np.flatnonzero(labels == label))
        # Go on where the last class ended, so that the folds are equally large.
        folds[rows] = (start + np.arange(len(rows))) % min(FOLDS, counts.max())
        start += len(rows)
    return folds

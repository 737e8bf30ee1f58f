"""Refuses vectors and labels that nothing can be learned from."""

import numpy as np

from allencv.runtime.errors import InputError


def check_vectors(vectors: np.ndarray, first_row: int = 0) -> np.ndarray:
    """
    Return vectors `(n, dim)` as `float32`.

    Raises an `InputError` if the shape differs or a number is NaN or infinite. The message counts
    rows from `first_row`.
    """
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise InputError(
            f"the vectors have the shape {vectors.shape}; expected (images, dimensions), both 1 or "
            "more"
        )
    vectors = np.asarray(vectors, np.float32)
    finite = np.isfinite(vectors).all(1)
    if not finite.all():
        raise InputError(
            f"vector {first_row + int(finite.argmin())} contains NaN or infinity; expected finite "
            "numbers"
        )
    return vectors


def check_labels(labels: np.ndarray, images: int, classes: int, every_class: bool = False) -> None:
    """
    Raise an `InputError` if labels do not fit the images.

    # Parameters

    labels : `np.ndarray`
        Class indices `(n,)`, or 0 and 1 for each label, `(n, classes)`.
    images : `int`
        The number of vectors.
    classes : `int`
        The number of classes, 2 or more if each image has one label.
    every_class : `bool`, optional (default = `False`)
        Whether each class must have an image. This concerns class indices only.
    """
    if len(labels) != images:
        raise InputError(f"there are {len(labels)} labels for {images} vectors; expected as many")
    if labels.ndim == 2:
        if labels.shape[1] != classes or not np.isin(labels, (0, 1)).all():
            raise InputError(
                f"the labels have the shape {labels.shape} and values from {labels.min()} to "
                f"{labels.max()}; expected ({images}, {classes}) and 0 or 1"
            )
        return
    if classes < 2:
        raise InputError(f"there is {classes} class; expected 2 or more")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"the labels are {labels.min()} to {labels.max()}; expected 0 to {classes - 1}, as "
            f"there are {classes} classes"
        )
    if every_class:
        counts = np.bincount(labels, minlength=classes)
        if not counts.all():
            raise InputError(
                f"class {int(counts.argmin())} has no image; expected one or more of each of the "
                f"{classes} classes"
            )

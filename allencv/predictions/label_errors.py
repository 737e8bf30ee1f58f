"""Find images with a wrong label from the probabilities of their labels."""

from typing import List, Tuple

import numpy as np


def confident_learning(probs: np.ndarray, labels: np.ndarray) -> List[Tuple[int, int]]:
    """
    Return the rows of images that may have a wrong label, and the label that each may belong to
    (Northcutt et al. 2021, arXiv:1911.00068). The least probable label comes first.

    The threshold of a label is its mean probability over the images that have it. An image counts
    as the label with the largest probability of those that reach their thresholds. As many images
    of a label as count as another one are suspects: those for which it is least probable ("prune by
    class", with the counts as they are). Images for which it is the most probable label are not. A
    label that no image has is not considered.

    # Parameters

    probs : `np.ndarray`
        `(n, classes)`, of images held out. Rows of NaN are left out.
    labels : `np.ndarray`
        Class indices `(n,)`.
    """
    known = np.flatnonzero(~np.isnan(probs).any(1))
    probs, labels = probs[known], labels[known]
    own = probs[np.arange(len(labels)), labels]
    thresholds = np.full(probs.shape[1], np.inf)
    for label in np.unique(labels):
        thresholds[label] = own[labels == label].mean(dtype=np.float64)
    confident = np.where(probs >= thresholds - 1e-6, probs, 0)
    counts_as_another = confident.any(1) & (confident.argmax(1) != labels)
    most_probable = np.where(np.isfinite(thresholds), probs, -1).argmax(1)
    order = np.argsort(own, kind="stable")
    suspect = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_label = order[labels[order] == label]
        suspect[of_label[: counts_as_another[of_label].sum()]] = True
    rows = order[(suspect & (most_probable != labels))[order]]
    return list(zip(known[rows].tolist(), most_probable[rows].tolist()))

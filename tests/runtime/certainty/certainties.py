"""Certainties to write into bundles and archives."""

from dataclasses import replace
from typing import Any, Optional

import numpy as np

from allencv.runtime.certainty import Certainty, LabelSets, Scaling, Selection, UnknownRule

ENERGY, NEAREST, MAHALANOBIS = "energy", "nearest", "mahalanobis"


def certainty(labels: int = 3, **parts: Any) -> Certainty:
    """One that has found out nothing but what is in `parts`."""
    nothing = Certainty(
        images=5,
        data="photos",
        precision="float32",
        model="0" * 64,
        overlap=0,
        known_scores=np.array([-1, 0, 0, 1, 2], np.float32),
        label_counts=np.full(labels, 1),
    )
    return replace(nothing, **parts)


def rule(
    kind: str, limit: float = 0.0, labels: int = 3, size: int = 3, **arrays: Any
) -> UnknownRule:
    """A rule of each kind, with arrays of the right shapes."""
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    needed = {
        "max_probability": {},
        "energy": {"weight": drawn(labels, size), "bias": drawn(labels)},
        "mahalanobis": {
            "centre": drawn(size),
            "means": drawn(labels, 2),
            "whitening": drawn(size, 2),
        },
        "nearest": {"kept": drawn(7, size).astype(np.float16), "neighbour": np.array(2)},
    }[kind]
    return UnknownRule(kind, limit, 0.8, {**needed, **arrays})


def everything(labels: int = 3, kind: Optional[str] = ENERGY, sets: str = "lac") -> Certainty:
    """One with all parts."""
    return certainty(
        labels,
        scaling=Scaling([0.5] * labels, [0.0] * labels),
        sets=LabelSets(sets, [0.9, 0.99], [[0.7], [0.9]], 0.01, 1),
        selection=Selection(0.9, 0.95, 0.6, 0.75, 0.96),
        unknown=None if kind is None else rule(kind, labels=labels),
    )

from typing import Protocol

import numpy as np

PROBABILITIES, VECTORS = 0, 1
"""The outputs of the network of a bundle, by their order."""


class Engine(Protocol):
    """A network that is ready to run. Several threads may call it."""

    def __call__(self, images: np.ndarray, output: int = PROBABILITIES) -> np.ndarray:
        """
        Return an output for images `(batch, height, width, channels)`: `PROBABILITIES` or
        `VECTORS`.
        """
        ...

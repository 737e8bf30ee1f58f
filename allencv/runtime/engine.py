from typing import List, Protocol, Tuple

import numpy as np

PROBABILITIES, VECTORS = 0, 1
"""The outputs of the network of a bundle, by their order."""


class Engine(Protocol):
    """A network that is ready to run. Several threads may call it."""

    def __call__(
        self, images: np.ndarray, outputs: Tuple[int, ...] = (PROBABILITIES,)
    ) -> List[np.ndarray]:
        """
        Return some outputs for images `(batch, height, width, channels)`, computed once:
        `PROBABILITIES`, `VECTORS`, or both.
        """
        ...

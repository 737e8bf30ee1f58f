import numpy as np
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams
from allencv.runtime.certainty import Scaling


class Calibration(CheckedFromParams, Registrable):
    """
    Makes probabilities mean what they say: of the answers with 80 %, eight in ten are right.

    A subclass finds a `Scaling` from the probabilities of images with known labels.
    """

    def fit(self, probabilities: np.ndarray, targets: np.ndarray) -> Scaling:
        """
        Return the scaling that makes the labels most likely.

        # Parameters

        probabilities : `np.ndarray`
            `(images, labels)`, as the network gives them.
        targets : `np.ndarray`
            `(images,)`, the labels; or `(images, labels)`, `bool`, for several labels an image.
        """
        raise NotImplementedError

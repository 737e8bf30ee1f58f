from typing import Dict, Optional

import numpy as np
from allennlp.common.checks import ConfigurationError

from allencv.certainty.unknown_scores.unknown_score import KnownImages, UnknownScore
from allencv.runtime.errors import InputError

SMALLEST = 1e-6
"""
The smallest variance along a direction, as a share of the largest: in a direction in which the
training images do not differ, rounding alone would decide.
"""


@UnknownScore.register("mahalanobis")
class Mahalanobis(UnknownScore):
    """
    Half the squared Mahalanobis distance of the vector to the nearest mean of a label, with one
    covariance for all labels (Lee et al. 2018, arXiv:1807.03888).

    Registered as an `UnknownScore` with the name "mahalanobis".

    # Parameters

    shrinkage : `float`, optional (default = `None`)
        How far the covariance is moved to a multiple of the identity, in [0, 1]. `None` takes the
        best for the number of images (Ledoit and Wolf 2004).
    """

    kind = "mahalanobis"
    most_images = 5000

    def __init__(self, shrinkage: Optional[float] = None) -> None:
        if shrinkage is not None and not 0 <= shrinkage <= 1:
            raise ConfigurationError(f"shrinkage is {shrinkage}; expected a number in [0, 1]")
        self._shrinkage = shrinkage

    def fit(self, known: KnownImages) -> Dict[str, np.ndarray]:
        from sklearn.covariance import ledoit_wolf, shrunk_covariance  # slow to import

        # Around their centre, numbers are small, and float32 is exact enough.
        centre = known.vectors.mean(axis=0)
        vectors = known.vectors.astype(np.float64) - centre
        has_images = known.targets.any(axis=0)
        means = np.stack(
            [
                vectors[column].mean(axis=0) if column.any() else np.zeros(vectors.shape[1])
                for column in known.targets.T
            ]
        )
        # An image with several labels counts for each of them.
        images, labels = np.nonzero(known.targets)
        centred = vectors[images] - means[labels]
        if self._shrinkage is None:
            covariance, _ = ledoit_wolf(centred, assume_centered=True)
        else:
            covariance = centred.T @ centred / len(centred)
            covariance = shrunk_covariance(covariance, self._shrinkage)
        values, directions = np.linalg.eigh(covariance)
        if not values.max() > 0:
            raise InputError(
                "the unknown score 'mahalanobis' needs training images that differ from others of "
                f"their label, and {len(known.vectors)} do not; expected --train-data with more "
                "images, or the score 'energy'"
            )
        is_kept = values > SMALLEST * values.max()
        whitening = directions[:, is_kept] / np.sqrt(values[is_kept])
        whitened = means @ whitening
        # A label without training images is near to no image.
        whitened[~has_images] = whitened[has_images][:1]
        return {
            "centre": centre,
            "means": whitened.astype(np.float32),
            "whitening": whitening.astype(np.float32),
        }

from typing import Dict

import numpy as np

from allencv.certainty.unknown_scores.unknown_score import KnownImages, UnknownScore


@UnknownScore.register("max_probability")
class MaxProbability(UnknownScore):
    """
    1 - the highest probability of the network (Hendrycks and Gimpel 2017, arXiv:1610.02136).

    Registered as an `UnknownScore` with the name "max_probability".
    """

    kind = "max_probability"

    def fit(self, known: KnownImages) -> Dict[str, np.ndarray]:
        return {}

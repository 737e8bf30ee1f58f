from typing import Dict

import numpy as np

from allencv.certainty.unknown_scores.unknown_score import KnownImages, UnknownScore


@UnknownScore.register("energy")
class Energy(UnknownScore):
    """
    The free energy of the logits, -log(sum(exp(logits))) (Liu et al. 2020, arXiv:2010.03759), and
    for several labels an image the sum of the labels' energies (Wang et al. 2021,
    arXiv:2111.12797). With `test_time_augmentation` it is that of the image itself.

    Registered as an `UnknownScore` with the name "energy".
    """

    kind = "energy"

    def fit(self, known: KnownImages) -> Dict[str, np.ndarray]:
        return {"weight": known.weight, "bias": known.bias}

from typing import Dict

from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams


class ClassWeighting(CheckedFromParams, Registrable):
    """
    How much an image of each class weighs, by the number of images that the classes have. The
    "image" data loader draws images by it (`class_weighting`), and a model weighs their losses by
    it (`class_weights`).
    """

    def weight(self, count: int) -> float:
        """What an image weighs whose class has `count` images, 1 or more; up to a common factor."""
        raise NotImplementedError

    def weights(self, counts: Dict[str, int]) -> Dict[str, float]:
        """What an image of each class weighs, up to a common factor."""
        return {label: self.weight(count) for label, count in counts.items()}

    def __call__(self, counts: Dict[str, int]) -> Dict[str, float]:
        """
        The weights of the classes, scaled so that they are 1 in the mean over the images: the sum
        of weight times count is the number of images.
        """
        weights = self.weights(counts)
        total = sum(weights[label] * count for label, count in counts.items())
        scale = sum(counts.values()) / total if total else 1.0
        return {label: weight * scale for label, weight in weights.items()}

from typing import Dict

from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams


class ClassWeighting(CheckedFromParams, Registrable):
    """
    Computes the weight of an image of each class from the number of images per class. The "image"
    data loader uses it to draw images (`class_weighting`), a model to weight their losses
    (`class_weights`).
    """

    def weight(self, count: int) -> float:
        """Return the weight of an image whose class has `count >= 1` images, up to a factor."""
        raise NotImplementedError

    def weights(self, counts: Dict[str, int]) -> Dict[str, float]:
        """Return the weight of an image of each class, up to a common factor."""
        return {label: self.weight(count) for label, count in counts.items()}

    def __call__(self, counts: Dict[str, int]) -> Dict[str, float]:
        """
        Return the weights of the classes, scaled to average 1 over all images: the sum of weight
        times count is the number of images.
        """
        weights = self.weights(counts)
        total = sum(weights[label] * count for label, count in counts.items())
        scale = sum(counts.values()) / total if total else 1.0
        return {label: weight * scale for label, weight in weights.items()}

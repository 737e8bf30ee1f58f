from typing import List, Optional, Tuple

import torch
from allennlp.common.checks import ConfigurationError

from allencv.common.label_shares import as_shares
from allencv.data.transforms.batch_transforms.batch_transform import BatchTransform


@BatchTransform.register("random_choice")
class RandomChoice(BatchTransform):
    """
    Applies one of several batch transforms, drawn for each batch, or none.

    Images are `(batch, channels, height, width)` floats; labels `(batch,)` or `(batch,
    num_classes)`; the result's labels are `(batch, num_classes)`.

    Registered as a `BatchTransform` with name "random_choice".

    # Parameters

    transforms : `List[BatchTransform]`, required
        The transforms to choose from.
    probabilities : `List[float]`, optional (default = `None`)
        The probability of each transform. If their sum is below 1, the rest is the probability of
        no transform. `None` gives all the same.
    """

    def __init__(
        self, transforms: List[BatchTransform], probabilities: Optional[List[float]] = None
    ) -> None:
        if not transforms:
            raise ConfigurationError("random_choice.transforms is []; expected at least one")
        if probabilities is None:
            probabilities = [1 / len(transforms)] * len(transforms)
        if len(probabilities) != len(transforms):
            raise ConfigurationError(
                f"random_choice.probabilities has {len(probabilities)} numbers; expected "
                f"{len(transforms)}, one for each of transforms"
            )
        if min(probabilities) < 0 or sum(probabilities) > 1 + 1e-6:
            raise ConfigurationError(
                f"random_choice.probabilities is {probabilities}; expected numbers of at least 0 "
                "with a sum of at most 1"
            )
        self.transforms = transforms
        self.probabilities = probabilities

    def make_choice(self) -> int:
        """Draw the index of the transform to apply; their number means none."""
        none = max(0.0, 1 - sum(self.probabilities))
        return int(torch.multinomial(torch.tensor([*self.probabilities, none]), 1))

    def mixes_features(self) -> bool:
        return all(each.mixes_features() for each in self.transforms)

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, num_classes: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        choice = self.make_choice()
        if choice == len(self.transforms):
            return images, as_shares(labels, num_classes)
        return self.transforms[choice](images, labels, num_classes)

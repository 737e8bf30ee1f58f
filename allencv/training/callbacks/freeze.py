from typing import Optional

from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback

from allencv.training.callbacks.fine_tuning import FineTuning


@TrainerCallback.register("freeze")
class Freeze(FineTuning):
    """
    Keeps the backbone, or its first stages, as they are, and trains the rest: quick, and hard to
    overfit with few images.

    Registered as a `TrainerCallback` with name "freeze".

    # Parameters

    stages : `int`, optional (default = `None`)
        How many stages are frozen, counted from the input; `None` freezes the whole backbone.
    train_bn
        See `FineTuning`.
    """

    def __init__(
        self, serialization_dir: str, stages: Optional[int] = None, train_bn: bool = False
    ) -> None:
        super().__init__(serialization_dir, train_bn)
        self.stages = stages

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        if self.stages is None:
            return 0
        if not 1 <= self.stages <= num_stages:
            raise ConfigurationError(
                f"stages of the callback 'freeze' is {self.stages}; expected 1 to {num_stages}, "
                "the number of the backbone's stages"
            )
        return num_stages - self.stages

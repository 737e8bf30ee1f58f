from itertools import pairwise
from typing import List, Tuple

from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback

from allencv.training.callbacks.fine_tuning import FineTuning

ALL = -1


@TrainerCallback.register("unfreeze_milestones")
class UnfreezeMilestones(FineTuning):
    """
    Trains the head alone at first, and from given epochs on more and more of the last stages.

    Registered as a `TrainerCallback` with name "unfreeze_milestones".

    # Parameters

    milestones : `List[Tuple[int, int]]`, required
        Pairs of an epoch and the number of stages that are trained from then on, counted from the
        head; -1 is all of them. `[[5, 1], [10, -1]]` trains the last stage from epoch 5 on,
        and the whole backbone from epoch 10 on. Both numbers rise.
    train_bn
        See `FineTuning`.
    """

    def __init__(
        self,
        serialization_dir: str,
        milestones: List[Tuple[int, int]],
        train_bn: bool = False,
    ) -> None:
        super().__init__(serialization_dir, train_bn)
        self.milestones = milestones
        rising = [(0, 0), *((e, float("inf") if n == ALL else n) for e, n in milestones)]
        if not milestones or any(
            not (before[0] < after[0] and before[1] < after[1])
            for before, after in pairwise(rising)
        ):
            raise ConfigurationError(
                f"milestones of the callback 'unfreeze_milestones' is {milestones}; expected pairs "
                "of an epoch and a number of stages (-1: all), both 1 or more and rising"
            )

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        trained = 0
        for milestone, stages in self.milestones:
            if stages > num_stages:
                raise ConfigurationError(
                    f"milestones of the callback 'unfreeze_milestones' has {stages} stages; "
                    f"expected at most {num_stages}, the number of the backbone's stages"
                )
            if epoch >= milestone:
                trained = num_stages if stages == ALL else stages
        return trained

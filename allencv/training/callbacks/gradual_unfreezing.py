from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback

from allencv.training.callbacks.fine_tuning import FineTuning


@TrainerCallback.register("gradual_unfreezing")
class GradualUnfreezing(FineTuning):
    """
    Trains the head alone at first, and then one stage more after every so many epochs, from the
    last to the first (Howard and Ruder 2018, "Universal Language Model Fine-tuning",
    arXiv:1801.06146, section 3.3). If there are more stages than epochs, the first stay frozen.

    Registered as a `TrainerCallback` with name "gradual_unfreezing".

    # Parameters

    epochs_per_stage : `int`, optional (default = `1`)
        After how many epochs the next stage is trained too.
    train_bn
        See `FineTuning`.
    """

    def __init__(
        self, serialization_dir: str, epochs_per_stage: int = 1, train_bn: bool = False
    ) -> None:
        super().__init__(serialization_dir, train_bn)
        if epochs_per_stage < 1:
            raise ConfigurationError(
                f"epochs_per_stage of the callback 'gradual_unfreezing' is {epochs_per_stage}; "
                "expected at least 1"
            )
        self.epochs_per_stage = epochs_per_stage

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        return min(epoch // self.epochs_per_stage, num_stages)

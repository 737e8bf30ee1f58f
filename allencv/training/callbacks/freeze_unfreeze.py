from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback

from allencv.training.callbacks.fine_tuning import FineTuning


@TrainerCallback.register("freeze_unfreeze")
class FreezeUnfreeze(FineTuning):
    """
    Trains the head alone at first, and from an epoch on the whole network. The gradients of a head
    that has learnt nothing yet would spoil the pretrained backbone (Kumar et al. 2022,
    arXiv:2202.10054).

    Registered as a `TrainerCallback` with name "freeze_unfreeze".

    # Parameters

    unfreeze_epoch : `int`, required
        The first epoch, 1 or more, in which the backbone is trained too.
    train_bn
        See `FineTuning`.
    """

    def __init__(self, serialization_dir: str, unfreeze_epoch: int, train_bn: bool = False) -> None:
        super().__init__(serialization_dir, train_bn)
        if unfreeze_epoch < 1:
            raise ConfigurationError(
                f"unfreeze_epoch of the callback 'freeze_unfreeze' is {unfreeze_epoch}; expected "
                "at least 1, as the first epoch is 0"
            )
        self.unfreeze_epoch = unfreeze_epoch

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        return 0 if epoch < self.unfreeze_epoch else num_stages

from allennlp.training.learning_rate_schedulers import LearningRateScheduler

from allencv.training.learning_rate_schedulers.warmup_schedule import WarmupSchedule


@LearningRateScheduler.register("warmup_constant")
class WarmupConstant(WarmupSchedule):
    """
    The learning rate of the optimizer, after a linear warm-up.

    Registered as a `LearningRateScheduler` with name "warmup_constant".

    # Parameters

    Those of `WarmupSchedule`.
    """

    def after_warmup(self, update: int) -> float:
        return 1.0

from allencv.training.learning_rate_schedulers.one_cycle import OneCycle
from allencv.training.learning_rate_schedulers.reduce_on_plateau import (
    ReduceOnPlateauLearningRateScheduler,
)
from allencv.training.learning_rate_schedulers.schedule import Schedule
from allencv.training.learning_rate_schedulers.warmup_constant import WarmupConstant
from allencv.training.learning_rate_schedulers.warmup_cosine import WarmupCosine
from allencv.training.learning_rate_schedulers.warmup_multi_step import WarmupMultiStep
from allencv.training.learning_rate_schedulers.warmup_polynomial import WarmupPolynomial
from allencv.training.learning_rate_schedulers.warmup_schedule import WarmupSchedule
from allencv.training.learning_rate_schedulers.warmup_step import WarmupStep

__all__ = [
    "OneCycle",
    "ReduceOnPlateauLearningRateScheduler",
    "Schedule",
    "WarmupConstant",
    "WarmupCosine",
    "WarmupMultiStep",
    "WarmupPolynomial",
    "WarmupSchedule",
    "WarmupStep",
]

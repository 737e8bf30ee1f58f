from allencv.training.learning_rate_schedulers.one_cycle import OneCycle
from allencv.training.learning_rate_schedulers.reduce_on_plateau import (
    ReduceOnPlateauLearningRateScheduler,
)
from allencv.training.learning_rate_schedulers.schedule import Schedule
from allencv.training.learning_rate_schedulers.warmup_schedules import (
    WarmupConstant,
    WarmupCosine,
    WarmupMultiStep,
    WarmupPolynomial,
    WarmupSchedule,
    WarmupStep,
)

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

# First, so that its repairs are at work before anything is registered or loaded.
import allencv.common  # noqa: F401
from allencv.training import (
    callbacks,
    learning_rate_schedulers,
    metrics,
    moving_average,
    optimizers,
)
from allencv.training.checkpointer import AtomicCheckpointer
from allencv.training.distributed import ImageDdpAccelerator
from allencv.training.errors import TrainingError
from allencv.training.evaluation import ImageEvaluator, evaluate
from allencv.training.image_trainer import ImageTrainer
from allencv.training.train_model import TrainImageModel

__all__ = [
    "AtomicCheckpointer",
    "ImageDdpAccelerator",
    "ImageEvaluator",
    "ImageTrainer",
    "TrainImageModel",
    "TrainingError",
    "callbacks",
    "evaluate",
    "learning_rate_schedulers",
    "metrics",
    "moving_average",
    "optimizers",
]

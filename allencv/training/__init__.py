from allencv.training import callbacks, learning_rate_schedulers, metrics, moving_average
from allencv.training.checkpointer import AtomicCheckpointer
from allencv.training.image_trainer import ImageTrainer
from allencv.training.train_model import TrainImageModel

__all__ = [
    "AtomicCheckpointer",
    "ImageTrainer",
    "TrainImageModel",
    "callbacks",
    "learning_rate_schedulers",
    "metrics",
    "moving_average",
]

from allencv.training.callbacks.checkpoint_averaging import CheckpointAveraging
from allencv.training.callbacks.fine_tuning import (
    FineTuning,
    Freeze,
    FreezeUnfreeze,
    GradualUnfreezing,
    UnfreezeMilestones,
)
from allencv.training.callbacks.progressive_resizing import ProgressiveResizing
from allencv.training.callbacks.wandb import WandBCallback
from allencv.training.callbacks.weight_interpolation import WeightInterpolation
from allencv.training.callbacks.write_predictions import WritePredictions

__all__ = [
    "CheckpointAveraging",
    "FineTuning",
    "Freeze",
    "FreezeUnfreeze",
    "GradualUnfreezing",
    "ProgressiveResizing",
    "UnfreezeMilestones",
    "WandBCallback",
    "WeightInterpolation",
    "WritePredictions",
]

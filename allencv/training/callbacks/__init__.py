from allencv.training.callbacks.checkpoint_averaging import CheckpointAveraging
from allencv.training.callbacks.fine_tuning import FineTuning
from allencv.training.callbacks.freeze import Freeze
from allencv.training.callbacks.freeze_unfreeze import FreezeUnfreeze
from allencv.training.callbacks.gradual_unfreezing import GradualUnfreezing
from allencv.training.callbacks.progressive_resizing import ProgressiveResizing
from allencv.training.callbacks.unfreeze_milestones import UnfreezeMilestones
from allencv.training.callbacks.wandb import WandBCallback
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
    "WritePredictions",
]

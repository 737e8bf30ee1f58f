from allencv.training.callbacks.wandb import WandBCallback

__all__ = ["WandBCallback"]

from allencv.training.optimizers.torch_optimizer import OPTIMIZERS, TorchOptimizer

__all__ = ["OPTIMIZERS", "TorchOptimizer"]

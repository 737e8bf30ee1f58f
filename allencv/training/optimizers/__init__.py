from allencv.training.optimizers import muon_in_float32
from allencv.training.optimizers.multi_optimizer import MultiOptimizer
from allencv.training.optimizers.torch_optimizer import OPTIMIZERS, TorchOptimizer

__all__ = ["OPTIMIZERS", "MultiOptimizer", "TorchOptimizer", "muon_in_float32"]

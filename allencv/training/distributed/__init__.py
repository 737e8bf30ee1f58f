"""
Training in several processes, on one machine or more.

`launch` starts the ranks of this machine, as `torchrun` does too. Each is an `allencv train` that
finds its number in its environment (`ranks`) and trains its share (`train_rank`).
"""

from allencv.training.distributed.ddp_accelerator import ImageDdpAccelerator

__all__ = ["ImageDdpAccelerator"]

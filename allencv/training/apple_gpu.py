"""Train on the GPU of an Apple computer. AllenNLP knows only CPUs and CUDA."""

import torch
from allennlp.common.checks import ConfigurationError

EXPECTED = 'the number of a GPU, -1 for the CPU, or "mps" for the GPU of an Apple computer'


def apple_gpu(name: str) -> torch.device:
    """Return the device "mps". Raise `ConfigurationError` for other names, or if there is none."""
    if name != "mps":
        raise ConfigurationError(f"trainer.cuda_device is {name!r}; expected {EXPECTED}")
    if not torch.backends.mps.is_available():
        raise ConfigurationError('trainer.cuda_device is "mps", but torch finds no such GPU here')
    return torch.device("mps")

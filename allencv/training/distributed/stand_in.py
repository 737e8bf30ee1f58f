"""The batch of a rank that has no image while the other ranks train."""

import copy
from contextlib import contextmanager
from typing import Iterator

import torch
from allennlp.models import Model

from allencv.common.random_state import keep_random_state
from allencv.training.distributed.sync_batch_norm import is_synchronized, kept_apart
from allencv.training.metric_counts import restore_counts, save_counts
from allencv.training.protocols import StandsIn


@contextmanager
def without_effect(model: Model, device: torch.device) -> Iterator[None]:
    """
    Let the batch in the block change nothing but the gradients, which the caller multiplies with 0:
    no metrics, running statistics or random draws, and no statistics of the other ranks. So it does
    not matter which images are in the batch.
    """
    counts = copy.deepcopy(save_counts(model))
    buffers = [
        (buffer, buffer.clone())
        for module in model.modules()
        if not is_synchronized(module)
        for buffer in module.buffers(recurse=False)
    ]
    told = model if isinstance(model, StandsIn) else None
    if told is not None:
        told.stands_in = True
    gpus = [device] if device.type == "cuda" else []
    with keep_random_state(), torch.random.fork_rng(gpus), kept_apart(model):
        yield
    if told is not None:
        told.stands_in = False
    restore_counts(model, counts, device)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)

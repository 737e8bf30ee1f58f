import numpy as np
import torch
from numpy._core.multiarray import scalar


def add_safe_globals() -> None:
    """
    Lets `torch.load` read the numpy numbers that AllenNLP's checkpoints hold.

    AllenNLP's `cosine` schedule computes with `np.cos`
    (`training/learning_rate_schedulers/cosine.py`), so the optimizer's learning rate, and the
    checkpoint with it, hold an `np.float64`. Since torch 2.6 `torch.load` refuses every type that
    is not on its list, and `--recover` dies. A metric computed with numpy gets into the checkpoint
    the same way, as part of the best epoch's metrics.

    Only real number types are added: arrays, strings and objects stay refused.
    """
    dtypes = [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]
    torch.serialization.add_safe_globals([scalar, np.dtype, *dtypes])

import numpy as np
import torch
from numpy._core.multiarray import scalar


def add_safe_globals() -> None:
    """
    Let `torch.load` read the numpy numbers in AllenNLP's checkpoints.

    AllenNLP's `cosine` schedule computes with `np.cos`
    (`training/learning_rate_schedulers/cosine.py`), so the optimizer's learning rate, and with it
    the checkpoint, has an `np.float64`. Since torch 2.6, `torch.load` refuses every type that is
    not on its list, and `--recover` fails. Metrics computed with numpy get into the checkpoint the
    same way, in the best epoch's metrics.

    Only real number types are added: arrays, strings and objects are still refused.
    """
    dtypes = [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]
    torch.serialization.add_safe_globals([scalar, np.dtype, *dtypes])

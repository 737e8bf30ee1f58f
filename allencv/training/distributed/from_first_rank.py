from typing import Callable, List, Optional, TypeVar

import torch.distributed as dist
from allennlp.common.util import is_distributed

T = TypeVar("T")


def from_first_rank(make: Callable[[], T]) -> T:
    """
    Return what `make` returns on the first rank, which alone calls it: the machines of other ranks
    may lack the folder of the run. All ranks must call this.
    """
    if not is_distributed():
        return make()
    box: List[Optional[T]] = [make() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box)
    return box[0]  # type: ignore[return-value]

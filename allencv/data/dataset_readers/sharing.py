"""How the ranks of distributed training and the workers of AllenNLP's loader share what is read."""

from typing import Tuple

from allennlp.data import DatasetReader


def consumer(reader: DatasetReader) -> Tuple[int, int]:
    """The number of this process among those that AllenNLP has read, and how many these are."""
    ranks, workers = reader.get_distributed_info(), reader.get_worker_info()
    rank, world_size = (ranks.global_rank, ranks.world_size) if ranks else (0, 1)
    worker, num_workers = (workers.id, workers.num_workers) if workers else (0, 1)
    return rank + world_size * worker, world_size * num_workers

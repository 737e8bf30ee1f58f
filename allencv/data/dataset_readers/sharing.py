"""Divides samples among the ranks of distributed training and the workers of AllenNLP's loader."""

from typing import Tuple

from allennlp.data import DatasetReader


def consumer(reader: DatasetReader) -> Tuple[int, int]:
    """Return the number of this process among AllenNLP's readers, and their number."""
    ranks, workers = reader.get_distributed_info(), reader.get_worker_info()
    rank, world_size = (ranks.global_rank, ranks.world_size) if ranks else (0, 1)
    worker, num_workers = (workers.id, workers.num_workers) if workers else (0, 1)
    return rank + world_size * worker, world_size * num_workers

from dataclasses import dataclass
from typing import Tuple


@dataclass(frozen=True)
class BatchPlan:
    """
    Divides the images of an epoch among the batches, and each batch among the ranks of distributed
    training. Each image is in one batch of one rank, and all ranks have the same number of batches.

    Batch `k` of all ranks together is what one process would have with `world_size` times the
    batch size. Each rank takes a slice of it. The slices of the last batch are as long as each
    other, or one image shorter. A last batch that would leave a rank with less than two images (or
    `batch_size`, if that is 1) joins the batch before it.

    # Parameters

    images : `int`
        The number of images in an epoch.
    batch_size : `int`
        The number of images in a batch of one rank.
    world_size : `int`
        The number of ranks.
    drop_last : `bool`
        Whether to drop a last batch that is smaller than the others.
    """

    images: int
    batch_size: int
    world_size: int = 1
    drop_last: bool = False

    def __len__(self) -> int:
        """Return the number of batches in an epoch, the same on all ranks."""
        whole, rest = divmod(self.images, self.batch_size * self.world_size)
        is_joined = whole > 0 and rest < self.world_size * min(2, self.batch_size)
        return whole if self.drop_last or rest == 0 or is_joined else whole + 1

    def bounds(self, batch: int) -> Tuple[int, int]:
        """Return the place of the first image of a batch, and that after its last."""
        size = self.batch_size * self.world_size
        is_last = batch == len(self) - 1 and not self.drop_last
        return batch * size, self.images if is_last else (batch + 1) * size

    def share(self, batch: int, rank: int) -> range:
        """Return the places of a rank's images of a batch."""
        start, stop = self.bounds(batch)
        each, more = divmod(stop - start, self.world_size)
        first = start + rank * each + min(rank, more)
        return range(first, first + each + (rank < more))

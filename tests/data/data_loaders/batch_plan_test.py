import itertools
from typing import List

import pytest

from allencv.data.data_loaders.batch_plan import BatchPlan


def sizes(plan: BatchPlan) -> List[List[int]]:
    """The number of images of each rank in each batch."""
    ranks = range(plan.world_size)
    return [[len(plan.share(batch, rank)) for rank in ranks] for batch in range(len(plan))]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (BatchPlan(10, 4), [[4], [4], [2]]),
        (BatchPlan(9, 4), [[4], [5]]),
        (BatchPlan(3, 1), [[1], [1], [1]]),
        (BatchPlan(16, 4, 2), [[4, 4], [4, 4]]),
        (BatchPlan(21, 4, 2), [[4, 4], [4, 4], [3, 2]]),
        (BatchPlan(20, 4, 2), [[4, 4], [4, 4], [2, 2]]),
        (BatchPlan(19, 4, 2), [[4, 4], [6, 5]]),
        (BatchPlan(3, 1, 2), [[2, 1]]),
        (BatchPlan(3, 4, 2), [[2, 1]]),
        (BatchPlan(1, 4, 2), [[1, 0]]),
        (BatchPlan(21, 4, 2, drop_last=True), [[4, 4], [4, 4]]),
        (BatchPlan(7, 4, 2, drop_last=True), []),
    ],
)
def test_the_sizes_of_batches(plan: BatchPlan, expected: List[List[int]]) -> None:
    assert sizes(plan) == expected


@pytest.mark.parametrize("drop_last", [False, True])
def test_every_image_is_used_once_in_order(drop_last: bool) -> None:
    for images, size, ranks in itertools.product(range(1, 40), range(1, 6), range(1, 5)):
        plan = BatchPlan(images, size, ranks, drop_last)
        used = [
            place
            for batch in range(len(plan))
            for rank in range(ranks)
            for place in plan.share(batch, rank)
        ]
        total = images - images % (size * ranks) if drop_last else images
        assert used == list(range(total))
        assert all(max(row) - min(row) <= 1 for row in sizes(plan))
        assert images < ranks or all(min(row) > 0 for row in sizes(plan))

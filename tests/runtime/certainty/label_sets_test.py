import numpy as np
import pytest

from allencv.runtime.certainty import LabelSets
from allencv.runtime.certainty.label_sets import penalties, ranked, sums_before

ROW = np.array([[0.2, 0.5, 0.3]], np.float32)


def test_lac_takes_the_labels_that_are_probable_enough() -> None:
    sets = LabelSets("lac", [0.9, 0.5], [[0.7], [0.6]])
    assert sets.members(ROW, 0).tolist() == [[False, True, True]]  # from 0.3 on
    assert sets.members(ROW, 1).tolist() == [[False, True, False]]
    assert not sets.by_class


def test_limits_for_each_label() -> None:
    sets = LabelSets("missed", [0.9], [[0.85, 0.4, 0.71]])
    assert sets.members(ROW, 0).tolist() == [[True, False, True]]
    assert sets.by_class


@pytest.mark.parametrize(
    ("limit", "labels"), [(0.3, [1]), (0.49, [1]), (0.5, [1, 2]), (0.81, [0, 1, 2])]
)
def test_aps_takes_labels_until_their_sum_is_large_enough(limit: float, labels: list) -> None:
    (members,) = LabelSets("aps", [0.9], [[limit]]).members(ROW, 0)
    assert np.flatnonzero(members).tolist() == labels


def test_raps_adds_a_penalty_for_each_place_after_the_first_ones() -> None:
    # 0.5, 0.8 + 0.1, 1.0 + 0.2
    assert penalties(3, 0.1, 1).tolist() == pytest.approx([0, 0.1, 0.2])
    assert sums_before(ROW, 0.1, 1).tolist() == [pytest.approx([0.9, 0.0, 0.5])]
    (members,) = LabelSets("raps", [0.9], [[0.85]], 0.1, 1).members(ROW, 0)
    assert members.tolist() == [False, True, True]
    assert LabelSets("aps", [0.9], [[0.85]]).members(ROW, 0).all()


def test_ties_keep_the_order_of_the_labels() -> None:
    tied = np.array([[0.25, 0.5, 0.25]], np.float32)
    order, sums = ranked(tied)
    assert order.tolist() == [[1, 0, 2]]
    assert sums.tolist() == [[0.5, 0.75, 1.0]]
    assert sums_before(tied, 0, 0).tolist() == [[0.5, 0.0, 0.75]]

from typing import List, Optional

import numpy as np
import pytest

from allencv.exporting.decisions import Decision, compare_decisions, decisions_of
from allencv.runtime.certainty import Certainty, LabelSets, Selection, UnknownRule
from tests.runtime.certainty.certainties import certainty

FOUND = certainty(
    sets=LabelSets("lac", [0.9], [[0.65]]),
    selection=Selection(0.9, 0.95, 0.5, 0.75, 0.96),
    unknown=UnknownRule("max_probability", 0.5, 0.8),  # the scores range from -1 to 2
)


def decided(found: Certainty, row: List[float], thresholds: Optional[List[float]] = None) -> dict:
    (judgement,) = found.judge(np.array([row], np.float32), np.zeros((1, 3)), thresholds)
    decisions = decisions_of(found, judgement, thresholds)
    return {
        key: (each.outcome, pytest.approx(each.distance, 1e-4)) for key, each in decisions.items()
    }


def test_the_distance_of_each_decision_from_another_one() -> None:
    assert decided(FOUND, [0.6, 0.3, 0.1]) == {
        "label": (0, 0.15),
        "set of labels": ([True, False, False], 0.05),
        "is_unknown": (False, 0.1 / 3),
        "is_answered": (True, 0.1 / 3),
    }
    assert decided(FOUND, [0.45, 0.4, 0.15])["is_answered"] == (False, 0.05 / 3)
    assert decided(certainty(), [0.6, 0.3, 0.1]) == {"label": (0, 0.15)}


def test_labels_of_several() -> None:
    found = certainty(sets=LabelSets("missed", [0.9], [[0.75]]))
    assert decided(found, [0.6, 0.3, 0.1], [0.5, 0.5, 0.15]) == {
        "labels": ([True, False, False], 0.05),
        "set of labels": ([True, True, False], 0.05),
    }


def test_labels_of_a_set_may_change_places() -> None:
    found = certainty(sets=LabelSets("aps", [0.9], [[0.45]]))
    # The sums before the labels are 0, 0.4 and 0.71.
    assert decided(found, [0.4, 0.31, 0.29])["set of labels"] == ([True, True, False], 0.01)


def test_decisions_that_differ_are_counted() -> None:
    first = {"label": Decision(0, 0.2), "is_unknown": Decision(False, 0.01)}
    other = {"label": Decision(1, 0.1), "is_unknown": Decision(True, 0.02)}
    assert compare_decisions([first] * 4, [first] * 4) == (1.0, 0.0, "")
    assert compare_decisions([first, first], [first, other]) == (0.5, 0.2, "label")
    only = {**first, "is_unknown": Decision(True, 0.02)}
    assert compare_decisions([first, first], [first, only]) == (0.5, 0.01, "is_unknown")

from typing import List

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from allencv.runtime.certainty import LabelSets, Scaling, Selection, UnknownRule
from allencv.runtime.certainty.certainty import confidence
from tests.runtime.certainty.certainties import certainty, everything, rule

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.05, 0.05, 0.9]], np.float32)
VECTORS = np.array([[0.0, 0, 1], [1, 0, 0], [0, 5, 0]], np.float32)


def test_nothing_is_known_without_parts() -> None:
    for row, judgement in zip(PROBABILITIES, certainty().judge(PROBABILITIES, VECTORS)):
        assert judgement.probabilities.tolist() == row.tolist()
        assert judgement.members is None
        assert judgement.unknown_score == pytest.approx(1 - row.max())
        assert (judgement.is_unknown, judgement.is_answered) == (None, None)


def test_each_part_of_a_judgement() -> None:
    found = certainty(
        scaling=Scaling([2.0] * 3, [0.0] * 3),
        sets=LabelSets("lac", [0.9], [[0.75]]),
        selection=Selection(0.9, 0.95, 0.5, 0.75, 0.96),
        unknown=UnknownRule("max_probability", 0.5, 0.8),
    )
    first, second, third = found.judge(PROBABILITIES, VECTORS)
    calibrated = softmax(2 * np.log(PROBABILITIES), axis=1)
    given = np.stack([each.probabilities for each in (first, second, third)])
    np.testing.assert_allclose(given, calibrated, rtol=1e-6)
    # A label is in the set from a calibrated probability of 0.25 on.
    sets = [each.members.tolist() for each in (first, second, third) if each.members is not None]
    assert sets == (calibrated >= 0.25).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    # The score is that of the network's probabilities, not of the calibrated ones.
    scores = [each.unknown_score for each in (first, second, third)]
    assert scores == pytest.approx([0.3, 0.6, 0.1])
    assert [each.is_unknown for each in (first, second, third)] == [False, True, False]
    assert [each.is_answered for each in (first, second, third)] == [True, False, True]


@pytest.mark.parametrize(
    ("least", "limit", "answered"),
    [(0.0, 1.0, [1, 1, 1]), (0.5, 1.0, [1, 0, 1]), (0.0, 0.2, [0, 0, 1]), (0.8, 0.35, [0, 0, 1])],
)
def test_an_image_is_answered_if_it_is_known_and_its_confidence_is_high(
    least: float, limit: float, answered: List[int]
) -> None:
    found = certainty(
        selection=Selection(0.9, 0.95, least, 0.75, 0.96),
        unknown=UnknownRule("max_probability", limit, 0.8),
    )
    judged = found.judge(PROBABILITIES, VECTORS)
    assert [each.is_answered for each in judged] == answered


def test_without_a_target_accuracy_nothing_is_said_about_answers() -> None:
    """An image with two possible labels is no answer to rely on, although it is not unknown."""
    found = certainty(
        sets=LabelSets("lac", [0.9], [[0.7]]), unknown=UnknownRule("max_probability", 1.0, 0.8)
    )
    judged = found.judge(PROBABILITIES, VECTORS)
    assert judged[1].members is not None
    assert judged[1].members.sum() == 2
    assert [each.is_unknown for each in judged] == [False] * 3
    assert [each.is_answered for each in judged] == [None] * 3


def test_a_score_or_probability_that_is_no_number_is_not_answered() -> None:
    vectors = VECTORS.copy()
    vectors[0] = np.nan
    always = Selection(0.9, 0.95, 0.0, 0.75, 0.96)
    found = certainty(unknown=rule("nearest", limit=2.0), selection=always)
    first, second, _ = found.judge(PROBABILITIES, vectors)
    assert (first.is_unknown, first.is_answered) == (True, False)
    assert (second.is_unknown, second.is_answered) == (False, True)
    selection = certainty(selection=always)
    assert selection.judge(np.full((1, 3), np.nan), vectors)[0].is_answered is False


def test_several_labels() -> None:
    thresholds = [0.3, 0.5, 0.6]
    found = certainty(
        scaling=Scaling([2.0, 1.0, 0.5], [0.0, 1.0, -1.0]),
        sets=LabelSets("missed", [0.9], [[0.8]]),
        selection=Selection(0.9, 0.95, 0.6, 0.75, 0.96),
    )
    slopes, offsets = np.array([2.0, 1.0, 0.5]), np.array([0.0, 1.0, -1.0])
    calibrated = expit(slopes * logit(PROBABILITIES.astype(np.float64)) + offsets)
    own = found.calibrated_thresholds(thresholds)
    assert own == pytest.approx(expit(slopes * logit(np.array(thresholds)) + offsets), rel=1e-6)
    judged = found.judge(PROBABILITIES, VECTORS, own)
    for judgement, row, before in zip(judged, calibrated, PROBABILITIES):
        np.testing.assert_allclose(judgement.probabilities, row, rtol=1e-5)
        # Thresholds decide as before the calibration.
        assert (judgement.probabilities > own).tolist() == (before > thresholds).tolist()
        assert judgement.members is not None
        assert judgement.members.tolist() == (row >= 0.2).tolist()
        least = min(p if p > t else 1 - p for p, t in zip(row, own))
        assert judgement.is_answered == (least >= 0.6)
    assert found.calibrated_thresholds(None) is None


def test_the_confidence_of_several_labels_is_that_of_the_least_certain() -> None:
    given = np.array([[0.9, 0.2], [0.6, 0.45]])
    assert confidence(given, [0.5, 0.5]).tolist() == pytest.approx([0.8, 0.55])
    # Below its threshold, a label is not given.
    assert confidence(given, [0.95, 0.1]).tolist() == pytest.approx([0.1, 0.4])
    assert confidence(given, None).tolist() == [0.9, 0.6]


def test_vectors_are_needed_for_some_scores_alone() -> None:
    assert not certainty().needs_vectors
    assert not everything(kind="max_probability").needs_vectors
    assert everything(kind="energy").needs_vectors


def test_scores_are_comparable_with_the_known_ones() -> None:
    assert certainty().scores(PROBABILITIES, VECTORS, False) == pytest.approx([0.3, 0.6, 0.1])
    found = everything(kind="nearest")
    given = [each.unknown_score for each in found.judge(PROBABILITIES, VECTORS)]
    assert found.scores(PROBABILITIES, VECTORS, False).tolist() == given


@pytest.mark.parametrize("kind", ["max_probability", "energy", "mahalanobis", "nearest"])
@pytest.mark.parametrize("sets", ["lac", "aps", "raps"])
def test_an_image_is_judged_alike_alone_and_among_others(kind: str, sets: str) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 40).astype(np.float32)
    vectors = random.normal(size=(40, 3)).astype(np.float32)
    found = everything(kind=kind, sets=sets)
    for index, expected in enumerate(found.judge(probabilities, vectors)):
        (alone,) = found.judge(probabilities[index : index + 1], vectors[index : index + 1])
        assert alone.probabilities.tolist() == pytest.approx(expected.probabilities.tolist())
        assert np.array_equal(alone.members, expected.members)
        assert alone.unknown_score == pytest.approx(expected.unknown_score, rel=1e-4, abs=1e-4)

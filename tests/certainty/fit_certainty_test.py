import re
from typing import Any, List, Optional

import numpy as np
import pytest

from allencv.certainty.calibrations import PlattScaling, TemperatureScaling
from allencv.certainty.fit_certainty import (
    LabelledOutputs,
    Wanted,
    fit_certainty,
    right_answers,
)
from allencv.runtime.certainty import Certainty, UnknownRule
from allencv.runtime.errors import InputError
from tests.certainty.draws import Draws, drawn_answers, drawn_label_sets


def outputs(draws: Draws, size: int = 3) -> LabelledOutputs:
    count = len(draws.targets)
    vectors = np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)
    names = [f"{i}.jpg" for i in range(count)]
    return LabelledOutputs(names, draws.probabilities, vectors, draws.targets, {})


def fitted(
    known: LabelledOutputs,
    wanted: Wanted,
    thresholds: Optional[List[float]] = None,
    unknown: Optional[UnknownRule] = None,
) -> Certainty:
    return fit_certainty(known, wanted, thresholds, unknown, "pets", "float32", "abc", 0)


MAX = UnknownRule("max_probability", 0.0, 0.95)


def test_all_of_it() -> None:
    known = outputs(drawn_answers(3000, width=4.0))
    wanted = Wanted(levels=[0.9, 0.99], target_accuracy=0.97).for_model(False)
    found = fitted(known, wanted, unknown=MAX)
    assert (found.images, found.data, found.precision) == (3000, "pets", "float32")
    assert (found.model, found.overlap) == ("abc", 0)
    assert found.scaling is not None
    assert 1 / found.scaling.slopes[0] == pytest.approx(2, rel=0.1)
    assert found.sets is not None
    assert found.sets.levels == [0.9, 0.99]
    assert found.label_counts.sum() == 3000
    assert (np.diff(found.known_scores) >= 0).all()
    # Applying it gives what was fitted.
    judged = found.judge(known.probabilities, known.vectors)
    assert found.unknown is not None
    is_unknown = np.array([each.is_unknown for each in judged])
    assert is_unknown.mean() == pytest.approx(0.05, abs=0.001)
    assert found.selection is not None
    is_answered = np.array([each.is_answered for each in judged])
    assert is_answered.mean() == pytest.approx(found.selection.coverage)
    assert not (is_answered & is_unknown).any()
    is_right = known.probabilities.argmax(axis=1) == known.targets
    assert is_right[is_answered].mean() == pytest.approx(found.selection.accuracy)
    assert found.selection.accuracy >= 0.97


def test_several_labels() -> None:
    known = outputs(drawn_label_sets(2000))
    wanted = Wanted(levels=[0.9], target_accuracy=0.3).for_model(True)
    assert isinstance(wanted.calibration, PlattScaling)
    thresholds = [0.5] * 6
    found = fitted(known, wanted, thresholds, MAX)
    assert found.sets is not None
    assert found.sets.kind == "missed"
    decided = found.calibrated_thresholds(thresholds)
    assert decided is not None
    calibrated = found.calibrated(known.probabilities, True)
    # The calibration changes no label.
    assert ((calibrated > decided) == (known.probabilities > 0.5)).all()
    assert found.label_counts.tolist() == (known.probabilities > 0.5).sum(axis=0).tolist()
    judged = found.judge(known.probabilities, known.vectors, decided)
    assert found.selection is not None
    answered = np.mean([bool(each.is_answered) for each in judged])
    assert answered == pytest.approx(found.selection.coverage)


def test_only_what_is_wanted() -> None:
    known = outputs(drawn_answers(100))
    found = fitted(known, Wanted(default_calibration=False, sets=None).for_model(False))
    assert (found.scaling, found.sets, found.selection, found.unknown) == (None,) * 4
    (first, *_) = found.judge(known.probabilities, known.vectors)
    assert first.probabilities.tolist() == known.probabilities[0].tolist()
    assert (first.members, first.is_unknown, first.is_answered) == (None,) * 3
    assert first.unknown_score == pytest.approx(1 - known.probabilities[0].max())


def test_the_usual_calibration() -> None:
    assert isinstance(Wanted().for_model(False).calibration, TemperatureScaling)
    assert Wanted(default_calibration=False).for_model(True).calibration is None
    own = TemperatureScaling()
    assert Wanted(calibration=own).for_model(True).calibration is own


@pytest.mark.parametrize(
    ("images", "wanted", "unknown", "message"),
    [
        (0, {}, None, "'pets' has no image with a label that can be read; expected some"),
        (18, {}, None, r"levels \(--levels\) has 95%, and 18 images.*at least 19 images"),
        (98, {"levels": [0.9, 0.99]}, None, "levels.*has 99%, and 98 images.*at least 99"),
        (23, {"sets": "raps"}, None, "has 95%, and 23 images"),
        (18, {"sets": None}, MAX, r"known_share \(--known-share\) is 95%, and 18.*at least 19"),
        (298, {"target_accuracy": 0.99}, None, r"target_accuracy .*298 images.*at least 299"),
        (1000, {"target_accuracy": 0.999999}, None, "are too few to show it"),
    ],
)
def test_too_few_images_are_refused(
    images: int, wanted: Any, unknown: Optional[UnknownRule], message: str
) -> None:
    known = outputs(drawn_answers(images))
    with pytest.raises(InputError, match=message):
        fitted(known, Wanted(**wanted).for_model(False), unknown=unknown)


def test_a_target_that_no_answers_reach_is_refused() -> None:
    draws = drawn_answers(1000)
    wrong = draws._replace(targets=(draws.targets + 5) % 10)
    with pytest.raises(InputError, match=r"is 90%, but the 1000 images do not show it. .*lower"):
        fitted(outputs(wrong), Wanted(target_accuracy=0.9).for_model(False))


def test_what_the_images_show_is_told_with_a_target_that_they_do_not_show() -> None:
    known = outputs(drawn_answers(1000, width=4.0))
    with pytest.raises(InputError, match="expected about") as refused:
        fitted(known, Wanted(target_accuracy=0.98).for_model(False))
    told = re.search(r"show at most (\S+)%, for (\d+)% of them", str(refused.value))
    assert told is not None
    shown = fitted(known, Wanted(target_accuracy=float(told[1]) / 100).for_model(False)).selection
    assert shown is not None
    assert round(100 * shown.coverage) == int(told[2])
    with pytest.raises(InputError, match="do not show it"):
        fitted(known, Wanted(target_accuracy=float(told[1]) / 100 + 0.001).for_model(False))
    # The number of images is about right: with twice as many it is shown.
    needed = int(re.search(r"about (\d+) images", str(refused.value))[1])  # type: ignore[index]
    assert needed > 1000
    more = outputs(drawn_answers(2 * needed, width=4.0))
    assert fitted(more, Wanted(target_accuracy=0.98).for_model(False)).selection is not None


def test_few_images_of_a_label_are_enough_by_class() -> None:
    known = outputs(drawn_answers(100))
    found = fitted(known, Wanted(by_class=True).for_model(False))
    assert found.sets is not None
    assert len(found.sets.limits[0]) == 10


def test_all_labels_of_an_image_must_be_right() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.9]], np.float32)
    targets = np.array([[True, False], [True, False]])
    assert right_answers(probabilities, targets, [0.5, 0.5]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        (Wanted(sets="aps"), r"sets \(--sets\) is 'aps', which needs one label an image"),
        (Wanted(by_class=True), r"by_class \(--by-class\) needs one label an image"),
    ],
)
def test_what_needs_one_label_is_refused_for_several(wanted: Wanted, match: str) -> None:
    wanted.for_model(False)
    with pytest.raises(InputError, match=match):
        wanted.for_model(True)


def test_a_score_that_is_not_finite_is_refused() -> None:
    known = outputs(drawn_answers(30))
    known.vectors[3] = np.inf
    labels = known.probabilities.shape[1]
    rule = UnknownRule(
        "energy", 0.0, 0.9, {"weight": np.ones((labels, 3)), "bias": np.zeros(labels)}
    )
    with pytest.raises(InputError, match="the unknown score of 1 of 30 images is not finite"):
        fitted(known, Wanted(levels=[0.5]), unknown=rule)

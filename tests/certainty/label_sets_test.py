from typing import Optional, Tuple

import numpy as np
import pytest
from scipy.stats import binom

from allencv.certainty.label_sets import (
    EVERY_LABEL,
    conformal_quantile,
    fit_label_sets,
    fit_missed_labels,
    label_scores,
)
from allencv.runtime.certainty import LabelSets
from tests.certainty.draws import Draws, drawn_answers, drawn_label_sets

KINDS = ("lac", "aps", "raps")


def band(share: float, draws: int) -> Tuple[float, float]:
    """Return the shares between which all but one of 10,000 draws lie."""
    low, high = binom.ppf([5e-5, 1 - 5e-5], draws, share)
    return low / draws, high / draws


def covered(sets: LabelSets, place: int, draws: Draws) -> np.ndarray:
    members = sets.members(draws.probabilities, place)
    return members[np.arange(len(members)), draws.targets]


@pytest.mark.parametrize("kind", KINDS)
def test_sets_hold_the_right_label_as_often_as_asked_for(kind: str) -> None:
    """
    Over many draws of calibration and test images. The mean over calibrations is at least the level
    and, as scores have no ties, at most 1 / (n + 1) above it.
    """
    levels = [0.8, 0.9, 0.95, 0.99]
    images, repeats = 400, 60
    found = []
    for seed in range(repeats):
        known = drawn_answers(images, seed=2 * seed)
        sets = fit_label_sets(known.probabilities, known.targets, levels, kind)
        new = drawn_answers(500, seed=2 * seed + 1)
        found.append([covered(sets, place, new).mean() for place in range(len(levels))])
    spread = np.std(found, axis=0) / np.sqrt(repeats)
    mean = np.mean(found, axis=0)
    assert (mean >= levels - 4 * spread).all()
    if kind == "lac":  # the others take whole labels, and so more
        assert (mean <= np.array(levels) + 1 / images + 4 * spread).all()


@pytest.mark.parametrize("kind", KINDS)
def test_by_class_the_levels_hold_for_each_label(kind: str) -> None:
    known, new = drawn_answers(10_000, labels=4, seed=0), drawn_answers(10_000, labels=4, seed=1)
    # One label is much more difficult: only sets of its own hold it often enough.
    for draws in (known, new):
        draws.probabilities[:, 0] *= 0.01
        draws.probabilities[:] /= draws.probabilities.sum(axis=1, keepdims=True)
    together = fit_label_sets(known.probabilities, known.targets, [0.9], kind)
    by_class = fit_label_sets(known.probabilities, known.targets, [0.9], kind, by_class=True)
    assert (together.by_class, by_class.by_class) == (False, True)
    assert covered(together, 0, new)[new.targets == 0].mean() < 0.8
    for label in range(4):
        own = new.targets == label
        # Both the calibration and the test images vary.
        low, high = band(0.9, int(own.sum()) // 2)
        assert low <= covered(by_class, 0, new)[own].mean()
        if kind == "lac":
            assert covered(by_class, 0, new)[own].mean() <= high


def test_a_label_with_few_images_is_in_every_set_by_class() -> None:
    draws = drawn_answers(300, labels=3)
    targets = np.where(draws.targets == 2, 1, draws.targets)
    targets[:18] = 2  # 0.95 / 0.05 = 19 are needed
    sets = fit_label_sets(draws.probabilities, targets, [0.95], by_class=True)
    assert sets.limits[0][2] == EVERY_LABEL
    assert sets.members(draws.probabilities, 0)[:, 2].all()
    targets[18] = 2
    sets = fit_label_sets(draws.probabilities, targets, [0.95], by_class=True)
    assert sets.limits[0][2] < 1


class Given:
    """A classifier of scikit-learn whose inputs are the probabilities."""

    def __init__(self, labels: int) -> None:
        self.classes_ = np.arange(labels)

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Given":
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(axis=1)

    def __sklearn_is_fitted__(self) -> bool:
        return True


def sets_of_mapie(
    kind: str, known: Draws, new: Draws, levels: "list[float]", score: Optional[object] = None
) -> np.ndarray:
    """Return the sets `(images, labels, levels)` of MAPIE, of deterministic size."""
    classification = pytest.importorskip("mapie.classification")
    theirs = classification.SplitConformalClassifier(
        Given(known.probabilities.shape[1]),
        confidence_level=levels,
        conformity_score=score or kind,
        random_state=0,
    )
    theirs.conformalize(known.probabilities.astype(np.float64), known.targets)
    return theirs.predict_set(new.probabilities.astype(np.float64), {"include_last_label": True})[1]


@pytest.mark.parametrize("kind", ["lac", "aps"])
@pytest.mark.parametrize("images", [150, 999])
def test_sets_are_those_of_mapie(kind: str, images: int) -> None:
    levels = [0.8, 0.9, 0.95, 0.99]
    known, new = drawn_answers(images, seed=0), drawn_answers(1000, seed=1)
    expected = sets_of_mapie(kind, known, new, levels)
    sets = fit_label_sets(known.probabilities, known.targets, levels, kind)
    for place in range(len(levels)):
        members = sets.members(new.probabilities, place)
        theirs = expected[:, :, place]
        if kind == "lac":  # theirs may be empty
            theirs[np.arange(len(theirs)), new.probabilities.argmax(axis=1)] = True
        assert (members == theirs).all()


def test_raps_is_that_of_mapie_with_its_penalty() -> None:
    conformity_scores = pytest.importorskip("mapie.conformity_scores")
    # Theirs takes labels that are 1e-8 less probable than the last, so there are none such here.
    known, new = (drawn_answers(2000, 20, seed, width=1.0) for seed in range(2))
    score = conformity_scores.RAPSConformityScore(size_raps=0.2)
    expected = sets_of_mapie("raps", known, new, [0.9], score)[:, :, 0]
    # The images that theirs did not use to choose the penalty, in their order.
    selection = pytest.importorskip("sklearn.model_selection")
    split = selection.StratifiedShuffleSplit(1, test_size=len(score.X_raps), random_state=0)
    own, _ = next(split.split(known.probabilities, known.targets))
    free_ranks, penalty = int(score.k_star[0]), float(score.lambda_star)
    assert penalty > 0
    scores = label_scores(known.probabilities[own], known.targets[own], "raps", penalty, free_ranks)
    limit = conformal_quantile(scores, 0.9)
    sets = LabelSets("raps", [0.9], [[limit]], penalty, free_ranks)
    assert (sets.members(new.probabilities, 0) == expected).all()


def test_the_quantile_is_a_score_with_the_level_at_or_below() -> None:
    scores = np.arange(1.0, 20.0)  # 19 of them
    assert conformal_quantile(scores, 0.95) == 19
    assert conformal_quantile(scores[:18], 0.95) == EVERY_LABEL
    assert conformal_quantile(scores, 0.5) == 10
    assert conformal_quantile(scores[:0], 0.5) == EVERY_LABEL


@pytest.mark.parametrize("kind", KINDS)
def test_saturated_probabilities_keep_the_promise(kind: str) -> None:
    """A network that is certain and wrong: the sums of the other labels round to 1."""
    probabilities = np.zeros((200, 5), np.float32)
    probabilities[:, 0] = 1
    probabilities[:, 1:] = 1e-30
    targets = np.zeros(200, int)
    targets[:40] = 4
    sets = fit_label_sets(probabilities, targets, [0.9], kind)
    members = sets.members(probabilities, 0)
    assert members[np.arange(200), targets].mean() >= 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_has_the_most_probable_label(kind: str) -> None:
    known = drawn_answers(500, temperature=1.0)
    sets = fit_label_sets(known.probabilities, known.targets, [0.3], kind)
    members = sets.members(known.probabilities, 0)
    assert members[np.arange(500), known.probabilities.argmax(axis=1)].all()
    assert members.sum(axis=1).max() > 1 or kind == "lac"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [1, 2, 1000])
def test_any_number_of_labels(kind: str, labels: int) -> None:
    known = drawn_answers(100, labels=labels)
    sets = fit_label_sets(known.probabilities, known.targets, [0.9], kind)
    assert covered(sets, 0, known).mean() >= 0.9


def missed(sets: LabelSets, place: int, draws: Draws) -> np.ndarray:
    """Return the share of the labels of each image that its set lacks."""
    lacking = (draws.targets & ~sets.members(draws.probabilities, place)).sum(axis=1)
    return lacking / np.maximum(draws.targets.sum(axis=1), 1)


def test_few_labels_are_missed_on_average() -> None:
    levels = [0.8, 0.95]
    found = []
    for seed in range(80):
        known, new = drawn_label_sets(200, seed=2 * seed), drawn_label_sets(500, seed=2 * seed + 1)
        sets = fit_missed_labels(known.probabilities, known.targets, levels)
        found.append([missed(sets, place, new).mean() for place in range(2)])
    mean, spread = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(80)
    assert (mean <= [0.2, 0.05] + 4 * spread).all()
    assert (mean >= [0.2 - 2 / 200, 0.05 - 2 / 200] - 4 * spread).all()


@pytest.mark.parametrize("level", [0.7, 0.9, 0.97])
def test_the_limit_of_missed_labels_is_that_of_mapie_on_its_grid(level: float) -> None:
    risk_control = pytest.importorskip("mapie.risk_control")
    draws = drawn_label_sets(100)
    has_any = draws.targets.any(axis=1)  # theirs counts an image without labels as one that misses
    probabilities, targets = draws.probabilities[has_any], draws.targets[has_any]
    grid = np.linspace(0, 1, 201)
    theirs = risk_control.MultiLabelClassificationController(
        lambda given: given, risk="recall", method="crc", target_level=level, predict_params=grid
    )
    theirs.calibrate(probabilities.astype(np.float64), targets.astype(int))
    lowest = float(theirs.best_predict_param[0])
    limit = fit_missed_labels(probabilities, targets, [level]).limits[0][0]
    # A label is taken above their number, and from ours on.
    assert lowest <= 1 - limit <= lowest + 2 / 200


def test_the_limit_of_missed_labels_by_hand() -> None:
    probabilities = np.array([[0.9, 0.6], [0.8, 0.1], [0.7, 0.2], [0.1, 0.1]], np.float32)
    targets = np.array([[True, True], [True, False], [False, True], [False, False]])
    # (missed + 1) / 5 is to be at most 1 - level: with 0.6, one image's labels may be missed.
    (limit,) = fit_missed_labels(probabilities, targets, [0.6]).limits[0]
    # Without 0.2 one is missed. Without 0.6 too, one and a half.
    assert 1 - limit == pytest.approx(0.6)
    (limit,) = fit_missed_labels(probabilities, targets, [0.8]).limits[0]
    assert 1 - limit == pytest.approx(0.2)
    assert fit_missed_labels(probabilities, targets, [0.9]).limits == [[EVERY_LABEL]]
    assert fit_missed_labels(probabilities, targets, [0.2]).limits == [[0.0]]


def test_images_without_labels_miss_none() -> None:
    probabilities = np.full((30, 2), 0.5, np.float32)
    sets = fit_missed_labels(probabilities, np.zeros((30, 2), bool), [0.9])
    assert not sets.members(probabilities, 0).any()

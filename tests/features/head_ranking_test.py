from typing import Dict

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from allencv.common.wilson_interval import wilson_interval
from allencv.features import head_ranking
from allencv.features.head_ranking import (
    draw_by_class,
    macro_average_precision,
    rank_heads,
    score_interval,
)
from allencv.features.heads import LinearHead
from allencv.runtime.errors import InputError
from tests.features.clusters import clusters


def two_backbones(each: int, seed: int) -> Dict[str, np.ndarray]:
    """Vectors of a good network, and of one that sees little."""
    return {
        "blind": clusters(classes=3, each=each, dim=10, apart=0.1, seed=seed)[0],
        "good": clusters(classes=3, each=each, dim=10, apart=2, seed=seed)[0],
    }


def test_ranking() -> None:
    labels, truth = np.repeat(range(3), 20), np.repeat(range(3), 50)
    train, validation = two_backbones(20, seed=0), two_backbones(50, seed=1)
    ranking = rank_heads(train, labels, validation, truth, 3)
    assert len({(each.backbone, each.head.kind) for each in ranking}) == len(ranking) == 6
    assert [each.backbone for each in ranking] == ["good"] * 3 + ["blind"] * 3
    assert [each.score for each in ranking] == sorted(
        (each.score for each in ranking), reverse=True
    )
    for each in ranking:
        given = each.head.scores(validation[each.backbone]).argmax(1)
        assert each.score == (given == truth).mean()
        assert each.low < each.score <= each.high
        assert each.seconds > 0
        assert (each.images, each.dropped) == (60, None)


def test_losers_are_dropped_after_the_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_ranking, "FIRST_ROUND", 30)
    labels, truth = np.repeat(range(3), 40), np.repeat(range(3), 50)
    train, validation = two_backbones(40, seed=0), two_backbones(50, seed=1)
    ranking = rank_heads(train, labels, validation, truth, 3)
    assert len(ranking) == 6
    finished = [each for each in ranking if each.dropped is None]
    assert ranking[: len(finished)] == finished
    assert {each.backbone for each in finished} == {"good"}
    assert {each.images for each in finished} == {120}
    for each in ranking[len(finished) :]:
        assert each.images == 30
        assert each.dropped is not None
        assert "with 30 images, where the best has" in each.dropped


def test_the_best_linear_head_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the nearest neighbours are far better, as for copies of training images."""
    monkeypatch.setattr(head_ranking, "FIRST_ROUND", 100)
    vectors = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    labels = (vectors[:, 0] * vectors[:, 1] > 0).astype(int)  # no line divides these
    ranking = rank_heads({"net": vectors}, labels, {"net": vectors}, labels, 2)
    finished = [each for each in ranking if each.dropped is None]
    assert finished[0].head.kind == "k_nearest_neighbours"
    assert len(finished) == 2
    assert isinstance(finished[1].head, LinearHead)
    assert finished[1].high < finished[0].score


def test_validation_images_without_any_label() -> None:
    vectors, groups = clusters(classes=2, each=10, dim=12)
    labels = np.stack([groups == 0, groups == 1], axis=1).astype(int)
    with pytest.raises(InputError, match="no validation image has a label"):
        rank_heads({"net": vectors}, labels, {"net": vectors}, 0 * labels, 2)


def test_the_best_is_fitted_even_without_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_ranking, "FIRST_ROUND", 30)
    labels, truth = np.repeat(range(3), 40), np.repeat(range(3), 50)
    ranking = rank_heads(
        two_backbones(40, seed=0), labels, two_backbones(50, seed=1), truth, 3, seconds=0
    )
    assert [each.images for each in ranking] == [120] + [30] * 5
    assert ranking[0].backbone == "good"
    assert ranking[0].dropped is None
    assert "no time was left" in [each.dropped for each in ranking[1:]]


def test_several_labels() -> None:
    vectors, groups = clusters(classes=4, each=10, dim=12)
    labels = np.stack([groups == 0, groups >= 2, groups % 2 == 1], axis=1).astype(int)
    (best,) = rank_heads({"net": vectors}, labels, {"net": vectors}, labels, 3)
    scores = best.head.scores(vectors)
    assert best.head.kind == "logistic_regression"
    assert best.score == pytest.approx(average_precision_score(labels, scores, average="macro"))
    assert best.low <= best.score <= best.high


def test_average_precision_leaves_out_labels_without_images() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.random((30, 3)), random.integers(0, 2, (30, 3))
    labels[:, 1] = 0
    expected = average_precision_score(labels[:, [0, 2]], scores[:, [0, 2]], average="macro")
    assert macro_average_precision(scores, labels) == pytest.approx(expected)
    assert np.isnan(macro_average_precision(scores, 0 * labels))


def test_interval_is_wilsons() -> None:
    scores, labels = np.eye(2)[[0, 0, 1, 1]], np.array([0, 1, 1, 1])
    assert score_interval(scores, labels) == (0.75, *wilson_interval(3, 4))


def test_interval_of_average_precision_gets_narrower() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (1000, 2))
    scores = labels + random.normal(0, 1, (1000, 2))
    widths = []
    for size in (50, 1000):
        value, low, high = score_interval(scores[:size], labels[:size])
        assert low < value < high
        widths.append(high - low)
    assert 3 < widths[0] / widths[1] < 7  # the square root of 20


def test_draws_keep_the_shares_of_classes() -> None:
    labels = np.repeat([0, 1, 2], [80, 8, 1])
    rows = draw_by_class(labels, 1 / 8, seed=0)
    assert np.bincount(labels[rows]).tolist() == [10, 1, 1]
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() != draw_by_class(labels, 1 / 8, seed=1).tolist()
    assert draw_by_class(labels, 1, seed=0).tolist() == list(range(89))
    assert len(draw_by_class(np.zeros((20, 3), int), 0.25, seed=0)) == 5


def test_bad_inputs() -> None:
    vectors, labels = clusters(classes=3, each=5, dim=4)
    with pytest.raises(InputError, match="of a for training and of b for validation; expected the"):
        rank_heads({"a": vectors}, labels, {"b": vectors}, labels, 3)
    with pytest.raises(InputError, match="of no backbone for training"):
        rank_heads({}, labels, {}, labels, 3)
    with pytest.raises(InputError, match="there are 15 labels for 14 vectors"):
        rank_heads({"a": vectors}, labels, {"a": vectors[1:]}, labels, 3)
    with pytest.raises(InputError, match="class 3 has no image"):
        rank_heads({"a": vectors}, labels, {"a": vectors}, labels, 4)

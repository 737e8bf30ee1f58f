from typing import List

import numpy as np
import pytest

from allencv.features.forecast import (
    Backtest,
    CurvePoint,
    Forecast,
    backtest,
    class_gains,
    forecast,
    learning_curve,
)
from allencv.features.heads import fit_head
from allencv.runtime.errors import InputError
from tests.features.clusters import clusters

SIZES = (50, 100, 200, 400)


def points_of(errors: List[float], images: int = 1000, draws: int = 5) -> List[CurvePoint]:
    """Points with these errors; the image with the highest number is the first to be right."""
    return [
        CurvePoint(size, np.tile(np.arange(images) >= round(error * images), (draws, 1)))
        for size, error in zip(SIZES, errors)
    ]


def test_learning_curve() -> None:
    vectors, labels = clusters(classes=3, each=40, dim=20, apart=0.5)
    validation, truth = clusters(classes=3, each=40, dim=20, apart=0.5, seed=1)
    points = learning_curve(vectors, labels, validation, truth, 3, draws=4)
    assert [point.images for point in points] == [15, 30, 60, 120]
    assert [point.right.shape for point in points] == [(4, 120)] * 3 + [(1, 120)]
    head = fit_head("logistic_regression", vectors, labels, 3)
    expected = (head.scores(validation).argmax(1) == truth).mean()
    assert points[-1].accuracy == expected
    assert points[0].accuracy < expected


def test_forecast_follows_a_power_law() -> None:
    """0.05 + 0.1 (n / 400) ** -0.5, whose next value is 0.1207."""
    errors = [0.05 + 0.1 * (size / 400) ** -0.5 for size in SIZES]
    found = forecast(points_of(errors), classes=4)
    assert found is not None
    assert found.images == 800
    assert found.accuracy == pytest.approx(1 - 0.1207, abs=0.001)
    assert found.low <= 1 - 0.1207 <= found.high
    assert found.high - found.low < 0.05


def test_flat_curve_stays_flat() -> None:
    found = forecast(points_of([0.2] * 4), classes=4)
    assert found is not None
    assert found.accuracy == pytest.approx(0.8, abs=0.002)
    assert found.high - found.low < 0.01


def test_perfect_accuracy_stays() -> None:
    found = forecast(points_of([0.0] * 4), classes=4)
    assert found is not None
    assert (found.accuracy, found.low, found.high) == pytest.approx((1, 1, 1), abs=1e-6)


def test_draws_that_differ_widen_the_interval() -> None:
    points = points_of([0.3, 0.2, 0.15, 0.12])
    points[-1].right = points[-1].right[:1]
    same = forecast(points, classes=4)
    for point in points[:-1]:
        point.right = np.stack([np.roll(each, draw) for draw, each in enumerate(point.right)])
        point.right[0, :500] = True
    differing = forecast(points, classes=4)
    assert same is not None
    assert differing is not None
    assert differing.high - differing.low > 2 * (same.high - same.low)


def test_few_images_have_no_forecast() -> None:
    errors = [0.3, 0.2, 0.15, 0.12]
    assert forecast(points_of(errors), classes=25) is not None
    assert forecast(points_of(errors), classes=26) is None  # under 16 per class
    assert forecast(points_of(errors, images=50), classes=4) is not None
    assert forecast(points_of(errors, images=49), classes=4) is None


def test_class_that_gains_most() -> None:
    labels = np.repeat([0, 1, 3], 100)
    points = points_of([0.0] * 4, images=300)
    for wrong, point in zip((80, 60, 40, 20), points):
        point.right[:, :wrong] = False  # 20 % more of class 0 with each doubling
        point.right[:, 100 : 100 + wrong // 2] = False
    found = class_gains(points, labels, 4)
    np.testing.assert_allclose(found.gains, [0.2, 0.1, np.nan, 0], atol=1e-12)
    assert found.most == 0


def test_no_class_gains_where_nothing_changes() -> None:
    found = class_gains(points_of([0.2] * 4), np.arange(1000) % 3, 3)
    np.testing.assert_allclose(found.gains, 0, atol=1e-12)
    assert found.most is None


def test_backtest_on_clusters() -> None:
    vectors, labels = clusters(classes=2, each=100, dim=8, apart=0.3)
    found = backtest(vectors, labels, 2, splits=3)
    assert len(found.forecasts) == len(found.truths) == 3
    assert {each.images for each in found.forecasts} == {140}
    assert len(set(found.truths)) > 1
    assert found.share_inside >= 2 / 3
    assert 0 < found.mean_width < 0.4


def test_share_of_a_backtest() -> None:
    forecasts = [Forecast(10, 0.8, 0.7, 0.9), Forecast(10, 0.8, 0.75, 0.85)]
    found = Backtest(forecasts, [0.9, 0.9])
    assert found.share_inside == 0.5
    assert found.mean_width == pytest.approx(0.15)


def test_backtest_with_few_images() -> None:
    vectors, labels = clusters(classes=2, each=10, dim=4)
    assert np.isnan(backtest(vectors, labels, 2, splits=2).share_inside)


def test_bad_inputs() -> None:
    vectors, labels = clusters(classes=3, each=5, dim=4)
    with pytest.raises(InputError, match="class 3 has no image"):
        learning_curve(vectors, labels, vectors, labels, 4)
    with pytest.raises(InputError, match="vector 0 contains NaN"):
        learning_curve(vectors, labels, vectors * np.nan, labels, 3)
    with pytest.raises(InputError, match="class 2 has 1 image; expected 2 or more of each"):
        backtest(vectors[:11], labels[:11], 3)

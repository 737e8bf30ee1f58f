from dataclasses import replace
from threading import Event, Thread
from typing import Any, List

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import chi2_contingency, hypergeom, ks_2samp

from allencv.runtime.certainty import Certainty
from allencv.serving import drift
from allencv.serving.drift import (
    DriftWatch,
    approximate_p_value,
    distances,
    fisher_p_value,
    grouped,
    permutation_p_value,
)

LABELS = 4


def certainty(seed: int = 0, images: int = 500) -> Certainty:
    random = np.random.default_rng(seed)
    return Certainty(
        images,
        "data",
        "float32",
        "",
        known_scores=np.sort(random.normal(size=images)).astype(np.float32),
        label_counts=np.bincount(random.integers(LABELS, size=images), minlength=LABELS),
    )


def feed(watch: DriftWatch, windows: int, seed: int, shift: float = 0.0) -> None:
    random = np.random.default_rng(seed)
    for _ in range(windows * watch.window):
        watch.add(float(random.normal() + shift), [int(random.integers(LABELS))])


def test_a_window_is_counted_and_compared() -> None:
    watch = DriftWatch(certainty(), window=3)
    watch.add(-9.0, [0])
    watch.add(9.0, [0])
    assert (watch.windows, watch.pending, watch.last) == (0, 2, {})
    assert watch.counts()["labels"][1] == [0] * LABELS
    watch.add(float("nan"), [])
    assert (watch.windows, watch.pending) == (1, 0)
    assert watch.counts()["labels"][1] == [2, 0, 0, 0]
    scores = watch.counts()["scores"][1]
    assert scores[0] == 1
    assert sum(scores) == 3
    assert set(watch.last) == {(1, "scores"), (1, "labels")}


def test_several_windows_are_compared_together() -> None:
    watch = DriftWatch(certainty(), window=5)
    feed(watch, 17, seed=1)
    assert {span for span, _ in watch.last} == {1, 4, 16}
    assert sum(watch.counts()["scores"][1]) == 16 * 5


def test_a_shift_raises_an_alarm() -> None:
    watch = DriftWatch(certainty(), window=100)
    feed(watch, 4, seed=2)
    assert not watch.is_alarm
    assert watch.alarms == 0
    feed(watch, 1, seed=3, shift=1.5)
    assert watch.is_alarm
    assert watch.last[1, "scores"].is_alarm
    assert not watch.last[1, "labels"].is_alarm
    feed(watch, 3, seed=4)
    assert not watch.last[1, "scores"].is_alarm


def test_other_shares_of_labels_raise_an_alarm() -> None:
    watch = DriftWatch(certainty(), window=100)
    random = np.random.default_rng(0)
    for _ in range(100):
        watch.add(float(random.normal()), [0])
    assert watch.last[1, "labels"].is_alarm
    assert not watch.last[1, "scores"].is_alarm


def test_false_alarms_are_as_rare_as_stated() -> None:
    watches = [DriftWatch(certainty(seed, 200), window=20) for seed in range(10)]
    for seed, watch in enumerate(watches):
        feed(watch, 60, seed=1000 + seed)
    # 0.6 are expected of 600 windows; 5 or more have a probability below 1 in 1,000.
    assert sum(watch.alarms for watch in watches) < 5


def test_distances_are_those_of_scipy() -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(0, 9, 60), random.integers(2, 9, 40)
    counts = [np.bincount(each, minlength=9) for each in (first, second)]
    (given,) = distances("scores", counts[0][None], counts[1][None])
    assert given == pytest.approx(ks_2samp(first, second).statistic)


@pytest.mark.parametrize("of", ["scores", "labels"])
def test_the_exact_test_is_uniform_for_the_same_images(of: str) -> None:
    random = np.random.default_rng(0)
    shares = np.full(8, 1 / 8)
    values = [
        permutation_p_value(
            of, random.multinomial(80, shares), random.multinomial(40, shares), random, draws=199
        )
        for _ in range(300)
    ]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(values) <= level) <= level + 3 * np.sqrt(level * (1 - level) / 300)


@pytest.mark.parametrize("of", ["scores", "labels"])
def test_the_quick_test_leaves_no_alarm_out(of: str) -> None:
    """Where the exact p-value is small, the approximate one is below its limit."""
    random = np.random.default_rng(1)
    shares, shifted = np.full(6, 1 / 6), np.array([0.3, 0.2, 0.15, 0.15, 0.1, 0.1])
    small = 0
    for _ in range(200):
        expected = random.multinomial(300, shares)
        given = random.multinomial(150, shares if random.random() < 0.5 else shifted)
        exact = permutation_p_value(of, expected, given, random, draws=2000)
        if exact <= 0.001:
            small += 1
            assert approximate_p_value(of, expected, given) <= drift.SUSPICIOUS
    assert small > 10


def test_the_quick_test_of_labels_is_near_to_chi_square() -> None:
    expected, given = np.array([100, 80, 120, 0]), np.array([60, 20, 40, 0])
    exact = chi2_contingency(np.stack([expected, given])[:, :3]).pvalue
    assert approximate_p_value("labels", expected, given) == pytest.approx(exact, abs=0.02)


def test_images_without_labels() -> None:
    watch = DriftWatch(certainty(), window=2)
    for _ in range(2):
        watch.add(0.0, [])
    assert set(watch.last) == {(1, "scores")}
    assert 0 < watch.last[1, "scores"].p_value <= 1


def test_the_exact_test_ends_early_if_the_p_value_is_not_small() -> None:
    """With the p-value that all divisions give, up to chance."""
    expected, given = np.array([60, 70, 70]), np.array([30, 40, 30])
    early = [
        permutation_p_value("labels", expected, given, np.random.default_rng(seed))
        for seed in range(50)
    ]
    random = np.random.default_rng(0)
    drawn = random.multivariate_hypergeometric(expected + given, 100, size=20_000)
    observed = distances("labels", expected[None], given[None])
    exact = (distances("labels", expected + given - drawn, drawn) >= observed - 1e-12).mean()
    assert np.mean(early) == pytest.approx(exact, abs=0.1)
    assert all((20 / p) == pytest.approx(round(20 / p)) for p in early)


def test_the_least_frequent_of_many_labels_are_compared_together() -> None:
    expected, given = np.full(100, 10), np.zeros(100, int)
    given[-1] = 500
    few, counts = grouped(expected, given)
    assert (len(few), len(counts)) == (64, 64)
    assert (few.sum(), counts.sum()) == (1000, 500)
    assert (few[0], counts[0]) == (10, 500)
    assert few[-1] == 37 * 10
    assert (grouped(expected[:64], given[:64])[0] == expected[:64]).all()


def test_the_others_count_while_a_window_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = DriftWatch(certainty(), window=5)
    begun, may_end = Event(), Event()

    def compare(span: int) -> List[Any]:
        begun.set()
        may_end.wait(10)
        return []

    monkeypatch.setattr(watch, "_compare", compare)
    thread = Thread(target=feed, args=(watch, 1, 1))
    thread.start()
    assert begun.wait(10)
    watch.add(0.0, [0])
    assert (watch.windows, watch.pending) == (1, 1)
    may_end.set()
    thread.join()


def test_several_threads_count_every_image() -> None:
    watch = DriftWatch(certainty(), window=10)
    threads = [Thread(target=feed, args=(watch, 5, seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (watch.windows, watch.pending) == (20, 0)
    assert sum(watch.counts()["scores"][1]) == 16 * 10


def images_with_labels(random: np.random.Generator, count: int) -> np.ndarray:
    """Half of the images have most of labels 0 to 4, the others most of labels 5 to 9."""
    has_label = random.random((count, 10)) < 0.9
    return has_label & (random.integers(2, size=count)[:, None] == np.arange(10) // 5)


def test_labels_that_go_together_raise_no_false_alarms() -> None:
    alarms = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        counts = images_with_labels(random, 500).sum(axis=0)
        watch = DriftWatch(replace(certainty(seed), label_counts=counts), True, window=50)
        for row in images_with_labels(random, 50 * 48):
            watch.add(float(random.normal()), np.flatnonzero(row).tolist())
        alarms += watch.alarms
    assert alarms < 5  # of 480 windows


def test_other_shares_of_several_labels_raise_an_alarm() -> None:
    random = np.random.default_rng(0)
    counts = images_with_labels(random, 500).sum(axis=0)
    watch = DriftWatch(replace(certainty(), label_counts=counts), True, window=100)
    for row in images_with_labels(random, 100):
        row[3] = False
        watch.add(float(random.normal()), np.flatnonzero(row).tolist())
    found = watch.last[1, "labels"]
    assert found.is_alarm
    assert found.distance == pytest.approx(counts[3] / 500)


@pytest.mark.parametrize(
    ("expected", "given", "images", "given_images"),
    [
        (3, 9, 20, 30),
        (0, 7, 40, 25),
        (500, 0, 1000, 4),
        (5, 5, 5, 5),
        (0, 0, 3, 3),
        (9, 90, 90, 99),
    ],
)
def test_a_label_is_compared_by_the_exact_test(
    expected: int, given: int, images: int, given_images: int
) -> None:
    logarithms = gammaln(np.arange(images + given_images + 1) + 1)
    drawn = hypergeom(images + given_images, expected + given, given_images)
    sides = drawn.cdf(given), drawn.sf(given - 1)
    found = fisher_p_value(expected, given, images, given_images, logarithms)
    assert found == pytest.approx(min(1, 2 * min(sides)))

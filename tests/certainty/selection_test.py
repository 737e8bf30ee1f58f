import math
from typing import Callable, List, Tuple

import numpy as np
import pytest
from scipy.stats import binomtest

from allencv.certainty.selection import (
    fewest_images,
    fit_selection,
    highest_selection,
    images_needed,
    risk_and_coverage,
    starts,
    tried,
)


def drawn(
    images: int, seed: int, error: Callable[[np.ndarray], np.ndarray]
) -> Tuple[np.ndarray, np.ndarray]:
    """Draw a confidence for each image, and whether its answer is right."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(size=images)
    return confidence, random.uniform(size=images) >= error(confidence)


def steep(confidence: np.ndarray) -> np.ndarray:
    """Errors with a mean of 10 %. The answers above c have 0.1 (1 - c)^3 of errors."""
    return 0.4 * (1 - confidence) ** 3


def flat(confidence: np.ndarray) -> np.ndarray:
    """Confidence says nothing; all answers together just miss a target of 0.95."""
    return np.full(len(confidence), 0.051)


def tried_by_hand(is_right: np.ndarray, target: float, counts: List[int], share: float) -> int:
    """The fallback procedure, with a share of the allowed error at each of the first images."""
    allowed, best, begins = 0.0, 0, starts(len(is_right), target, 0.95)
    for count in counts:
        allowed += share * (count in begins)
        wrong = int((~is_right[:count]).sum())
        chance = sum(
            math.comb(count, k) * (1 - target) ** k * target ** (count - k)
            for k in range(wrong + 1)
        )
        best, allowed = (count, allowed) if 0 < allowed >= chance else (best, 0.0)
    return best


@pytest.mark.parametrize("seed", range(12))
def test_the_fallback_procedure_by_hand(seed: int) -> None:
    confidence, is_right = drawn(400, seed, lambda c: 0.2 * (1 - c) + 0.01)
    order = np.argsort(-confidence)
    begins = starts(400, 0.95, 0.95)
    counts = sorted({*begins, *tried(begins[0], 400)})
    best = tried_by_hand(is_right[order], 0.95, counts, 0.05 / len(begins))
    found = fit_selection(confidence, is_right, 0.95)
    assert (0 if found is None else round(found.coverage * 400)) == best


def test_each_start_can_pass_with_its_number_of_wrong_answers() -> None:
    begins = starts(2000, 0.95, 0.95)
    assert begins.pop() == 2000
    for wrong, count in zip((0, 2, 8, 32), begins, strict=True):
        assert binomtest(wrong, count, 0.05, "less").pvalue <= 0.05 / 5
        assert binomtest(wrong, count - 1, 0.05, "less").pvalue > 0.05 / 5
    assert starts(58, 0.95, 0.95) == []
    assert starts(59, 0.95, 0.95) == [59]
    assert starts(0, 0.95, 0.95) == []


@pytest.mark.parametrize("images", [200, 500])
def test_wrong_answers_everywhere_do_not_hide_that_most_are_right(images: int) -> None:
    """2 % of all answers are wrong, also of the most confident, and the target is 95 %."""
    found = [
        fit_selection(*drawn(images, seed, lambda c: np.full(len(c), 0.02)), 0.95)
        for seed in range(100)
    ]
    assert np.mean([each is not None for each in found]) > (0.4 if images == 200 else 0.7)


def test_the_highest_target_that_is_shown() -> None:
    given = drawn(2000, 0, steep)
    best = highest_selection(*given, below=0.999)
    assert best is not None
    assert fit_selection(*given, best.target_accuracy) == best
    assert fit_selection(*given, best.target_accuracy + 0.001) is None
    assert highest_selection(*given, below=best.target_accuracy) != best
    assert highest_selection(given[0], np.zeros(2000, bool), below=0.9) is None


def test_how_many_images_are_needed() -> None:
    """With 3 % of wrong answers 99 % is never shown, and 96 % with enough images."""
    confidence = np.linspace(0, 1, 400)
    is_right = np.arange(400) % 100 < 97
    assert images_needed(confidence, is_right[::-1], 0.98) is not None  # the first 97 are right
    is_right = np.arange(400) % 33 > 0
    assert images_needed(confidence, is_right, 0.99) is None
    needed = images_needed(confidence, is_right, 0.96)
    assert needed is not None

    def shown(images: int) -> float:
        given = (drawn(images, seed, lambda c: np.full(len(c), 13 / 400)) for seed in range(20))
        return float(np.mean([fit_selection(*each, 0.96) is not None for each in given]))

    assert shown(needed // 4) < 0.5
    assert shown(3 * needed) > 0.8


@pytest.mark.parametrize("images", [300, 2000])
def test_the_target_is_reached_as_often_as_stated(images: int) -> None:
    target, failed, coverage = 0.97, 0, []
    for seed in range(150):
        found = fit_selection(*drawn(images, seed, steep), target)
        if found is not None:
            failed += 0.1 * (1 - found.least_confidence) ** 3 > 1 - target
        coverage.append(0.0 if found is None else 1 - found.least_confidence)
    assert failed / 150 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    best = 0.3 ** (1 / 3)  # 67 % of the images
    assert np.mean(coverage) > (0.18 if images == 300 else 0.54)
    assert np.mean(coverage) < best


def test_a_confidence_that_says_nothing_is_not_trusted() -> None:
    """Here each of the many thresholds is wrong, so one may only rarely pass."""
    found = [fit_selection(*drawn(1000, seed, flat), 0.95) for seed in range(300)]
    assert sum(each is not None for each in found) / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_all_images_are_answered_if_they_are_right() -> None:
    found = fit_selection(np.linspace(0.1, 1, 2000), np.ones(2000, bool), 0.99)
    assert found is not None
    assert (found.coverage, found.accuracy) == (1.0, 1.0)
    assert found.least_confidence == pytest.approx(0.1)


def test_few_mistakes_of_the_most_confident_do_not_end_the_search() -> None:
    """One wrong label in the data would otherwise leave all images unanswered."""
    is_right = np.ones(10_000, bool)
    is_right[-3:] = False
    is_right[:1500] = False
    found = fit_selection(np.linspace(0, 1, 10_000), is_right, 0.99)
    assert found is not None
    assert found.coverage > 0.8


def test_too_few_images_show_nothing() -> None:
    fewest = fewest_images(0.99)
    images = np.linspace(0.5, 1, fewest)
    assert fit_selection(images, np.ones(fewest, bool), 0.99) is not None
    assert fit_selection(images[1:], np.ones(fewest - 1, bool), 0.99) is None
    assert fit_selection(images, np.zeros(fewest, bool), 0.99) is None


def test_images_of_one_confidence_are_answered_together() -> None:
    """Half of the images are equally confident. Some of them cannot be chosen."""
    confidence = np.repeat([0.9, 0.5], 1000)
    is_right = np.ones(2000, bool)
    is_right[1000:1500] = False
    found = fit_selection(confidence, is_right, 0.95)
    assert found is not None
    assert (found.least_confidence, found.coverage, found.accuracy) == (0.9, 0.5, 1.0)
    is_right[:1000:8] = False
    assert fit_selection(confidence, is_right, 0.95) is None


def test_images_below_0_are_never_answered() -> None:
    confidence = np.linspace(0.5, 1, 1000)
    confidence[:400] = -1
    found = fit_selection(confidence, np.ones(1000, bool), 0.95)
    assert found is not None
    assert found.coverage == 0.6
    assert fit_selection(np.full(1000, -1.0), np.ones(1000, bool), 0.95) is None


def test_risk_and_coverage_by_hand() -> None:
    coverage, risk = risk_and_coverage(
        np.array([0.3, 0.9, 0.6, 0.8]), np.array([False, True, False, True])
    )
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 0, 1 / 3, 0.5])

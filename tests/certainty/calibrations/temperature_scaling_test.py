import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from allencv.certainty.calibrations import Calibration, TemperatureScaling
from tests.certainty.draws import drawn_answers, drawn_label_sets


class Given(ClassifierMixin, BaseEstimator):
    """A classifier of scikit-learn whose inputs are the logits."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Given":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[X.argmax(axis=1)]


def test_it_finds_the_temperature() -> None:
    draws = drawn_answers(20_000, temperature=2.5)
    scaling = TemperatureScaling().fit(draws.probabilities, draws.targets)
    assert 1 / scaling.slopes[0] == pytest.approx(2.5, rel=0.03)
    assert np.abs(scaling(draws.probabilities, False) - draws.true).max() < 0.01


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_it_is_the_temperature_of_scikit_learn(temperature: float) -> None:
    draws = drawn_answers(1000, temperature=temperature)
    logits = np.log(draws.probabilities.astype(np.float64))
    given = Given().fit(logits, draws.targets)
    theirs = CalibratedClassifierCV(FrozenEstimator(given), method="temperature")
    theirs.fit(logits, draws.targets)
    ours = TemperatureScaling().fit(draws.probabilities, draws.targets)
    calibrated = ours(draws.probabilities, False)
    assert calibrated == pytest.approx(theirs.predict_proba(logits), abs=1e-4)
    assert (calibrated.argmax(axis=1) == draws.probabilities.argmax(axis=1)).all()


def test_isotonic_regression_of_scikit_learn_changes_little_afterwards() -> None:
    """It makes the confidence that of the answers, whatever their relation is."""
    draws = drawn_answers(20_000)
    is_right = draws.probabilities.argmax(axis=1) == draws.targets

    def moved(probabilities: np.ndarray) -> float:
        confidence = probabilities.max(axis=1).astype(np.float64)
        found = IsotonicRegression().fit_transform(confidence, is_right)
        return float(np.abs(found - confidence).mean())

    scaling = TemperatureScaling().fit(draws.probabilities, draws.targets)
    assert moved(draws.probabilities) > 0.05
    assert moved(scaling(draws.probabilities, False)) < 0.02


def test_several_labels_have_one_temperature_too() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 3)) * 2
    targets = random.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits))
    too_sure = (1 / (1 + np.exp(-3 * logits))).astype(np.float32)
    scaling = TemperatureScaling().fit(too_sure, targets)
    assert 1 / scaling.slopes[0] == pytest.approx(3, rel=0.03)
    assert len({*scaling.slopes}) == 1
    assert scaling.offsets == [0.0] * 3


def test_without_a_mistake_the_probabilities_stay() -> None:
    """No finite temperature is the most likely: each answer would be called certain."""
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6]], np.float32)
    scaling = TemperatureScaling().fit(probabilities, np.array([0, 1]))
    assert scaling.slopes == [1.0, 1.0]
    sets = np.array([[True, False], [False, True]])
    assert TemperatureScaling().fit(probabilities, sets).slopes == [1.0, 1.0]


def test_probabilities_of_0_and_1_stay_finite() -> None:
    probabilities = np.array([[1, 0, 0], [0, 1, 0], [0, 0.5, 0.5], [1, 0, 0]], np.float32)
    scaling = TemperatureScaling().fit(probabilities, np.array([0, 1, 2, 1]))
    calibrated = scaling(probabilities, False)
    assert np.isfinite(calibrated).all()
    assert calibrated.sum(axis=1) == pytest.approx(np.ones(4))
    # One mistake in four, of which the network was certain: it may not be so afterwards.
    assert calibrated[0, 0] == pytest.approx(0.7, abs=0.1)


def test_one_label() -> None:
    probabilities = np.ones((5, 1), np.float32)
    scaling = TemperatureScaling().fit(probabilities, np.zeros(5, int))
    assert scaling(probabilities, False).tolist() == [[1.0]] * 5


def test_it_is_registered() -> None:
    assert Calibration.by_name("temperature") is TemperatureScaling


def test_too_few_mistakes_do_not_break_the_search() -> None:
    draws = drawn_label_sets(50)
    slopes = TemperatureScaling().fit(draws.probabilities, draws.targets).slopes
    assert 0.01 <= slopes[0] <= 100

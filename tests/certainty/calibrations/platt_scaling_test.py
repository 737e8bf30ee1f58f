import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression

from allencv.certainty.calibrations import Calibration, PlattScaling
from tests.certainty.draws import drawn_answers, drawn_label_sets


def test_each_label_is_that_of_scikit_learn() -> None:
    draws = drawn_label_sets(800)
    p = draws.probabilities.astype(np.float64)
    logits = np.log(p) - np.log1p(-p)
    scaling = PlattScaling().fit(draws.probabilities, draws.targets)
    calibrated = scaling(draws.probabilities, True)
    for label in range(p.shape[1]):
        theirs = _SigmoidCalibration().fit(logits[:, label], draws.targets[:, label])
        expected = theirs.predict(logits[:, label])
        assert calibrated[:, label] == pytest.approx(expected, abs=2e-3)
        # The same loss, which theirs need not have met exactly.
        assert scaling.slopes[label] == pytest.approx(-theirs.a_, rel=0.02)
        assert scaling.offsets[label] == pytest.approx(-theirs.b_, abs=0.02)


def test_isotonic_regression_of_scikit_learn_changes_little_afterwards() -> None:
    """It makes the probabilities those of the labels, whatever their relation is."""
    draws = drawn_label_sets(20_000)

    def moved(probabilities: np.ndarray) -> "list[float]":
        columns = probabilities.T.astype(np.float64)
        found = [
            IsotonicRegression().fit_transform(*each) for each in zip(columns, draws.targets.T)
        ]
        return np.abs(np.array(found) - columns).mean(axis=1).tolist()

    scaling = PlattScaling().fit(draws.probabilities, draws.targets)
    assert min(moved(draws.probabilities)[1:]) > 0.05  # the first label has a slope of 1
    assert max(moved(scaling(draws.probabilities, True))) < 0.02


def test_it_finds_the_slopes_and_offsets() -> None:
    draws = drawn_label_sets(50_000)
    scaling = PlattScaling().fit(draws.probabilities, draws.targets)
    assert 1 / np.array(scaling.slopes) == pytest.approx(np.linspace(1, 3, 6), rel=0.05)
    assert np.abs(scaling(draws.probabilities, True) - draws.true).max() < 0.02


def test_the_order_of_images_stays() -> None:
    """Even if the label has the less probable images."""
    probabilities = np.linspace(0.1, 0.9, 50, dtype=np.float32)[:, None]
    scaling = PlattScaling().fit(probabilities, probabilities < 0.5)
    assert (np.diff(scaling(probabilities, True)[:, 0]) > 0).all()


def test_a_label_of_all_or_no_images_stays_as_it_is() -> None:
    probabilities = np.array([[0.2, 0.9], [0.4, 0.3]], np.float32)
    targets = np.array([[False, True], [False, True]])
    scaling = PlattScaling().fit(probabilities, targets)
    assert scaling(probabilities, True) == pytest.approx(probabilities)


def test_separated_labels_stay_below_certainty() -> None:
    probabilities = np.array([[0.1], [0.2], [0.8], [0.9]], np.float32)
    scaling = PlattScaling().fit(probabilities, probabilities > 0.5)
    assert scaling(probabilities, True).max() < 0.9


def test_one_label_an_image_is_refused() -> None:
    draws = drawn_answers(20)
    with pytest.raises(ConfigurationError, match="'platt'.*expected 'temperature'"):
        Calibration.by_name("platt")().fit(draws.probabilities, draws.targets)

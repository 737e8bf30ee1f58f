import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    log_loss,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from allencv.certainty.reliability import calibration_error
from allencv.common.wilson_interval import wilson_interval
from allencv.reporting.scores import (
    RESAMPLES,
    calibration,
    confusions,
    count_resamples,
    label_scores,
    summary_scores,
)
from tests.reporting.predictions_data import several, single


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_scores() -> None:
    predictions = single()
    found = {score.name: score.value for score in summary_scores(predictions)}
    targets, given = predictions.targets, predictions.given
    labels = range(12)
    expected = {
        "accuracy": accuracy_score(targets, given),
        "balanced accuracy": balanced_accuracy_score(targets, given),
        "macro F1": f1_score(targets, given, labels=np.unique(targets), average="macro"),
        "log loss": log_loss(targets, predictions.probs, labels=labels),
        "top-5 accuracy": top_k_accuracy_score(targets, predictions.probs, k=5, labels=labels),
    }
    assert found == pytest.approx(expected, abs=1e-5)
    few = single(labels=4)
    assert "top-5 accuracy" not in {score.name for score in summary_scores(few)}


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_scores_of_several_labels() -> None:
    predictions = several()
    targets, given = predictions.targets, predictions.given
    there = targets[:, :3]
    expected = {
        "mAP": average_precision_score(there, predictions.probs[:, :3], average="macro"),
        "macro F1": f1_score(there, given[:, :3], average="macro"),
        "micro F1": f1_score(targets, given, average="micro"),
        "images without a mistake": accuracy_score(targets, given),
    }
    found = {score.name: score.value for score in summary_scores(predictions)}
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["accuracy", "top-5 accuracy"])
def test_intervals_of_shares_are_wilsons(name: str) -> None:
    (score,) = (each for each in summary_scores(single(images=400)) if each.name == name)
    right = round(400 * score.value)
    assert right == 400 * score.value
    assert (score.low, score.high) == wilson_interval(right, 400)


def test_intervals_of_the_bootstrap() -> None:
    """Those of the mean log loss are near the normal approximation, and the same each time."""
    predictions = single(images=400)
    (score,) = (each for each in summary_scores(predictions) if each.name == "log loss")
    assert score in summary_scores(predictions)
    losses = -np.log(predictions.probs[np.arange(400), predictions.targets])
    deviation = losses.std() / 400**0.5
    assert score.low == pytest.approx(score.value - 1.96 * deviation, rel=0.03)
    assert score.high == pytest.approx(score.value + 1.96 * deviation, rel=0.03)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_intervals_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """95 of 100 intervals hold the score of very many images; 88 of 100 by mere chance."""
    monkeypatch.setattr("allencv.reporting.scores.RESAMPLES", 200)  # enough for 50 intervals
    many = single(labels=3, images=100_000)
    truth = balanced_accuracy_score(many.targets, many.given)
    intervals = [summary_scores(single(3, 150, seed))[1] for seed in range(1, 51)]
    covered = sum(score.low <= truth <= score.high for score in intervals)
    assert covered >= 44


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_intervals_of_the_average_precision() -> None:
    """Scikit-learn's, over samples of its own."""
    predictions = several()
    random = np.random.default_rng(1)
    values = []
    for _ in range(300):
        chosen = random.integers(0, 150, 150)
        there = predictions.targets[chosen]
        present = there.any(0)
        values.append(
            average_precision_score(
                there[:, present], predictions.probs[chosen][:, present], average="macro"
            )
        )
    score = summary_scores(predictions)[0]
    assert [score.low, score.high] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.03)


def test_a_single_image() -> None:
    accuracy, balanced, *_ = summary_scores(single(images=1))
    assert (accuracy.low, accuracy.high) == wilson_interval(int(accuracy.value), 1)
    assert balanced.low == balanced.value == balanced.high


def test_fewer_samples_of_more_images() -> None:
    assert count_resamples(single()) == RESAMPLES
    large = several(images=2)
    large.targets = np.broadcast_to(False, (1_000_000, 1000))
    assert count_resamples(large) == 100


def test_rows_of_labels() -> None:
    predictions = single()
    report = classification_report(
        predictions.targets,
        predictions.given,
        labels=range(12),
        target_names=predictions.labels,
        output_dict=True,
        zero_division=0,
    )
    scores = label_scores(predictions)
    assert [each.label for each in scores] == predictions.labels
    for each in scores:
        found = [each.precision, each.recall, each.f1, each.images]
        assert found == pytest.approx(list(report[each.label].values()))
    assert scores[-1].images == 0


def test_rows_of_several_labels() -> None:
    predictions = several()
    report = classification_report(
        predictions.targets,
        predictions.given,
        target_names=predictions.labels,
        output_dict=True,
        zero_division=0,
    )
    for index, each in enumerate(label_scores(predictions)):
        assert each.f1 == pytest.approx(report[each.label]["f1-score"])
        assert each.threshold == pytest.approx([0.5, 0.3, 0.2, 0.5][index])
        there, probs = predictions.targets[:, index], predictions.probs[:, index]
        expected = average_precision_score(there, probs) if there.any() else 0
        assert each.average_precision == pytest.approx(expected)


def test_confusions() -> None:
    predictions = single()
    found = confusions(predictions)
    assert found.shape == (12, 12)
    expected = confusion_matrix(predictions.targets, predictions.given, labels=range(12))
    assert np.array_equal(found, expected)
    assert found[11].sum() == 0


def test_calibration() -> None:
    predictions = single(labels=4, images=500)
    expected = multiclass_calibration_error(
        torch.from_numpy(predictions.probs),
        torch.from_numpy(predictions.targets),
        num_classes=4,
        n_bins=10,
    )
    bins = calibration(predictions)
    assert calibration_error(bins) == pytest.approx(float(expected), abs=1e-5)
    assert sum(each.count for each in bins) == 500
    assert all(each.lower <= each.confidence <= each.upper for each in bins)
    assert min(each.lower for each in bins) >= 0.2  # the largest of four is never below .25


def test_calibration_of_several_labels() -> None:
    predictions = several()
    expected = binary_calibration_error(
        torch.from_numpy(predictions.probs).flatten(),
        torch.from_numpy(predictions.targets).flatten().long(),
        n_bins=10,
    )
    # Torchmetrics puts what lies on the edge of a bin into the next one.
    predictions.probs += np.float32(1e-5)
    assert calibration_error(calibration(predictions)) == pytest.approx(float(expected), abs=1e-3)


def test_a_probability_that_is_not_a_number_has_no_order() -> None:
    predictions = several()
    predictions.probs[0, 0] = np.nan
    first, *others = label_scores(predictions)
    assert np.isnan(first.average_precision)
    assert np.isfinite([each.average_precision for each in others]).all()

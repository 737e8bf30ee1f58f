import numpy as np
import pytest

from allencv.certainty.reliability import calibration_error
from allencv.predictions.predictions_file import Picture, Predictions
from allencv.reporting.scores import calibration, label_scores, summary_scores
from allencv.reporting.split_findings import (
    MOST_LISTED,
    ConfusedPair,
    ImageFinding,
    split_findings,
)
from tests.reporting.predictions_data import several, single

PROBS = [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.1, 0.4], [0.1, 0.1, 0.8]]


@pytest.fixture
def predictions() -> Predictions:
    """Two images are taken for an eel, of which one is a cat and one a dog."""
    names = [f"{number}.jpg" for number in range(4)]
    return Predictions(
        ["eel", "cat", "dog"], names, np.array(PROBS, dtype=np.float32), np.array([1, 1, 2, 2])
    )


def test_numbers_are_those_of_the_scores() -> None:
    for predictions in (single(), several()):
        found = split_findings("test", predictions)
        assert found.scores == summary_scores(predictions)
        assert found.bins == calibration(predictions)
        assert found.calibration_error == calibration_error(found.bins)
        assert [each.f1 for each in found.labels] == sorted(
            each.f1 for each in label_scores(predictions)
        )
        wrong = (predictions.given != predictions.targets).sum()
        assert found.mistakes.count == wrong
        assert found.decisions == predictions.targets.size


def test_the_confusion_matrix_is_in_alphabetical_order(predictions: Predictions) -> None:
    found = split_findings("test", predictions)
    assert found.confusion_labels == ["cat", "dog", "eel"]
    assert found.confusion.tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]
    assert found.confused_pairs == [
        ConfusedPair("cat", "eel", 1, 0.5),
        ConfusedPair("dog", "eel", 1, 0.5),
    ]


def test_confused_pairs_begin_with_the_most_images() -> None:
    predictions = single()
    pairs = split_findings("test", predictions).confused_pairs
    assert len(pairs) == 20
    counts = [pair.images for pair in pairs]
    assert counts == sorted(counts, reverse=True)
    for pair in pairs:
        true = predictions.labels.index(pair.true_label)
        given = predictions.given[predictions.targets == true]
        is_confused = given == predictions.labels.index(pair.predicted_label)
        assert pair.images == is_confused.sum()
        assert pair.fraction == pytest.approx(is_confused.mean())


def test_images_of_one_label(predictions: Predictions) -> None:
    picture = Picture(b"a picture", np.ones((2, 2)))
    predictions.pictures[0, 0] = picture
    found = split_findings("test", predictions)
    wrong, second_wrong = found.mistakes.images
    assert wrong.picture is picture
    assert found.mistakes.pictured == [wrong]
    assert found.has_maps
    assert (wrong.name, wrong.label, wrong.is_true, wrong.other_label) == (
        "0.jpg",
        "eel",
        False,
        "cat",
    )
    assert [wrong.probability, wrong.other_probability] == pytest.approx([0.7, 0.2])
    assert second_wrong.name == "2.jpg"
    # The label of a hit is compared with the second most probable.
    hit = found.close_hits.images[0]
    assert (hit.name, hit.label, hit.is_true, hit.other_label) == ("1.jpg", "cat", True, "eel")
    assert hit.other_probability == pytest.approx(0.3)


def test_images_of_several_labels() -> None:
    predictions = several()
    found = split_findings("test", predictions)
    assert found.confusion_labels == found.confused_pairs == []
    for each in found.mistakes.images:
        image, label = int(each.name), predictions.labels.index(each.label)
        assert each.threshold == pytest.approx([0.5, 0.3, 0.2, 0.5][label])
        assert each.is_true == predictions.targets[image, label]
        assert each.is_predicted == predictions.given[image, label]
        assert each.is_predicted != each.is_true
    assert all(each.is_predicted and each.is_true for each in found.close_hits.images)


def test_long_lists_are_cut_but_keep_all_pictures() -> None:
    predictions = single(images=1000)
    predictions.targets = (predictions.given + 1) % 12
    mistakes = split_findings("test", predictions).mistakes
    assert (mistakes.count, len(mistakes.images), mistakes.pictured) == (1000, MOST_LISTED, [])
    images = np.argsort(-predictions.probs.max(1), kind="stable")[: MOST_LISTED + 5].tolist()
    predictions.pictures = {(i, int(predictions.given[i])): Picture(b"") for i in images}
    mistakes = split_findings("test", predictions).mistakes
    assert [each.name for each in mistakes.pictured] == [str(image) for image in images]


@pytest.mark.filterwarnings("ignore:A single label was found")
def test_a_single_label() -> None:
    probs = np.ones((2, 1), dtype=np.float32)
    found = split_findings("test", Predictions(["cat"], ["a", "b"], probs, np.array([0, 0])))
    assert found.mistakes.count == 0
    assert found.close_hits.images == [
        ImageFinding("a", "cat", 1.0, True, None, "cat", 1.0),
        ImageFinding("b", "cat", 1.0, True, None, "cat", 1.0),
    ]

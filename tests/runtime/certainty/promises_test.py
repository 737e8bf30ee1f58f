from dataclasses import replace

from allencv.runtime.certainty import LabelSets, Selection
from allencv.runtime.certainty.promises import percent, promises_of
from tests.runtime.certainty.certainties import certainty, everything


def test_each_part_has_its_sentence() -> None:
    said = promises_of(everything())
    assert [sentence.split(":")[0] for sentence in said] == [
        "Probabilities are calibrated",
        "Set of labels",
        "Unknown",
        "Answered",
        "These promises are for images like those of the calibration, which had 5 labelled images.",
    ]
    assert said[1] == "Set of labels: for 90% of the images, the right label is in it."
    assert (
        "the score 'energy'. Of images like the training images, 20% are called unknown too."
        in said[2]
    )
    assert said[3].startswith("Answered: 90% of the answered images have the right label.")
    assert (
        "This is 95% certain. Let a person look at the others. In the calibration these were 25% "
        "of the images." in said[3]
    )
    selection = Selection(0.9, 0.95, 0.6, 0.91875, 0.96)
    assert promises_of(certainty(selection=selection))[0].endswith("these were 8.1% of the images.")


def test_what_was_not_found_out_is_not_promised() -> None:
    assert len(promises_of(certainty())) == 1
    (said, _) = promises_of(certainty(sets=LabelSets("missed", [0.9], [[0.5]])))
    assert said == "Possible labels: they hold 90% of the labels of an image, on average."
    (said, _) = promises_of(certainty(sets=LabelSets("lac", [0.9], [[0.5, 0.4, 0.3]])))
    assert "for 90% of the images of each label" in said
    (said, _) = promises_of(certainty(unknown=everything().unknown))
    assert said.startswith("Unknown: ")
    assert said.endswith("Let a person look at unknown images.")


def test_images_that_trained_the_model_are_told() -> None:
    assert promises_of(replace(certainty(), overlap=2))[-1].startswith("2 of these also trained")


def test_it_is_told_if_the_training_images_are_not_known() -> None:
    assert promises_of(replace(certainty(), overlap=None))[-1].startswith("It is not known whether")


def test_shares_in_percent() -> None:
    assert [percent(share) for share in (0.95, 1 - 0.95, 0.999, 0.5, 1 / 3)] == [
        *("95%", "5%", "99.9%", "50%", "33.33%")
    ]

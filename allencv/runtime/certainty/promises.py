"""Say in words what a calibration promises."""

from typing import List

from allencv.runtime.certainty.certainty import Certainty
from allencv.runtime.certainty.label_sets import LabelSets


def promises_of(certainty: Certainty) -> List[str]:
    """Return sentences about what an answer says, in the order of its keys."""
    promises = []
    if certainty.scaling is not None:
        promises.append("Probabilities are calibrated: of the answers with 80%, 8 in 10 are right.")
    if certainty.sets is not None:
        promises.append(_of_sets(certainty.sets))
    unknown, selection = certainty.unknown, certainty.selection
    if unknown is not None:
        promises.append(
            f"Unknown: the image is unlike the training images, by the score '{unknown.kind}'. Of "
            f"images like the training images, {percent(1 - unknown.known_share)} are called "
            "unknown too. Let a person look at unknown images."
        )
    if selection is not None:
        others = percent(round(1 - selection.coverage, 3))
        promises.append(
            f"Answered: {percent(selection.target_accuracy)} of the answered images have the "
            f"right label. This is {percent(selection.certainty)} certain. Let a person look at "
            f"the others. In the calibration these were {others} of the images."
        )
    images = "These promises are for images like those of the calibration"
    promises.append(f"{images}, which had {certainty.images:,} labelled images.")
    if certainty.overlap is None:
        promises.append(
            "It is not known whether these trained the model or chose its epoch. If they did, the "
            "promises are too good."
        )
    if certainty.overlap:
        promises.append(
            f"{certainty.overlap:,} of these also trained the model or chose its epoch, so the "
            "promises are too good."
        )
    return promises


def _of_sets(sets: LabelSets) -> str:
    level = percent(sets.levels[0])
    if sets.kind == "missed":
        return f"Possible labels: they hold {level} of the labels of an image, on average."
    whose = "the images of each label" if sets.by_class else "the images"
    return f"Set of labels: for {level} of {whose}, the right label is in it."


def percent(share: float) -> str:
    """Return a share as "95%" or "99.9%"."""
    return f"{100 * share:.4g}%"

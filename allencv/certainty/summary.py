"""Say in a terminal what was found out about a model."""

from typing import List

import numpy as np

from allencv.certainty.calibrate import Calibrated
from allencv.certainty.held_out import HeldOut, held_out
from allencv.runtime.plurals import numbered


def lines_of(calibrated: Calibrated) -> List[str]:
    """Return the lines to print."""
    certainty, known = calibrated.certainty, calibrated.known
    found = held_out(known, calibrated.wanted, calibrated.thresholds)
    lines = [f"calibrated on {numbered(certainty.images, 'image')} of {certainty.data}"]
    lines += [f"  left out: {reason}" for reason in list(known.errors.values())[:3]]
    if len(known.errors) > 3:
        lines.append(f"  ... and {len(known.errors) - 3} more images that cannot be read")
    lines += [*_probabilities(calibrated, found), *_sets(calibrated, found)]
    if certainty.selection is not None:
        selection = certainty.selection
        lines.append(
            f"answers        {selection.coverage:.1%} of the images, those with a confidence of "
            f"{selection.least_confidence:.3f} or more: {selection.accuracy:.1%} are right here, "
            f"and at least {selection.target_accuracy:.1%} with {selection.certainty:.0%} certainty"
        )
    if certainty.unknown is not None:
        rule = certainty.unknown
        line = f"unknown        images with a score '{rule.kind}' above {rule.limit:.4g}: "
        line += f"{1 - rule.known_share:.1%} of images like these"
        if calibrated.unknown_scores is not None:
            share = float((calibrated.unknown_scores > rule.limit).mean())
            line += f", and {share:.1%} of the {len(calibrated.unknown_scores)} unlike ones"
        lines.append(line)
    return [*lines, *_warnings(calibrated)]


def _probabilities(calibrated: Calibrated, found: HeldOut) -> List[str]:
    scaling = calibrated.certainty.scaling
    if scaling is None:
        return []
    slopes = np.array(scaling.slopes)
    is_temperature = np.ptp(slopes) == 0 and not any(scaling.offsets)
    how = f"temperature {1 / slopes[0]:.3g}" if is_temperature else "a slope for each label"
    return [
        f"probabilities  {how}: they differ from how often they are right by "
        f"{found.error_before:.1%} before, {found.error_after:.1%} after"
    ]


def _sets(calibrated: Calibrated, found: HeldOut) -> List[str]:
    sets = calibrated.certainty.sets
    if sets is None:
        return []
    what = "of the labels" if sets.kind == "missed" else "with the right label"
    return [
        f"labels         {level:.0%} wanted: {share:.1%} {what}, {size:.2f} labels on average"
        for level, share, size in zip(sets.levels, found.coverage, found.sizes)
    ]


def _warnings(calibrated: Calibrated) -> List[str]:
    certainty = calibrated.certainty
    if certainty.overlap is None:
        return [
            "It is not known whether these images trained the model or chose its epoch: the data "
            "of its config are not here. If they did, the numbers above are too good."
        ]
    if certainty.overlap == 0:
        return []
    share = certainty.overlap / certainty.images
    return [
        f"{certainty.overlap} of these images ({share:.0%}) also trained the model or chose its "
        "epoch, so the numbers above are too good, and nothing is guaranteed for new images. "
        "Expected images that the training did not use."
    ]

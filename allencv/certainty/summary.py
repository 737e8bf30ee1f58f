"""Say in a terminal what was found out about a model."""

import textwrap
from typing import List

import numpy as np

from allencv.certainty.calibrate import Calibrated
from allencv.certainty.check_calibration import Checked
from allencv.certainty.fit_certainty import LabelledOutputs, percent
from allencv.certainty.label_sets import EVERY_LABEL, fewest_for
from allencv.certainty.labelled_outputs import one_hot
from allencv.runtime.certainty import Certainty
from allencv.runtime.plurals import numbered

WIDTH = 100
INDENT = " " * 16
FEWEST = 200
"""With fewer images, sets of level 95% may hold the right label for less than 92% of new images."""


def lines_of(calibrated: Calibrated) -> List[str]:
    """Return the lines to print, of at most 100 columns where no path is longer."""
    certainty = calibrated.certainty
    return [
        f"calibrated on {numbered(certainty.images, 'image')} of {certainty.data}",
        *_left_out(calibrated.known),
        *_probabilities(calibrated),
        *_sets(calibrated),
        *_answered(calibrated),
        *_unknown(calibrated),
        *_warnings(calibrated),
    ]


def lines_of_check(checked: Checked) -> List[str]:
    """Return the lines to print of a check, of at most 100 columns where no path is longer."""
    certainty = checked.certainty
    lines = [
        f"checked on {numbered(len(checked.known.names), 'image')} of {checked.data}",
        *_left_out(checked.known),
        *_row("labels", f"{checked.accuracy:.1%} of the images get the right label"),
        *_row("probabilities", f"expected calibration error {checked.error:.1%}"),
    ]
    if certainty.sets is not None:
        hold, whose = "hold the right label", "the images"
        if certainty.sets.kind == "missed":
            hold = "of an image's labels are in them"
        if certainty.sets.by_class:
            whose = "the images of each label"
        title = "sets of labels"
        for level, seen in zip(certainty.sets.levels, checked.sets):
            text = (
                f"promised for {percent(level)} of {whose}: {seen.coverage:.1%} {hold}, "
                f"{seen.size:.2f} labels on average"
            )
            lines += _row(title, text)
            title = ""
            if seen.worst is not None:
                place, share, count = seen.worst
                worst = f"worst label '{checked.labels[place]}': {share:.1%} of "
                lines += _row("", f"{worst}its {numbered(count, 'image')}")
    if certainty.selection is not None and checked.answered is not None:
        right = "no image is answered"
        if checked.answered_right is not None:
            right = f"{checked.answered_right:.1%} of these answers are right"
        text = f"{checked.answered:.1%} of the images; in the calibration "
        lines += _row("answered", f"{text}{certainty.selection.coverage:.1%}")
        lines += _row("", f"promised {percent(certainty.selection.target_accuracy)}: {right}")
    if certainty.unknown is not None and checked.unknown is not None:
        promised = percent(1 - certainty.unknown.known_share)
        lines += _row("unknown", f"promised at most {promised}: {checked.unknown:.1%}")
    return [*lines, *_few(len(checked.known.names)), *_used(checked)]


def _used(checked: Checked) -> List[str]:
    """Warn about images that took part in training or calibration."""
    count = len(checked.known.names)
    lines: List[str] = []
    for number, used in (
        (checked.trained, "trained the model or chose its epoch"),
        (checked.calibrated, "calibrated the model"),
    ):
        if number is None:
            text = (
                f"It is not known whether these images also {used}, as those images are not here. "
                "If they did, the numbers above are too good."
            )
        elif number:
            text = (
                f"Warning: {number} of these images ({number / count:.0%}) also {used}. The "
                "numbers above are too good. Check on other images."
            )
        else:
            continue
        lines += textwrap.wrap(text, WIDTH)
    if not lines:
        lines.append("None of these images trained or calibrated the model.")
    return lines


def _left_out(known: LabelledOutputs) -> List[str]:
    if not known.errors:
        return []
    return [
        f"left out: {numbered(len(known.errors), 'image')} that cannot be read",
        *(
            f"  {name}: {reason.removeprefix(f'{name}: ')}"
            for name, reason in list(known.errors.items())[:3]
        ),
    ]


def _row(title: str, text: str) -> List[str]:
    """Return a title and a text beside it, in lines."""
    return textwrap.wrap(
        f"{title:{len(INDENT)}}{text}",
        WIDTH,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _probabilities(calibrated: Calibrated) -> List[str]:
    scaling, found = calibrated.certainty.scaling, calibrated.found
    if scaling is None:
        return []
    slopes = np.array(scaling.slopes)
    is_temperature = np.ptp(slopes) == 0 and not any(scaling.offsets)
    how = f"temperature {1 / slopes[0]:.3g}" if is_temperature else "a slope for each label"
    return _row(
        "probabilities",
        f"{how}: expected calibration error {found.error_before:.1%} before, "
        f"{found.error_after:.1%} after",
    )


def _sets(calibrated: Calibrated) -> List[str]:
    sets, found = calibrated.certainty.sets, calibrated.found
    if sets is None:
        return []
    hold = "hold the right label"
    if sets.kind == "missed":
        hold = "of an image's labels are in them"
    lines: List[str] = []
    for level, share, size in zip(sets.levels, found.coverage, found.sizes):
        text = f"at {percent(level)}: {share:.1%} {hold}, {size:.2f} labels on average"
        lines += _row("" if lines else "sets of labels", text)
    below = [
        percent(level) for level, size in zip(sets.levels, found.sizes) if f"{size:.2f}" == "1.00"
    ]
    if below and sets.kind == "lac":
        lines += _row(
            "",
            f"{found.is_right.mean():.1%} of the labels alone are right, so each set at "
            f"{' and '.join(below)} has one label. Use a level above {found.is_right.mean():.1%}",
        )
    few = [i for i, limit in enumerate(sets.limits[0]) if limit == EVERY_LABEL]
    if few and sets.by_class:
        names = ", ".join(calibrated.labels[i] for i in few[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        lines += _row(
            "",
            f"in every set, as they have fewer than {fewest_for(sets.levels[0])} images: "
            f"{names}{more}",
        )
    return lines


def _answered(calibrated: Calibrated) -> List[str]:
    selection = calibrated.certainty.selection
    if selection is None:
        return []
    return [
        *_row(
            "answered",
            f"{selection.coverage:.1%} of these images: those with a probability of at least "
            f"{selection.least_confidence:.3f}",
        ),
        *_row(
            "",
            f"{selection.accuracy:.1%} of these answers are right. Of the answers for new images "
            f"at least {percent(selection.target_accuracy)} are, with "
            f"{percent(selection.certainty)} certainty",
        ),
    ]


def _unknown(calibrated: Calibrated) -> List[str]:
    rule = calibrated.certainty.unknown
    if rule is None:
        return []
    lines = _row(
        "unknown",
        f"images with a score '{rule.kind}' above {rule.limit:.4g}: at most "
        f"{1 - rule.known_share:.1%} of images like these",
    )
    scores = calibrated.unknown_scores
    if scores is not None:
        share = float((scores > rule.limit).mean()) if len(scores) else 0.0
        count = numbered(len(scores), "image")
        unread = len(calibrated.unknown_errors)
        others = f"; {unread} more cannot be read" if unread else ""
        lines += _row("", f"{share:.1%} of the {count} of --unknown-images{others}")
        if share <= 2 * (1 - rule.known_share) and rule.kind != "nearest":
            lines += _row(
                "", "Warning: this is hardly more than for known images. Try --unknown nearest"
            )
    return lines


def _warnings(calibrated: Calibrated) -> List[str]:
    return [*_too_few(calibrated), *_trained(calibrated.certainty)]


def _too_few(calibrated: Calibrated) -> List[str]:
    """Warn about few images, and about labels without any."""
    targets, labels = calibrated.known.targets, calibrated.labels
    lines = _few(len(targets))
    counts = one_hot(targets, len(labels)).sum(axis=0)
    missing = [label for label, count in zip(labels, counts) if count == 0]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        lines += textwrap.wrap(
            f"Warning: no image has the label {', '.join(missing[:5])}{more}. The numbers above "
            "do not hold for images with such a label.",
            WIDTH,
        )
    return lines


def _few(count: int) -> List[str]:
    if count >= FEWEST:
        return []
    return [
        f"Warning: {numbered(count, 'image')} are few, so new images may give other numbers. Use "
        f"at least {FEWEST}."
    ]


def _trained(certainty: Certainty) -> List[str]:
    """Warn about images that took part in the training."""
    if certainty.overlap is None:
        return textwrap.wrap(
            "It is not known whether these images trained the model or chose its epoch, as the "
            "data of its config are not here. If they did, the numbers above are too good.",
            WIDTH,
        )
    if certainty.overlap == 0:
        return []
    share = certainty.overlap / certainty.images
    return textwrap.wrap(
        f"Warning: {certainty.overlap} of these images ({share:.0%}) also trained the model or "
        "chose its epoch. The numbers above are too good, and nothing is guaranteed for new "
        "images. Calibrate on images that the training did not use.",
        WIDTH,
    )

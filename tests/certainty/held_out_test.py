import numpy as np
import pytest

from allencv.certainty.fit_certainty import Wanted
from allencv.certainty.held_out import held_out
from tests.certainty.draws import drawn_answers, drawn_label_sets
from tests.certainty.fit_certainty_test import outputs


def test_it_shows_what_new_images_show() -> None:
    known = outputs(drawn_answers(3000, width=2.0))
    found = held_out(known, Wanted(levels=[0.8, 0.95]).for_model(False), None)
    assert found.error_after < 0.5 * found.error_before
    assert found.coverage == [pytest.approx(0.8, abs=0.03), pytest.approx(0.95, abs=0.015)]
    assert found.sizes[0] < found.sizes[1]
    assert found.members is not None
    assert found.coverage[0] == found.members[np.arange(3000), known.targets].mean()
    assert found.before.tolist() == known.probabilities.max(axis=1).tolist()
    assert found.is_right.mean() == (known.probabilities.argmax(axis=1) == known.targets).mean()


def test_no_image_takes_part_in_its_own_calibration() -> None:
    """Sets for labels without any pattern: with the limits of all images they would be too good."""
    draws = drawn_answers(60, labels=2)
    alone = draws._replace(targets=np.zeros(60, int))
    alone.targets[::3] = 1
    whole = held_out(outputs(alone), Wanted().for_model(False), None)
    other = alone.targets.copy()
    other[0] = 1 - other[0]
    changed = held_out(outputs(alone._replace(targets=other)), Wanted().for_model(False), None)
    assert whole.after[0] == changed.after[0]
    assert (whole.after != changed.after).any()


def test_several_labels() -> None:
    known = outputs(drawn_label_sets(3000))
    found = held_out(known, Wanted(levels=[0.9]).for_model(True), [0.5] * 6)
    assert found.coverage == [pytest.approx(0.9, abs=0.02)]
    assert found.error_after < found.error_before


def test_without_sets() -> None:
    found = held_out(outputs(drawn_answers(30)), Wanted(sets=None).for_model(False), None)
    assert (found.coverage, found.sizes, found.members) == ([], [], None)


def test_of_many_images_some_are_drawn() -> None:
    known = outputs(drawn_answers(500))
    found = held_out(known, Wanted().for_model(False), None, most_images=100)
    assert len(found.before) == len(set(found.rows)) == 100
    assert found.rows.max() > 200
    assert found.before.tolist() == known.probabilities.max(axis=1)[found.rows].tolist()

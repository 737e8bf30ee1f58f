import pytest

from allencv.certainty.unknown_scores import Auto, Energy, Nearest, UnknownScore


@pytest.mark.parametrize(("is_frozen", "expected"), [(True, Nearest), (False, Energy)])
def test_it_depends_on_the_encoder(is_frozen: bool, expected: type) -> None:
    assert type(Auto().chosen(is_frozen)) is expected


def test_other_scores_are_what_was_asked_for() -> None:
    score = Energy()
    assert score.chosen(True) is score


def test_it_is_registered() -> None:
    assert UnknownScore.by_name("auto") is Auto

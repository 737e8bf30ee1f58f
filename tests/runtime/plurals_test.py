import pytest

from allencv.runtime.plurals import numbered


@pytest.mark.parametrize(
    ("count", "noun", "expected"),
    [(0, "label", "0 labels"), (1, "label", "1 label"), (2, "class", "2 classes")],
)
def test_a_noun_agrees_with_its_number(count: int, noun: str, expected: str) -> None:
    assert numbered(count, noun) == expected


def test_a_word_may_stand_for_0() -> None:
    assert numbered(0, "error", none="no") == "no errors"
    assert numbered(1, "error", none="no") == "1 error"

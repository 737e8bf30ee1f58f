from typing import List, Optional

import pytest

from allencv.common.nearest_names import nearest_first, not_one_of


@pytest.mark.parametrize(
    ("value", "expected", "nearest"),
    [
        ("adamww", ["adamw", "adam", "sgd"], "adamw"),
        ("sdg", ["sgd", "adam", "adamw"], "sgd"),
        ("sgd", ["sgd", "adam", "adamw"], "sgd"),
        ("x", ["adam", "sgd", "adamw"], None),
        (None, ["adam", "sgd", "adamw"], None),
    ],
)
def test_the_nearest_names_come_first(
    value: object, expected: List[str], nearest: Optional[str]
) -> None:
    assert nearest_first(value, iter(("adam", "sgd", "adamw"))) == (expected, nearest)


def test_without_names() -> None:
    assert nearest_first("a", []) == ([], None)
    assert str(not_one_of("key", "a", [])) == "key is 'a'; expected nothing"


def test_the_others_are_in_alphabetical_order_or_as_given() -> None:
    names = {"pool": 1, "size": 2, "depth": 3}
    assert str(not_one_of("a", "siz", names)) == "a is 'siz'; expected one of size, depth, pool"
    in_order = not_one_of("a", "siz", names, in_order=True)
    assert str(in_order) == "a is 'siz'; expected one of size, pool, depth"

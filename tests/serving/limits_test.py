from dataclasses import fields

import pytest

from allencv.serving.limits import Limits


@pytest.mark.parametrize("name", [each.name for each in fields(Limits)])
@pytest.mark.parametrize("value", [0, -1])
def test_limits_are_positive(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}; expected a positive number"):
        Limits(**{name: value})


def test_what_a_request_may_bring_may_also_wait() -> None:
    limits = Limits()
    assert limits.max_files <= limits.max_waiting
    assert limits.max_body_bytes <= limits.max_pending_bytes

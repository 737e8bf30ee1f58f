from typing import Any, Dict

import pytest

from allencv.training.kept_weights import kept_weights


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({}, "best"),
        ({"averaged_weights_used": False}, "best"),
        ({"averaged_weights_used": True}, "averaged"),
        ({"trained_share": 0}, "interpolated"),
    ],
)
def test_which_weights_are_in_the_archive(metrics: Dict[str, Any], expected: str) -> None:
    assert kept_weights(metrics) == expected

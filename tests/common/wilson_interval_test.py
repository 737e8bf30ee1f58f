import pytest

from allencv.common.wilson_interval import wilson_interval


@pytest.mark.parametrize(("count", "images"), [(8, 10), (0, 20), (20, 20), (730, 1000)])
def test_the_ends_solve_wilsons_equation(count: int, images: int) -> None:
    """At both ends the share lies 1.96 standard deviations of the binomial distribution away."""
    for end in wilson_interval(count, images):
        assert abs(count / images - end) == pytest.approx(
            1.959964 * (end * (1 - end) / images) ** 0.5, rel=1e-5, abs=1e-9
        )


def test_the_share_is_inside() -> None:
    low, high = wilson_interval(8, 10)
    assert (low, high) == pytest.approx((0.490, 0.943), abs=1e-3)
    low, high = wilson_interval(20, 20)
    assert (low, high) == pytest.approx((0.839, 1), abs=1e-3)

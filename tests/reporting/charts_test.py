import re
from typing import List

import pytest

from allencv.reporting.charts import count_chart, line_chart, reliability_chart
from allencv.reporting.scores import Bin


def numbers_of_x_axis(chart: str) -> List[str]:
    return re.findall(r'<text class="middle"[^>]*>(\d+)</text>', chart)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, "1"), (3, "1 2 3"), (12, "1 2 4 6 8 10 12"), (100, "1 20 40 60 80 100")],
)
def test_epochs_begin_with_1(epochs: int, expected: str) -> None:
    points = [(epoch, 1 / epoch) for epoch in range(1, epochs + 1)]
    chart = str(line_chart("loss", {"training": points}, "epoch"))
    assert " ".join(numbers_of_x_axis(chart)) == expected


def test_the_marked_epoch_has_a_line_and_a_dot_on_each_curve() -> None:
    lines = {"training": [(1, 2.0), (2, 1.0), (3, 0.5)], "validation": [(1, 2.0), (3, 1.0)]}
    chart = line_chart("loss", lines, "epoch", 2)
    (x,) = re.findall(r'<line class="marked" x1="([^"]+)"', chart)
    assert re.findall(r'<circle class="(\w+)" cx="([^"]+)"', chart) == [("training", x)]
    assert "marked" not in line_chart("loss", lines, "epoch", 4)


def test_a_line_with_one_point_is_a_dot() -> None:
    assert 'circle class="training"' in line_chart("loss", {"training": [(1, 2.0)]}, "epoch")


def test_bars() -> None:
    bins = [Bin(0.4, 0.5, 10, 0.45, 0.4), Bin(0.9, 1.0, 40, 0.97, 1.0)]
    heights = [
        [float(height) for height in re.findall(r'<rect[^>]*height="([^"]+)"', chart)]
        for chart in (reliability_chart(bins, "probability"), count_chart(bins, "probability"))
    ]
    assert heights[0][0] == pytest.approx(0.4 * heights[0][1], abs=0.2)
    assert heights[1][0] == pytest.approx(0.25 * heights[1][1], abs=0.2)


def test_titles_are_escaped() -> None:
    assert "&lt;b&gt; by epoch" in line_chart("<b> by epoch", {"training": [(1, 2.0)]}, "epoch")

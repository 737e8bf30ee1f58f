import re
from typing import List

import pytest

from allencv.certainty.reliability import Bin
from allencv.reporting.charts import count_chart, line_chart, reliability_chart, tick_texts


def small_and_large(charts: str) -> List[str]:
    """The two sizes of a chart, of which the page's style shows one."""
    small, large = re.findall("<svg.*?</svg>", str(charts))
    assert small.startswith('<svg class="small"')
    assert large.startswith('<svg class="large"')
    return [small, large]


def numbers_of_x_axis(chart: str) -> List[str]:
    return re.findall(r'<text class="middle"[^>]*>(\d+)</text>', chart)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, "1"), (3, "1 2 3"), (12, "1 2 4 6 8 10 12"), (100, "1 20 40 60 80 100")],
)
def test_epochs_begin_with_1(epochs: int, expected: str) -> None:
    points = [(epoch, 1 / epoch) for epoch in range(1, epochs + 1)]
    chart, _ = small_and_large(line_chart("loss", {"training": points}, "epoch"))
    assert " ".join(numbers_of_x_axis(chart)) == expected


def test_the_marked_epoch_has_a_line_and_a_dot_on_each_curve() -> None:
    lines = {"training": [(1, 2.0), (2, 1.0), (3, 0.5)], "validation": [(1, 2.0), (3, 1.0)]}
    for chart in small_and_large(line_chart("loss", lines, "epoch", 2)):
        (x,) = re.findall(r'<line class="marked" x1="([^"]+)"', chart)
        assert re.findall(r'<circle class="(\w+)" cx="([^"]+)"', chart) == [("training", x)]
    assert "marked" not in line_chart("loss", lines, "epoch", 4)


def test_a_line_with_one_point_is_a_dot() -> None:
    assert 'circle class="training"' in line_chart("loss", {"training": [(1, 2.0)]}, "epoch")


def test_bars() -> None:
    bins = [
        Bin(0.4, 0.5, 10, 0.45, 0.4, (0.1, 0.7)),
        Bin(0.9, 1.0, 40, 0.97, 1.0, (0.9, 1.0)),
    ]
    heights = [
        [float(height) for height in re.findall(r'<rect[^>]*height="([^"]+)"', chart)]
        for chart in (reliability_chart(bins, "probability"), count_chart(bins, "probability"))
    ]
    assert heights[0][0] == pytest.approx(0.4 * heights[0][1], abs=0.2)
    # The interval of each accuracy.
    ends = re.findall(
        r'class="interval"[^>]* y1="([^"]+)" y2="([^"]+)"',
        charts := str(reliability_chart(bins, "probability")).split("</svg>")[0],
    )
    lengths = [float(low) - float(high) for low, high in ends]
    assert lengths[0] == pytest.approx(6 * lengths[1], abs=0.3)
    assert charts.count("<circle") == 2
    assert heights[1][0] == pytest.approx(0.25 * heights[1][1], abs=0.2)


def test_a_line_over_shares_with_a_marked_one() -> None:
    lines = {"known": [(0.1, 0.0), (0.5, 0.02), (1.0, 0.1)]}
    for chart in small_and_large(line_chart("risk", lines, "share", 0.75, whole=False)):
        (x,) = re.findall(r'<line class="marked" x1="([^"]+)"', chart)
        xs = [
            float(point.split(",")[0])
            for point in re.findall(r'points="([^"]+)"', chart)[0].split()
        ]
        assert float(x) == pytest.approx((xs[1] + xs[2]) / 2, abs=0.2)


def test_counts_have_whole_numbers() -> None:
    chart = count_chart([Bin(0.0, 1.0, 3, 0.5, 0.5, (0.1, 0.9))], "probability")
    ticks = re.findall(r'class="end"[^>]*>([^<]+)<', chart.split("</svg>")[0])
    assert ticks == ["0", "1", "2", "3"]


def test_titles_are_escaped() -> None:
    assert "&lt;b&gt; by epoch" in line_chart("<b> by epoch", {"training": [(1, 2.0)]}, "epoch")


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        ([0, 0.25, 0.5], "0 0.25 0.50"),
        ([0.00498, 0.005, 0.00502], "0.00498 0.00500 0.00502"),
        ([-0.5, 0, 0.5], "\N{MINUS SIGN}0.5 0 0.5"),
        ([0, 2e-7, 4e-7], "0 2e\N{MINUS SIGN}07 4e\N{MINUS SIGN}07"),
        ([0, 20000, 40000], "0 20k 40k"),
        ([3], "3"),
    ],
)
def test_ticks_have_the_digits_that_they_need(ticks: List[float], expected: str) -> None:
    assert " ".join(tick_texts(ticks)) == expected


@pytest.mark.parametrize("middle", [0.0, 0.005, 0.7, 1.0, 12345.678])
@pytest.mark.parametrize("range_", [0.0, 1e-9, 1e-5, 0.1])
def test_no_two_ticks_look_alike(middle: float, range_: float) -> None:
    """The numbers fit between the edge and the plot, too."""
    points = [(1, middle), (2, middle * (1 + range_))]
    for chart in small_and_large(line_chart("loss", {"training": points}, "epoch")):
        found = re.findall(r'<text class="end" x="([^"]+)"[^>]*>([^<]+)</text>', chart)
        texts = [text for _, text in found]
        assert 2 <= len(texts) == len(set(texts))
        assert all(6 * len(text) < float(x) for x, text in found)

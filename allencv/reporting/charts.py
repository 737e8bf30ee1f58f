"""Charts as SVG. Their page's style sets the colours, and they fit the width of a phone."""

from typing import Mapping, Optional, Sequence, Tuple

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from allencv.reporting.scores import Bin

WIDTH, HEIGHT = 340, 210
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 10, 34
"""The margins around the plot, which hold the numbers of the axes."""

Point = Tuple[float, float]


class _Axes:
    """The axes of a chart: they turn values into places in the picture."""

    def __init__(
        self, xs: Sequence[float], ys: Sequence[float], height: int = HEIGHT, whole: bool = False
    ) -> None:
        self.x_ticks = MaxNLocator(6, integer=whole).tick_values(min(xs), max(xs))
        self.y_ticks = MaxNLocator(4).tick_values(min(ys), max(ys))
        # A fraction is at most 1.
        top = min(self.y_ticks[-1], 1.0) if max(ys) <= 1 else self.y_ticks[-1]
        self.y_ticks = [tick for tick in self.y_ticks if tick <= top]
        if whole:
            inside = {tick for tick in self.x_ticks if min(xs) <= tick <= max(xs)}
            self.x_ticks = sorted({min(xs), *inside})
        low, high = (min(xs), max(xs)) if whole else (self.x_ticks[0], self.x_ticks[-1])
        self.x_range = (low, high) if high > low else (low - 0.5, high + 0.5)
        self.y_range = (self.y_ticks[0], top)
        self.height = height

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(
            self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM), 1
        )

    def drawn(self, x_label: str) -> str:
        bottom = self.height - BOTTOM
        parts = []
        for tick in self.y_ticks:
            y = self.y(tick)
            parts.append(
                f'<line class="grid-line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            )
            parts.append(f'<text class="end" x="{LEFT - 6}" y="{y + 4}">{_number(tick)}</text>')
        for tick in self.x_ticks:
            parts.append(
                f'<text class="middle" x="{self.x(tick)}" y="{bottom + 15}">{_number(tick)}</text>'
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(
            f'<text class="middle" x="{middle}" y="{self.height - 3}">{escape(x_label)}</text>'
        )
        return "".join(parts)


def line_chart(
    title: str,
    lines: Mapping[str, Sequence[Point]],
    x_label: str,
    marked: Optional[int] = None,
) -> Markup:
    """
    Draw lines over whole numbers, such as epochs. Their names are their classes in the page's
    style. One of the numbers can be marked.
    """
    points = [point for line in lines.values() for point in line]
    axes = _Axes([x for x, _ in points], [y for _, y in points], whole=True)
    parts = [axes.drawn(x_label)]
    if marked in {x for x, _ in points}:
        x = axes.x(marked)
        parts.append(f'<line class="marked" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for kind, line in lines.items():
        path = " ".join(f"{axes.x(x)},{axes.y(y)}" for x, y in line)
        parts.append(f'<polyline class="curve {kind}" points="{path}"/>')
        # A line with a single point is invisible without a dot.
        parts += [
            f'<circle class="{kind}" cx="{axes.x(x)}" cy="{axes.y(y)}" r="3.5"/>'
            for x, y in line
            if x == marked or len(line) == 1
        ]
    return _svg(title, parts, HEIGHT)


def reliability_chart(bins: Sequence[Bin], x_label: str) -> Markup:
    """Draw the fraction of correct predictions by their probability, ideally on the diagonal."""
    height = 260
    axes = _Axes([0, 1], [0, 1], height)
    parts = [axes.drawn(x_label)]
    for each in bins:
        left, right = axes.x(each.lower) + 1, axes.x(each.upper) - 1
        parts.append(_bar("bar", left, axes.y(each.accuracy), right, axes.y(0)))
    parts.append(
        f'<line class="diagonal" x1="{axes.x(0)}" y1="{axes.y(0)}" x2="{axes.x(1)}" '
        f'y2="{axes.y(1)}"/>'
    )
    parts += [
        f'<circle class="validation" cx="{axes.x(each.confidence)}" cy="{axes.y(each.accuracy)}" '
        'r="3.5"/>'
        for each in bins
    ]
    return _svg("Fraction of correct predictions by probability", parts, height)


def count_chart(bins: Sequence[Bin], x_label: str) -> Markup:
    """Draw the number of predictions by their probability."""
    height = 260
    axes = _Axes([0, 1], [0, max(each.count for each in bins)], height)
    parts = [axes.drawn(x_label)]
    for each in bins:
        left, right = axes.x(each.lower) + 1, axes.x(each.upper) - 1
        parts.append(_bar("bar", left, axes.y(each.count), right, axes.y(0)))
    return _svg("Number of predictions by probability", parts, height)


def _bar(kind: str, left: float, top: float, right: float, bottom: float) -> str:
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{max(bottom - top, 0):.1f}"/>'
    )


def _svg(title: str, parts: Sequence[str], height: int) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _number(value: float) -> str:
    if abs(value) >= 10000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")

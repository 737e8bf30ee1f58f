"""Charts as SVG: coloured by the style of their page, and readable at the width of a phone."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from allencv.reporting.scores import Bin

WIDTH, HEIGHT = 340, 210
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 10, 34
"""The margins around the plot, in which the numbers of the axes stand."""

Point = Tuple[float, float]


@dataclass
class Line:
    """Points of a chart that belong together; `kind` is the class of it in the page's style."""

    kind: str
    points: List[Point]


class _Axes:
    """Where the numbers of two axes lie in a picture."""

    def __init__(
        self, xs: Sequence[float], ys: Sequence[float], height: int = HEIGHT, whole: bool = False
    ) -> None:
        self.x_ticks = MaxNLocator(6, integer=whole).tick_values(min(xs), max(xs))
        self.y_ticks = MaxNLocator(4).tick_values(min(ys), max(ys))
        # No share goes beyond all.
        top = min(self.y_ticks[-1], 1.0) if max(ys) <= 1 else self.y_ticks[-1]
        self.y_ticks = [tick for tick in self.y_ticks if tick <= top]
        if whole:
            self.x_ticks = [tick for tick in self.x_ticks if min(xs) <= tick <= max(xs)]
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
    title: str, lines: Sequence[Line], x_label: str, marked: Optional[int] = None
) -> Markup:
    """Curves over whole numbers, such as epochs, of which one may be marked."""
    points = [point for line in lines for point in line.points]
    axes = _Axes([x for x, _ in points], [y for _, y in points], whole=True)
    parts = [axes.drawn(x_label)]
    if marked is not None:
        x = axes.x(marked)
        parts.append(f'<line class="marked" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for line in lines:
        path = " ".join(f"{axes.x(x)},{axes.y(y)}" for x, y in line.points)
        parts.append(f'<polyline class="curve {line.kind}" points="{path}"/>')
        # A curve of one epoch is but a point.
        shown = line.points if len(line.points) == 1 else [p for p in line.points if p[0] == marked]
        parts += [
            f'<circle class="{line.kind}" cx="{axes.x(x)}" cy="{axes.y(y)}" r="3.5"/>'
            for x, y in shown
        ]
    return _svg(title, parts, HEIGHT)


def reliability_chart(bins: Sequence[Bin], x_label: str) -> Markup:
    """How often predictions are right (bars), by how sure they are. Ideally on the diagonal."""
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
    return _svg("How often predictions are right, by their probability", parts, height)


def count_chart(bins: Sequence[Bin], x_label: str) -> Markup:
    """How many predictions are how sure."""
    height = 260
    axes = _Axes([0, 1], [0, max(each.count for each in bins)], height)
    parts = [axes.drawn(x_label)]
    for each in bins:
        left, right = axes.x(each.lower) + 1, axes.x(each.upper) - 1
        parts.append(_bar("bar", left, axes.y(each.count), right, axes.y(0)))
    return _svg("How many predictions have which probability", parts, height)


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

"""
Charts as SVG, each in two widths: the page's style shows one, and sets the colours. The text is
then readable on a phone, and lines have room on a wide screen.
"""

from itertools import pairwise
from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from allencv.certainty.reliability import Bin

LEFT, RIGHT, TOP, BOTTOM = 22, 10, 10, 34
"""The margins around the plot. They hold the numbers of the axes, which widen the left one."""
DIGIT = 6.4
"""The width of a digit."""
LEAST_RANGE = 1e-3
"""The least range of the y axis, relative to its largest value."""


class Size(NamedTuple):
    """The size of a chart, and the number of steps of its x axis. `name` is its class."""

    name: str
    width: int
    height: int
    steps: int


SIZES = (Size("small", 340, 210, 6), Size("large", 540, 270, 10))
SQUARE_SIZES = tuple(size._replace(height=size.height + 50) for size in SIZES)

Point = Tuple[float, float]


class _Axes:
    """
    The axes of a chart: they turn values into places in the picture.

    # Parameters

    whole, counts : `bool`, optional (default = `False`)
        Whether the values of x, or those of y, are whole numbers.
    """

    def __init__(
        self,
        size: Size,
        xs: Sequence[float],
        ys: Sequence[float],
        whole: bool = False,
        counts: bool = False,
    ) -> None:
        self.width, self.height = size.width, size.height
        self.x_ticks = list(MaxNLocator(size.steps, integer=whole).tick_values(min(xs), max(xs)))
        y_locator = MaxNLocator(4, integer=counts)
        self.y_ticks = list(y_locator.tick_values(*_at_least_a_range(min(ys), max(ys))))
        # A fraction is at most 1.
        top = min(self.y_ticks[-1], 1.0) if max(ys) <= 1 else self.y_ticks[-1]
        self.y_ticks = [tick for tick in self.y_ticks if tick <= top]
        if whole:
            inside = {tick for tick in self.x_ticks if min(xs) <= tick <= max(xs)}
            self.x_ticks = sorted({min(xs), *inside})
        low, high = (min(xs), max(xs)) if whole else (self.x_ticks[0], self.x_ticks[-1])
        self.x_range = (low, high) if high > low else (low - 0.5, high + 0.5)
        self.y_range = (self.y_ticks[0], top)
        self.y_texts = tick_texts(self.y_ticks)
        self.left = LEFT + DIGIT * max(map(len, self.y_texts)) - DIGIT

    def x(self, value: float) -> float:
        low, high = self.x_range
        inside = self.width - self.left - RIGHT
        return round(self.left + (value - low) / (high - low) * inside, 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(
            self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM), 1
        )

    def drawn(self, x_label: str) -> str:
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        parts = []
        for tick, text in zip(self.y_ticks, self.y_texts):
            y = self.y(tick)
            parts.append(
                f'<line class="grid-line" x1="{self.left:.1f}" x2="{right}" y1="{y}" y2="{y}"/>'
                f'<text class="end" x="{self.left - 6:.1f}" y="{y + 4:.1f}">{text}</text>'
            )
        for tick, text in zip(self.x_ticks, tick_texts(self.x_ticks)):
            parts.append(f'<text class="middle" x="{self.x(tick)}" y="{bottom + 15}">{text}</text>')
        middle = (self.left + right) / 2
        parts.append(
            f'<text class="middle" x="{middle:.1f}" y="{self.height - 3}">{escape(x_label)}</text>'
        )
        return "".join(parts)


def _at_least_a_range(low: float, high: float) -> Tuple[float, float]:
    """Widen a range that is so small that its numbers would need many digits."""
    least = LEAST_RANGE * max(abs(low), abs(high))
    if high - low >= least:
        return low, high
    return low - (least - (high - low)) / 2, high + (least - (high - low)) / 2


def tick_texts(ticks: Sequence[float]) -> List[str]:
    """Return the numbers of an axis with as many decimals as they need, the same for all."""
    scale, unit = (1000, "k") if max(map(abs, ticks)) >= 10000 else (1, "")
    values = [tick / scale for tick in ticks]
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    decimals = 0
    while decimals < 12 and any(
        abs(round(value, decimals) - value) > 1e-3 * step for value in values
    ):
        decimals += 1
    texts = [f"{value:.{decimals}f}" if decimals < 7 else f"{value:.4g}" for value in values]
    return [
        f"{text}{unit}".replace("-", "\N{MINUS SIGN}") if float(text) else "0" for text in texts
    ]


def line_chart(
    title: str,
    lines: Mapping[str, Sequence[Point]],
    x_label: str,
    marked: Optional[float] = None,
    whole: bool = True,
) -> Markup:
    """
    Draw lines over whole numbers, such as epochs, or with `whole=False` over any. Their names are
    their classes in the page's style. One of the numbers can be marked.
    """
    points = [point for line in lines.values() for point in line]

    def draw(size: Size) -> List[str]:
        axes = _Axes(size, [x for x, _ in points], [y for _, y in points], whole=whole)
        parts = [axes.drawn(x_label)]
        if marked is not None and min(points)[0] <= marked <= max(points)[0]:
            x = axes.x(marked)
            bottom = size.height - BOTTOM
            parts.append(f'<line class="marked" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>')
        for kind, line in lines.items():
            path = " ".join(f"{axes.x(x)},{axes.y(y)}" for x, y in line)
            parts.append(f'<polyline class="curve {kind}" points="{path}"/>')
            # A line with a single point is invisible without a dot.
            parts += [
                f'<circle class="{kind}" cx="{axes.x(x)}" cy="{axes.y(y)}" r="3.5"/>'
                for x, y in line
                if x == marked or len(line) == 1
            ]
        return parts

    return _svg(title, draw, SIZES)


def reliability_chart(bins: Sequence[Bin], x_label: str) -> Markup:
    """Draw the fraction of correct predictions by their probability, ideally on the diagonal."""

    def draw(size: Size) -> List[str]:
        axes = _Axes(size, [0, 1], [0, 1])
        parts = [axes.drawn(x_label)]
        for each in bins:
            left, right = axes.x(each.lower) + 1, axes.x(each.upper) - 1
            parts.append(_bar("bar", left, axes.y(each.accuracy), right, axes.y(0)))
        parts.append(
            f'<line class="diagonal" x1="{axes.x(0)}" y1="{axes.y(0)}" x2="{axes.x(1)}" '
            f'y2="{axes.y(1)}"/>'
        )
        parts += [
            f'<line class="interval" x1="{axes.x(each.confidence)}" x2="{axes.x(each.confidence)}" '
            f'y1="{axes.y(each.interval[0])}" y2="{axes.y(each.interval[1])}"/>'
            f'<circle class="validation" cx="{axes.x(each.confidence)}" '
            f'cy="{axes.y(each.accuracy)}" r="3.5"/>'
            for each in bins
        ]
        return parts

    return _svg("Fraction of correct predictions by probability", draw, SQUARE_SIZES)


def count_chart(bins: Sequence[Bin], x_label: str) -> Markup:
    """Draw the number of predictions by their probability."""

    def draw(size: Size) -> List[str]:
        axes = _Axes(size, [0, 1], [0, max(each.count for each in bins)], counts=True)
        parts = [axes.drawn(x_label)]
        for each in bins:
            left, right = axes.x(each.lower) + 1, axes.x(each.upper) - 1
            parts.append(_bar("bar", left, axes.y(each.count), right, axes.y(0)))
        return parts

    return _svg("Number of predictions by probability", draw, SQUARE_SIZES)


def _bar(kind: str, left: float, top: float, right: float, bottom: float) -> str:
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{max(bottom - top, 0):.1f}"/>'
    )


def _svg(title: str, draw: Callable[[Size], List[str]], sizes: Sequence[Size]) -> Markup:
    return Markup("").join(
        Markup(
            f'<svg class="{size.name}" viewBox="0 0 {size.width} {size.height}" role="img" '
            f'aria-label="{escape(title)}">{"".join(draw(size))}</svg>'
        )
        for size in sizes
    )

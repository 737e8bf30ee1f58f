"""A map of the images of a dataset: points in the colours of their labels, and pictures."""

from collections import Counter
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from markupsafe import Markup

from allencv.data.inspection import CheckedImage

MOST_POINTS = 10_000
"""The most images on a map."""
CELLS = 10
"""The map of pictures has so many rows and columns."""
COLOURS = 10
"""The number of labels that have a colour of their own. The others are grey."""
UNITS, MARGIN = 1000, 15
"""The width and the height of the map, and its margin, in units of its paths."""
EDGE = 0.5
"""The percentage of points at each side that are moved to the edge, so that others have room."""
METHODS = {"pca": "the first two principal components", "umap": "UMAP"}


class DataMap(NamedTuple):
    """
    Where images lie on a map.

    # Parameters

    images : the images, at most `MOST_POINTS`.
    points : `(images, 2)`
    method : "pca" or "umap".
    """

    images: Sequence[CheckedImage]
    points: np.ndarray
    method: str


class Comparison(NamedTuple):
    """
    The images of a dataset, compared by the features of a network.

    # Parameters

    model : what the network was opened from.
    images : how many have features.
    notes : what was left out, and how far the problems can be trusted.
    data_map : `None` if there is no page to show it, or no image.
    """

    model: str
    images: int
    notes: List[str]
    data_map: Optional[DataMap]


class MapLabel(NamedTuple):
    """A label and its points, as an SVG path. The style draws a dot at each."""

    name: str
    images: int
    path: Markup


class MapPicture(NamedTuple):
    """The image in a cell of the map, with the places of its labels in the legend."""

    image: CheckedImage
    row: int
    column: int
    labels: List[int]


class DrawnMap(NamedTuple):
    """What the page shows: labels, the largest first, and the pictures."""

    labels: List[MapLabel]
    pictures: List[MapPicture]


def drawn(data_map: DataMap) -> DrawnMap:
    """Return the paths and the pictures of a map."""
    counts = Counter(label for image in data_map.images for label in _labels(image))
    names = sorted(counts, key=lambda label: (-counts[label], label))
    places = {name: place for place, name in enumerate(names)}
    units = _units(data_map.points)
    moves: Dict[str, List[str]] = {name: [] for name in names}
    for image, (x, y) in zip(data_map.images, units.tolist()):
        for label in _labels(image):
            moves[label].append(f"M{x} {y}h0")
    labels = [MapLabel(name, counts[name], Markup("".join(moves[name]))) for name in names]
    pictures = [
        MapPicture(image, row, column, sorted(places[label] for label in _labels(image)))
        for row, column, image in _one_of_each_cell(data_map.images, units)
    ]
    return DrawnMap(labels, pictures)


def _labels(image: CheckedImage) -> Sequence[str]:
    return image.labels or ("no label",)


def _units(points: np.ndarray) -> np.ndarray:
    """Return points in units of the map, x to the right and y downward, as whole numbers."""
    low, high = np.percentile(points, [EDGE, 100 - EDGE], axis=0)
    width = np.where(high > low, high - low, 1)
    shares = np.where(high > low, (points.clip(low, high) - low) / width, 0.5)
    inside = MARGIN + shares * (UNITS - 2 * MARGIN)
    return np.stack([inside[:, 0], UNITS - inside[:, 1]], axis=1).round().astype(int)


def _one_of_each_cell(
    images: Sequence[CheckedImage], units: np.ndarray
) -> Iterator[Tuple[int, int, CheckedImage]]:
    """Yield the row and column, from 1, of each cell with images, and the one in its middle."""
    side = UNITS // CELLS
    cells = np.minimum(units // side, CELLS - 1)
    distances = np.square(units - (cells + 0.5) * side).sum(1)
    # Shape: (images,)
    numbers = cells[:, 1] * CELLS + cells[:, 0]
    order = np.lexsort((distances, numbers))
    _, first = np.unique(numbers[order], return_index=True)
    for place in order[first].tolist():
        yield int(cells[place, 1]) + 1, int(cells[place, 0]) + 1, images[place]

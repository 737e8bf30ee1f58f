import re
from typing import List, Optional, Tuple

import numpy as np

from allencv.data.inspection import CheckedImage, Facts
from allencv.reporting.data_map import MARGIN, UNITS, DataMap, drawn


def data_map(points: np.ndarray, labels: List[Optional[Tuple[str, ...]]]) -> DataMap:
    images = [
        CheckedImage("train", row, f"{row}.jpg", names, Facts()) for row, names in enumerate(labels)
    ]
    return DataMap(images, points, "pca")


def places(path: str) -> List[Tuple[int, int]]:
    assert re.fullmatch(r"(M\d+ \d+h0)*", path)
    return [(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h0", path)]


def test_points_fill_the_map() -> None:
    low, high = MARGIN, UNITS - MARGIN
    points = np.array([[-5.0, 2.0], [15.0, 4.0], [5.0, 3.0]])
    (label,) = drawn(data_map(points, [("a",)] * 3)).labels
    (left, lower), (right, upper), middle = places(label.path)
    # The largest y is at the top.
    assert abs(left - low) <= 1
    assert abs(right - high) <= 1
    assert abs(lower - high) <= 1
    assert abs(upper - low) <= 1
    assert middle == (UNITS // 2, UNITS // 2)


def test_one_point_far_away_leaves_room_for_the_others() -> None:
    points = np.random.default_rng(0).random((1000, 2))
    points[7] = 1e6
    (label,) = drawn(data_map(points, [("a",)] * 1000)).labels
    found = np.array(places(label.path))
    assert found.min() >= MARGIN
    assert found.max() <= UNITS - MARGIN
    assert found.std(0).min() > 200


def test_equal_points_are_in_the_middle() -> None:
    (label,) = drawn(data_map(np.ones((3, 2)), [("a",)] * 3)).labels
    assert places(label.path) == [(UNITS // 2, UNITS // 2)] * 3


def test_labels_the_largest_first() -> None:
    points = np.random.default_rng(0).random((5, 2))
    found = drawn(data_map(points, [("b",), ("c", "b"), ("a",), None, ("c", "b")])).labels
    assert [(label.name, label.images) for label in found] == [
        ("b", 3),
        ("c", 2),
        ("a", 1),
        ("no label", 1),
    ]
    # An image of several labels is drawn with each.
    assert places(found[1].path) == places(found[0].path)[1:]


def test_a_picture_for_each_cell() -> None:
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(20)), axis=-1).reshape(-1, 2)
    found = drawn(data_map(grid, [("a",), ("b",)] * 200)).pictures
    assert len({(picture.row, picture.column) for picture in found}) == len(found) == 100
    for picture in found:
        x, y = grid[picture.image.index]
        assert (picture.column - 1, 10 - picture.row) == (x // 2, y // 2)
        assert picture.labels == [picture.image.index % 2]

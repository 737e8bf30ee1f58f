import numpy as np
import pytest

from allencv.features.vector_checks import check_labels, check_vectors
from allencv.runtime.errors import InputError


def test_vectors_become_float32() -> None:
    vectors = np.ones((3, 2), np.float16)
    assert check_vectors(vectors).dtype == np.float32


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(number: float) -> None:
    vectors = np.ones((5, 3), np.float16)
    vectors[2, 1] = number
    with pytest.raises(InputError, match=r"^vector 2 contains NaN or infinity; expected finite"):
        check_vectors(vectors)
    with pytest.raises(InputError, match="^vector 102 "):
        check_vectors(vectors, first_row=100)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (2, 3, 4)])
def test_shapes(shape: tuple) -> None:
    with pytest.raises(InputError, match="^the vectors have the shape .* expected"):
        check_vectors(np.ones(shape))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 1], 2, "there are 2 labels for 3 vectors"),
        ([0, 0, 0], 1, "there is 1 class; expected 2 or more"),
        ([0, 1, 2], 2, "the labels are 0 to 2; expected 0 to 1"),
        ([0, -1, 1], 2, "the labels are -1 to 1; expected 0 to 1"),
        ([0, 2, 2], 3, "class 1 has no image; expected one or more"),
        ([0, 1, 1], 3, "class 2 has no image; expected one or more"),
        ([[0, 1], [2, 0], [0, 0]], 2, "values from 0 to 2; expected .3, 2. and 0 or 1"),
        ([[0, 1], [1, 0], [0, 0]], 3, "the labels have the shape .3, 2."),
    ],
)
def test_labels_that_do_not_fit(labels: list, classes: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_labels(np.array(labels), 3, classes, every_class=True)


def test_labels_that_fit() -> None:
    check_labels(np.array([0, 2, 2]), 3, 3)
    check_labels(np.array([0, 2, 1]), 3, 3, every_class=True)
    check_labels(np.array([[True, False], [False, False], [True, True]]), 3, 2)

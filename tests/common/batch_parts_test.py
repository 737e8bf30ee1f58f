import os
import threading
from typing import Any, List, Set

import numpy as np
import pytest
import torch

from allencv.common.batch_parts import compute_in_parts

IMAGES = np.arange(14, dtype=np.float32).reshape(7, 2)


@pytest.fixture(autouse=True)
def three_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_the_parts_are_those_of_the_batch_in_order() -> None:
    sizes: List[int] = []
    threads: Set[int] = set()
    at_once = threading.Barrier(3, timeout=60)

    def compute(images: np.ndarray) -> np.ndarray:
        at_once.wait()
        assert torch.get_num_threads() == 1
        sizes.append(len(images))
        threads.add(threading.get_ident())
        return images * 2

    for _ in range(2):
        np.testing.assert_array_equal(compute_in_parts(compute, IMAGES), IMAGES * 2)
    assert sorted(sizes) == [2, 2, 2, 2, 3, 3]
    assert len(threads) == 3
    assert torch.get_num_threads() == 3


def test_a_small_batch_has_fewer_parts() -> None:
    found = compute_in_parts(lambda images: np.full(len(images), len(images)), IMAGES[:2])
    assert found.tolist() == [1, 1]


def test_one_thread_computes_the_batch_itself() -> None:
    torch.set_num_threads(1)
    here = threading.get_ident()
    found = compute_in_parts(lambda images: np.array([threading.get_ident()]), IMAGES)
    assert found.tolist() == [here]


def test_an_error_is_raised() -> None:
    def compute(images: np.ndarray) -> np.ndarray:
        raise ValueError("too large")

    with pytest.raises(ValueError, match="too large"):
        compute_in_parts(compute, IMAGES)


def test_a_forked_process_has_threads_of_its_own() -> None:
    compute_in_parts(np.negative, IMAGES)
    child = os.fork()
    if child == 0:
        is_right = np.array_equal(compute_in_parts(np.negative, IMAGES), -IMAGES)
        os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0

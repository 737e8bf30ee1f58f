import random

import numpy as np
import pytest
import torch

from allencv.common.random_state import keep_random_state


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_drawn_inside_changes_nothing_outside(fails: bool) -> None:
    def draw() -> object:
        return torch.rand(2).tolist(), random.random(), np.random.rand()  # noqa: NPY002

    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
    expected = draw()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
    try:
        with keep_random_state():
            draw()
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert draw() == expected

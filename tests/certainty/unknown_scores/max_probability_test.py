import numpy as np
import pytest
import torch

from allencv.certainty.unknown_scores import MaxProbability, UnknownScore
from tests.certainty.unknown_scores.vectors import scored, vectors


def test_it_is_1_minus_the_highest_probability() -> None:
    given = vectors()
    expected = 1 - given.probabilities.max(axis=1)
    assert scored(MaxProbability(), given) == pytest.approx(expected)


def test_it_is_that_of_pytorch_ood_up_to_1() -> None:
    detector = pytest.importorskip("pytorch_ood.detector")
    given = vectors()
    expected = detector.MaxSoftmax.score(torch.from_numpy(given.logits))
    assert scored(MaxProbability(), given) - 1 == pytest.approx(expected.numpy(), abs=1e-6)


def test_of_several_labels_the_least_certain_counts() -> None:
    given = vectors()._replace(probabilities=np.array([[0.1, 0.6], [0.95, 0.02]], np.float32))
    assert scored(MaxProbability(), given, multi_label=True) == pytest.approx([0.4, 0.05])


def test_it_is_registered() -> None:
    assert UnknownScore.by_name("max_probability") is MaxProbability

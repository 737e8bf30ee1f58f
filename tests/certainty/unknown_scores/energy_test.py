import numpy as np
import pytest
import torch

from allencv.certainty.unknown_scores import Energy, UnknownScore
from tests.certainty.unknown_scores.vectors import scored, vectors


def test_it_is_the_free_energy() -> None:
    given = vectors()
    expected = -torch.logsumexp(torch.from_numpy(given.logits), dim=1)
    assert scored(Energy(), given) == pytest.approx(expected.numpy(), rel=1e-5)


def test_it_is_that_of_pytorch_ood() -> None:
    detector = pytest.importorskip("pytorch_ood.detector")
    given = vectors()
    expected = detector.EnergyBased.score(torch.from_numpy(given.logits))
    assert scored(Energy(), given) == pytest.approx(expected.numpy(), rel=1e-5)


def test_the_energies_of_several_labels_are_added() -> None:
    given = vectors()
    expected = -np.log1p(np.exp(given.logits)).sum(axis=1)
    assert scored(Energy(), given, multi_label=True) == pytest.approx(expected, rel=1e-5)


def test_it_is_registered() -> None:
    assert UnknownScore.by_name("energy") is Energy
    assert not Energy.most_images

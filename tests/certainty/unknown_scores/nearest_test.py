import numpy as np
import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.certainty.unknown_scores import Nearest, UnknownScore
from tests.certainty.unknown_scores.vectors import scored, vectors

FLOAT16 = 2e-3
"""How far rounding the kept vectors may move a distance."""


@pytest.mark.parametrize("neighbour", [2, 10])
def test_it_is_the_distance_to_the_kth_neighbour(neighbour: int) -> None:
    given = vectors(size=64)

    def unit(array: np.ndarray) -> np.ndarray:
        return array / np.linalg.norm(array, axis=1, keepdims=True)

    differences = unit(given.new)[:, None] - unit(given.known.vectors)[None]
    expected = np.sort(np.linalg.norm(differences, axis=2), axis=1)[:, neighbour - 1]
    found = scored(Nearest(neighbour=neighbour), given)
    assert found == pytest.approx(expected, abs=FLOAT16)


def test_it_is_that_of_pytorch_ood() -> None:
    given = vectors(size=64)
    detector = pytest.importorskip("pytorch_ood.detector").KNN(None, k=10)
    detector.fit_features(torch.from_numpy(given.known.vectors), torch.from_numpy(given.labels))
    expected = detector.predict_features(torch.from_numpy(given.new)).numpy()
    assert scored(Nearest(), given) == pytest.approx(expected, abs=FLOAT16)


def test_some_images_are_kept() -> None:
    given = vectors()
    arrays = Nearest(neighbour=2, most_images=50).fit(given.known)
    assert (arrays["kept"].shape, arrays["kept"].dtype) == ((50, 12), np.float16)
    again = Nearest(neighbour=2, most_images=50).fit(given.known)
    assert (again["kept"] == arrays["kept"]).all()
    other = Nearest(neighbour=2, most_images=50, seed=1).fit(given.known)
    assert (other["kept"] != arrays["kept"]).any()


def test_fewer_images_than_neighbours(caplog: pytest.LogCaptureFixture) -> None:
    given = vectors(images=4)
    assert Nearest().fit(given.known)["neighbour"] == 4
    assert "is 10, and there are 4 training images" in caplog.text
    assert np.isfinite(scored(Nearest(), given)).all()


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="neighbour is 0 and most_images 1000"):
        UnknownScore.by_name("nearest")(neighbour=0)
    with pytest.raises(ConfigurationError, match="at most most_images"):
        UnknownScore.by_name("nearest")(neighbour=10, most_images=5)

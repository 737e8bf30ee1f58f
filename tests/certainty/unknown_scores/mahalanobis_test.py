import numpy as np
import pytest
import torch
from allennlp.common.checks import ConfigurationError
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf

from allencv.certainty.unknown_scores import KnownImages, Mahalanobis, UnknownScore
from allencv.runtime.errors import InputError
from tests.certainty.unknown_scores.vectors import scored, vectors


def test_it_is_that_of_pytorch_ood_up_to_the_number_of_images() -> None:
    detector = pytest.importorskip("pytorch_ood.detector").Mahalanobis(None)
    given = vectors()
    # In float64, as theirs does not centre the vectors. It adds the images up, without a mean.
    known = torch.from_numpy(given.known.vectors.astype(np.float64))
    detector.fit_features(known - 5, torch.from_numpy(given.labels))
    expected = detector.predict_features(torch.from_numpy(given.new) - 5).numpy()
    found = scored(Mahalanobis(shrinkage=0.0), given)
    assert found == pytest.approx(expected * len(given.labels), rel=1e-3)


def test_it_is_the_distance_with_the_covariance_of_ledoit_and_wolf() -> None:
    given = vectors(images=60)
    known = given.known.vectors.astype(np.float64)
    means = np.stack([known[given.labels == label].mean(axis=0) for label in range(4)])
    covariance = LedoitWolf(assume_centered=True).fit(known - means[given.labels]).covariance_
    inverse = np.linalg.inv(covariance)
    expected = 0.5 * (cdist(given.new, means, "mahalanobis", VI=inverse) ** 2).min(axis=1)
    assert scored(Mahalanobis(), given) == pytest.approx(expected, rel=1e-4)


def test_vectors_far_from_the_origin_lose_no_digits() -> None:
    """Squares of a thousand, of which one is subtracted from another."""
    given = vectors()
    near = scored(Mahalanobis(), given)
    moved = given._replace(
        known=given.known._replace(vectors=given.known.vectors + 200), new=given.new + 200
    )
    assert scored(Mahalanobis(), moved) == pytest.approx(near, rel=1e-3)


def test_numbers_that_do_not_vary_do_not_count() -> None:
    """As those that are 0 in all images after a ReLU."""
    given = vectors()
    expected = scored(Mahalanobis(), given)

    def widened(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, np.zeros((len(array), 3), array.dtype)], axis=1)

    wide = given._replace(
        known=given.known._replace(vectors=widened(given.known.vectors)), new=widened(given.new)
    )
    found = scored(Mahalanobis(shrinkage=0.0), wide)
    assert found == pytest.approx(scored(Mahalanobis(shrinkage=0.0), given), rel=1e-4)
    assert np.corrcoef(scored(Mahalanobis(), wide), expected)[0, 1] > 0.99


def test_a_label_without_images_is_near_to_none() -> None:
    given = vectors()
    targets = np.concatenate([given.known.targets, np.zeros((300, 1), bool)], axis=1)
    more = given._replace(known=given.known._replace(targets=targets))
    assert scored(Mahalanobis(), more) == pytest.approx(scored(Mahalanobis(), given))


def test_an_image_with_several_labels_counts_for_each() -> None:
    known = vectors().known
    targets = known.targets.copy()
    targets[:, 0] |= targets[:, 1]
    arrays = Mahalanobis().fit(KnownImages(known.vectors, targets, known.weight, known.bias))
    mean = known.vectors[targets[:, 0]].mean(axis=0)
    expected = (mean - arrays["centre"]) @ arrays["whitening"]
    assert arrays["means"][0] == pytest.approx(expected, rel=1e-3)


def test_a_shrinkage_that_is_no_share_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"shrinkage is 2; expected a number in \[0, 1\]"):
        UnknownScore.by_name("mahalanobis")(shrinkage=2)


def test_images_that_do_not_differ_have_no_covariance() -> None:
    known = vectors().known._replace(
        vectors=np.eye(2, 8, dtype=np.float32), targets=np.eye(2, dtype=bool)
    )
    with pytest.raises(InputError, match="needs training images that differ .* and 2 do not"):
        Mahalanobis().fit(known)

"""Networks of several kinds as graphs, in ONNX and for torch, against the networks themselves."""

from pathlib import Path
from typing import Any, Dict, Union

import numpy as np
import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive

from allencv.exporting import TorchClassifier, export_bundle
from allencv.exporting.network import Network
from allencv.models.pixel_normalization import PixelNormalization
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.runtime import Classifier, OnnxClassifier
from tests.conftest import ROOT, write_images
from tests.exporting.archives import archive_of, small_resnet, timm_network

pytestmark = pytest.mark.slow

NETWORKS = {
    "convnext": timm_network("test_convnext", 64, timm_arguments={"depths": [1, 1, 1, 1]}),
    "efficientnet": timm_network("test_efficientnet", 256),
    "resnet": timm_network("test_resnet", 96),
    "vit": timm_network("test_vit", 64, image_size=32, timm_arguments={"depth": 2}),
}


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def expected_of(archive: Archive) -> np.ndarray:
    with torch.inference_mode():
        images = torch.tensor(pixels()).permute(0, 3, 1, 2)
        return archive.model.eval()(image=images)["probs"].numpy()


def expected_vectors_of(archive: Archive) -> np.ndarray:
    with torch.inference_mode():
        return archive.model.eval().encode(torch.tensor(pixels()).permute(0, 3, 1, 2)).numpy()


def assert_probabilities(classifier: Classifier, expected: np.ndarray) -> None:
    for count in (3, 1):
        given = classifier.probabilities(pixels()[:count])
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, expected[:count], atol=1e-5)


def assert_vectors(
    classifier: Union[OnnxClassifier, TorchClassifier], expected: np.ndarray
) -> None:
    assert classifier.vector_size == expected.shape[1]
    for count in (3, 1):
        given = classifier.vectors(pixels()[:count])
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, expected[:count], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_bundle_is_its_network(name: str, tmp_path: Path) -> None:
    archive = archive_of(NETWORKS[name])
    expected, vectors = expected_of(archive), expected_vectors_of(archive)
    export_bundle(archive, tmp_path / "onnx", parity=False)
    classifier = OnnxClassifier(tmp_path / "onnx")
    assert_probabilities(classifier, expected)
    assert_vectors(classifier, vectors)


def test_a_bundle_for_torch_is_its_network(tmp_path: Path) -> None:
    """It holds the graph that each of those above is made from."""
    archive = archive_of(NETWORKS["vit"])
    expected, vectors = expected_of(archive), expected_vectors_of(archive)
    export_bundle(archive, tmp_path / "torch", format="torch_export", parity=False)
    classifier = TorchClassifier(tmp_path / "torch", trusted=True)
    assert_probabilities(classifier, expected)
    assert_vectors(classifier, vectors)
    assert str(ROOT).encode() not in (tmp_path / "torch" / "model.pt2").read_bytes()


def test_a_network_that_comes_out_wrong_is_stopped(tmp_path: Path) -> None:
    """
    timm resizes the position embeddings of this one in the graph, by an interpolation that ONNX
    does in another way: `image_size` in the config has them resized before.
    """
    photos = write_images(tmp_path / "photos", {"a": 4})
    archive = archive_of(
        timm_network("test_vit", 64, timm_arguments={"dynamic_img_size": True, "depth": 1}),
        [{"type": "eval", "size": 224}],
    )
    images = sorted(map(str, photos.rglob("*.jpg")))
    with pytest.raises(ConfigurationError, match=r"the bundle differs from the archive: .* 4 im"):
        export_bundle(archive, tmp_path / "bundle", images=images)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_normalization_of_the_reader_comes_first() -> None:
    archive = archive_of(small_resnet())
    network = Network(archive.model, PixelNormalization([0.5], [0.25]))
    images = torch.tensor(pixels())
    normalized = (images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    expected = archive.model(image=normalized)["probs"], archive.model.encode(normalized)
    torch.testing.assert_close(network(images), expected)


def test_the_vectors_are_those_of_the_images_without_their_views() -> None:
    archive = archive_of({**small_resnet(), "test_time_augmentation": ["vertical_flip"]})
    probabilities, vectors = Network(archive.model)(torch.tensor(pixels()))
    np.testing.assert_allclose(vectors, expected_vectors_of(archive), rtol=1e-5)
    np.testing.assert_allclose(probabilities, expected_of(archive), atol=1e-6)
    flipped = torch.tensor(pixels()[:, ::-1].copy())
    others, of_flipped = Network(archive.model)(flipped)
    torch.testing.assert_close(others, probabilities)  # the mean is of the same two views
    assert not torch.allclose(of_flipped, vectors)


class OfTheUser(Im2ImEncoder):
    """What a user may have written, and what has no graph."""

    def get_input_channels(self) -> int:
        return 3

    def get_output_channels(self) -> int:
        return 3


@Im2ImEncoder.register("decides_by_the_image")
class DecidesByTheImage(OfTheUser):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image if image.sum() > 0 else -image


@Im2ImEncoder.register("counts_by_the_image")
class CountsByTheImage(OfTheUser):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[..., : 1 + int(image.argmax() % 3)]


@Im2ImEncoder.register("of_two_images")
class OfTwoImages(OfTheUser):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.reshape(2, 3, 32, 32)


@Im2ImEncoder.register("refuses")
class Refuses(OfTheUser):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        raise ValueError("\x1b[96mno image\x1b[0m\nis good enough")


@Im2ImEncoder.register("decomposes")
class Decomposes(OfTheUser):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.linalg.svd(image)[1].unsqueeze(-1)


def of_the_user(name: str) -> Dict[str, Any]:
    return {
        "im2im_encoder": {"type": name},
        "im2vec_encoder": {"type": "pooling", "input_channels": 3},
    }


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("decides_by_the_image", r": its code depends on the values of an image \(in an 'if', a"),
        ("counts_by_the_image", r": its code depends on the values of an image \(in an 'if', a"),
        ("of_two_images", ": its code works for one number of images only; expected sizes that"),
        ("refuses", r" \(.*network_test.py, line \d+\): ValueError: no image; set"),
    ],
)
def test_a_network_without_a_graph(
    format: str, name: str, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    archive = archive_of(of_the_user(name))
    with pytest.raises(ConfigurationError, match=f"network cannot be exported.*{reason}") as raised:
        export_bundle(archive, tmp_path / "bundle", format=format, parity=False)
    assert str(raised.value).isprintable()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""


def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    archive = archive_of(of_the_user("decomposes"))
    with pytest.raises(ConfigurationError) as raised:
        export_bundle(archive, tmp_path / "bundle", parity=False)
    assert str(raised.value).startswith(
        "the network cannot be exported: ONNX has no operator for torch's 'aten._linalg_svd', "
        "which model.im2im_encoder (Decomposes) uses; write that part with other operations"
    )
    assert "--format torch_export" in str(raised.value)
    assert str(raised.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.half, torch.double])
def test_a_model_in_another_precision_is_made_float32(dtype: torch.dtype) -> None:
    archive = archive_of(small_resnet())
    expected = expected_of(archive)
    archive.model.to(dtype)
    given, vectors = Network(archive.model)(torch.tensor(pixels()))
    assert given.dtype == vectors.dtype == torch.float32
    np.testing.assert_allclose(given, expected, atol=1e-3 if dtype == torch.half else 1e-6)


def test_a_model_in_half_precision_is_exported_in_float32(tmp_path: Path) -> None:
    archive = archive_of(small_resnet())
    expected = expected_of(archive)
    archive.model.half()
    export_bundle(archive, tmp_path / "bundle", parity=False)
    given = OnnxClassifier(tmp_path / "bundle").probabilities(pixels())
    np.testing.assert_allclose(given, expected, atol=1e-3)


def test_images_of_a_size_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="40 by 40 pixels .*image_size"):
        export_bundle(
            archive_of(NETWORKS["vit"], [{"type": "eval", "size": 40}]),
            tmp_path / "bundle",
            parity=False,
        )
    assert list(tmp_path.iterdir()) == []

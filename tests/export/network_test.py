"""Networks of several kinds as graphs, in ONNX and for torch, against the networks themselves."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.export import TorchClassifier, export_bundle
from allencv.export.network import Network
from allencv.models.pixel_normalization import PixelNormalization
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.runtime import OnnxClassifier
from tests.conftest import ROOT, write_images
from tests.export.archives import archive_of, small_resnet, timm_network

NETWORKS = {
    "convnext": timm_network("test_convnext", 64),
    "efficientnet": timm_network("test_efficientnet", 256),
    "resnet": timm_network("test_resnet", 96),
    "vit": timm_network("test_vit", 64, image_size=32),
}


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_bundle_is_its_network(name: str, tmp_path: Path) -> None:
    archive = archive_of(NETWORKS[name])
    with torch.inference_mode():
        images = torch.tensor(pixels()).permute(0, 3, 1, 2)
        expected = archive.model.eval()(image=images)["probs"].numpy()
    export_bundle(archive, tmp_path / "onnx", parity=False)
    export_bundle(archive, tmp_path / "torch", format="torch_export", parity=False)
    for classifier in (
        OnnxClassifier(tmp_path / "onnx"),
        TorchClassifier(tmp_path / "torch", trusted=True),
    ):
        for count in (3, 1):
            given = classifier.probabilities(pixels()[:count])
            assert given.dtype == np.float32
            np.testing.assert_allclose(given, expected[:count], atol=1e-5)
    assert str(ROOT).encode() not in (tmp_path / "torch" / "model.pt2").read_bytes()


def test_a_network_that_comes_out_wrong_is_stopped(tmp_path: Path) -> None:
    """
    timm resizes the position embeddings of this one in the graph, by an interpolation that ONNX
    does in another way: `image_size` in the config has them resized before.
    """
    photos = write_images(tmp_path / "photos", {"a": 4})
    archive = archive_of(
        timm_network("test_vit", 64, timm_arguments={"dynamic_img_size": True}),
        [{"type": "eval", "size": 224}],
    )
    images = sorted(map(str, photos.rglob("*.jpg")))
    with pytest.raises(ConfigurationError, match=r"the bundle is not like the archive: .* 4 image"):
        export_bundle(archive, tmp_path / "bundle", images=images)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_normalization_of_the_reader_comes_first() -> None:
    archive = archive_of(small_resnet())
    network = Network(archive.model, PixelNormalization([0.5], [0.25]))
    images = torch.tensor(pixels())
    normalized = (images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    expected = archive.model(image=normalized)["probs"]
    torch.testing.assert_close(network(images), expected)


@Im2ImEncoder.register("decides_by_the_image")
class DecidesByTheImage(Im2ImEncoder):
    """Its way through the code depends on the pixels, so that there is no one graph."""

    def get_input_channels(self) -> int:
        return 3

    def get_output_channels(self) -> int:
        return 3

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image if image.sum() > 0 else -image


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_a_network_without_a_graph(format: str, tmp_path: Path) -> None:
    config: Dict[str, Any] = {
        "im2im_encoder": {"type": "decides_by_the_image"},
        "im2vec_encoder": {"type": "pooling", "input_channels": 3},
    }
    with pytest.raises(ConfigurationError, match="the network cannot be exported: ") as raised:
        export_bundle(archive_of(config), tmp_path / "bundle", format=format, parity=False)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_images_of_a_size_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="40 by 40 pixels .*image_size"):
        export_bundle(
            archive_of(NETWORKS["vit"], [{"type": "eval", "size": 40}]),
            tmp_path / "bundle",
            parity=False,
        )
    assert list(tmp_path.iterdir()) == []

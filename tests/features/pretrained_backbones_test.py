from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from allennlp.common.checks import ConfigurationError
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from allencv.features.embedding import vectors_checksum
from allencv.features.pretrained_backbones import (
    PretrainedBackbone,
    has_weights_here,
    networks_here,
    pretrained,
)
from allencv.runtime.errors import InputError

TINY, TINY_SIZE = "test_resnet", 160


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "image.png"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((300, 220), Image.Resampling.BICUBIC).save(path)
    return path


def made_random(network: Any) -> Any:
    """Make weights and statistics such that outputs depend on the image."""
    torch.manual_seed(0)
    for name, each in network.state_dict().items():
        if each.dtype == torch.float32:
            values = torch.rand(each.shape) if each.dim() == 1 else torch.randn(each.shape) * 0.2
            each.copy_(values + 0.5 if "var" in name else values)
    return network.eval()


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(made_random(timm.create_model(TINY)).state_dict(), path)
    return str(path)


def vectors_of(backbone: PretrainedBackbone, image: Path) -> np.ndarray:
    return backbone.vectors(np.stack([backbone.preprocess(str(image))]))[0]


def test_a_network_of_timm_as_timm_computes_it(image: Path, timm_file: str) -> None:
    network = timm.create_model(TINY, num_classes=0)
    state = torch.load(timm_file)
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    transform = create_transform(**resolve_model_data_config(network), is_training=False)
    with torch.no_grad():
        expected = network.eval()(transform(Image.open(image))[None])[0].numpy()
    backbone = PretrainedBackbone(TINY, timm_file, device="cpu")
    assert backbone.vector_size == len(expected)
    assert backbone.preprocessing.height == TINY_SIZE
    found = vectors_of(backbone, image)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.ptp(expected) > 0


def test_a_network_of_torchvision_as_torchvision_computes_it(image: Path, tmp_path: Path) -> None:
    name = "shufflenet_v2_x0_5"
    network = made_random(torchvision.models.get_model(name))
    file = tmp_path / "weights.pth"
    torch.save(network.state_dict(), file)
    network.fc = torch.nn.Identity()
    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    with torch.no_grad():
        expected = network(transform(Image.open(image))[None])[0].numpy()
    found = vectors_of(PretrainedBackbone(name, str(file), device="cpu"), image)
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert np.ptp(expected) > 0


def test_the_size_of_the_images(image: Path, timm_file: str) -> None:
    backbone = PretrainedBackbone(TINY, timm_file, size=64, device="cpu")
    assert backbone.preprocess(str(image)).shape == (64, 64, 3)
    assert vectors_of(backbone, image).shape == (backbone.vector_size,)
    with pytest.raises(InputError, match=r"--size: height is 0; expected 1 to 8192 pixels"):
        pretrained(TINY, timm_file, 0)


def test_bfloat16(image: Path, timm_file: str) -> None:
    exact = vectors_of(PretrainedBackbone(TINY, timm_file, device="cpu"), image)
    half = PretrainedBackbone(TINY, timm_file, device="cpu", precision="bfloat16")
    found = vectors_of(half, image)
    assert found.dtype == np.float32
    assert not np.array_equal(found, exact)
    cosine = found @ exact / np.linalg.norm(found) / np.linalg.norm(exact)
    assert cosine > 0.99
    with pytest.raises(ConfigurationError, match=r"precision is 'int8'; expected one of"):
        PretrainedBackbone(TINY, timm_file, device="cpu", precision="int8")


def test_small_maps_are_computed_in_float32(image: Path, timm_file: str) -> None:
    """In bfloat16, torch may read memory that nothing was written to."""
    half = PretrainedBackbone(TINY, timm_file, 32, "cpu", "bfloat16")
    types = {}

    def note(module: Any, inputs: Any, output: torch.Tensor) -> None:
        is_small = min(inputs[0].shape[2:]) <= 8
        types.setdefault((max(module.stride) > 1, is_small), set()).add(output.dtype)

    for module in half._network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(note)
    assert np.isfinite(vectors_of(half, image)).all()
    assert types[True, True] == {torch.float32}
    assert types[False, True] == {torch.bfloat16}


def test_what_decides_the_vectors_is_in_the_checksum(timm_file: str, tmp_path: Path) -> None:
    changed = torch.load(timm_file)
    next(iter(changed.values())).flatten()[0] += 1
    torch.save(changed, tmp_path / "other.pth")
    checksums = {
        vectors_checksum(PretrainedBackbone(TINY, weights, size, "cpu", precision))
        for weights, size, precision in (
            (timm_file, None, "float32"),
            (timm_file, TINY_SIZE, "float32"),
            (timm_file, 64, "float32"),
            (timm_file, None, "bfloat16"),
            (str(tmp_path / "other.pth"), None, "float32"),
        )
    }
    assert len(checksums) == 4


def test_a_transformer_is_built_for_the_size(image: Path, tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    backbone = PretrainedBackbone("test_vit", str(tmp_path / "vit.pth"), size=80, device="cpu")
    assert vectors_of(backbone, image).shape == (backbone.vector_size,)


@pytest.mark.parametrize("name", [TINY, "shufflenet_v2_x0_5"])
def test_weights_that_are_not_here(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no connection")

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"")
    (tmp_path / "models--timm--resnet50.a1_in1k").mkdir()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr(timm.models._builder, "load_pretrained", unreachable)
    monkeypatch.setattr("allencv.features.pretrained_backbones.packaged_weights", lambda name: None)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(InputError) as raised:
        pretrained(name)
    message = str(raised.value)
    assert message == (
        f"the weights of {name} are not here and cannot be downloaded; expected a connection, "
        "--weights FILE, or a network with weights here (resnet18, resnet50.a1_in1k) "
        "(OSError: no connection)"
    )
    assert "\n" not in message


def test_no_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "nothing"))
    monkeypatch.setattr("allencv.features.pretrained_backbones.packaged_weights", lambda name: None)
    assert networks_here() == []


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("efficientnet_b0", "checkpoints/efficientnet_b0_rwightman-7f5810bc.pth"),
        ("mobilenetv3_large_100", "models--timm--mobilenetv3_large_100.ra_in1k"),
        ("mobilenetv3_large_100.ra_in1k", "models--timm--mobilenetv3_large_100.ra_in1k"),
    ],
)
def test_weights_that_are_here(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not has_weights_here(name)
    (tmp_path / file).mkdir(parents=True)
    assert has_weights_here(name)
    assert not has_weights_here("resnet50")


def test_a_file_of_weights_that_does_not_fit(timm_file: str) -> None:
    with pytest.raises(ConfigurationError, match=r"weights is '.*tiny.pth', which"):
        pretrained("shufflenet_v2_x0_5", timm_file)

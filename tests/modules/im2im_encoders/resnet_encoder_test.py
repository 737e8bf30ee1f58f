import copy
import inspect
from urllib.error import URLError

import pytest
import torch
import torchvision
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torch.nn.modules.batchnorm import _BatchNorm

from allencv.modules.im2im_encoders import (
    Im2ImEncoder,
    ResnetEncoder,
    TimmEncoder,
    TorchvisionEncoder,
)


@pytest.fixture(scope="module")
def resnet():
    """torchvision's own resnet18 with random weights and running statistics."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def weights_file(resnet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet.state_dict(), path)
    return str(path)


def train_one_step(encoder):
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    images = torch.randn(4, encoder.get_input_channels(), 32, 32, requires_grad=True)
    encoder.train()(images).square().sum().backward()
    if trained:
        torch.optim.SGD(trained, lr=0.1).step()


def changed_by_training(encoder):
    """The layers in which a parameter or a buffer differs after training steps."""
    before = copy.deepcopy(encoder.state_dict())
    train_one_step(encoder)
    train_one_step(encoder.eval())
    after = encoder.state_dict()
    return {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("resnet_model", "channels"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)]
)
def test_dimensions(resnet_model, channels):
    with torch.device("meta"):
        encoder = ResnetEncoder(resnet_model, weights=None)
        assert encoder.get_input_channels() == 3
        assert encoder.get_output_channels() == channels
        assert encoder.get_stride() is None
        assert encoder.eval()(torch.randn(1, 3, 40, 33)).shape == (1, channels, 1, 1)


def test_stages_are_the_paper_s():
    with torch.device("meta"):
        stages = ResnetEncoder("resnet18", weights=None).get_stages()
    assert stages == [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]


def test_without_pool_there_is_one_pixel_for_32():
    with torch.device("meta"):
        encoder = ResnetEncoder("resnet18", weights=None, pool=False)
        assert encoder.get_stride() == 32
        assert encoder(torch.randn(1, 3, 64, 97)).shape == (1, 512, 2, 4)  # rounded up


def test_from_the_params_of_the_tutorial():
    params = {"type": "pretrained_resnet", "resnet_model": "resnet50", "requires_grad": True}
    with torch.device("meta"):
        encoder = Im2ImEncoder.from_params(Params({**params, "weights": None}))
    assert isinstance(encoder, ResnetEncoder)
    assert "layer4.0.conv1.weight" in encoder.state_dict()
    assert not any(name.startswith("fc") for name in encoder.state_dict())
    first = next(iter(inspect.signature(ResnetEncoder).parameters))
    assert first == "resnet_model"


def test_forward_is_torchvisions_network_up_to_the_classifier(resnet, weights_file):
    encoder = ResnetEncoder("resnet18", weights=weights_file).eval()
    images = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        assert torch.equal(resnet.fc(encoder(images).flatten(1)), resnet(images))


def test_weights_by_name_come_from_torch_hubs_folder(resnet, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(resnet.state_dict(), folder / "resnet18-f37072fd.pth")
    for name in ("DEFAULT", "IMAGENET1K_V1"):
        encoder = ResnetEncoder("resnet18", weights=name)
        assert torch.equal(encoder.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)
    assert torch.equal(ResnetEncoder("resnet18").conv1.weight, resnet.conv1.weight)


def test_a_failed_download_says_what_to_do(monkeypatch, tmp_path):
    def download(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(ConfigurationError) as error, torch.device("meta"):
        ResnetEncoder("resnet50")
    message = str(error.value)
    assert f"could not load resnet50-11ad3fa6.pth from {tmp_path}/hub/checkpoints" in message
    assert "Name or service not known" in message
    assert "set weights to a local file, or to null" in message


def test_a_file_may_lack_the_classifier_and_the_batch_counters(resnet, tmp_path):
    path = tmp_path / "trunk.pth"
    state = resnet.state_dict()
    keys = [k for k in state if not k.startswith("fc.") and not k.endswith("num_batches_tracked")]
    torch.save({key: state[key] for key in keys}, path)
    encoder = ResnetEncoder("resnet18", weights=str(path))
    assert torch.equal(encoder.bn1.running_mean, resnet.bn1.running_mean)


def test_a_file_that_does_not_fit_is_refused(resnet, weights_file, tmp_path):
    path = str(tmp_path / "other.pth")

    def refused(state, resnet_model="resnet18"):
        torch.save(state, path)
        with pytest.raises(ConfigurationError) as error, torch.device("meta"):
            ResnetEncoder(resnet_model, weights=path)
        assert f"weights is {path!r}, which " in str(error.value)
        return str(error.value)

    # Small on the disk: only names and shapes matter.
    state = {key: torch.zeros(()).expand(value.shape) for key, value in resnet.state_dict().items()}
    assert "lacks bn1.bias" in refused({k: v for k, v in state.items() if k != "bn1.bias"})
    prefixed = {f"encoder.{key}": value for key, value in state.items()}
    assert "lacks conv1.weight, bn1.weight, bn1.bias and 97 more" in refused(prefixed)
    assert "has unknown head.weight" in refused({**state, "head.weight": torch.ones(1)})
    other = {**state, "conv1.weight": torch.ones(64, 4, 7, 7)}
    assert "has other shapes for conv1.weight" in refused(other)
    assert "expected a state dict of resnet34" in refused(state, "resnet34")


@pytest.fixture
def meta():
    """Networks have no values."""
    with torch.device("meta"):
        yield


def test_wrong_names_are_refused_with_the_nearest_first(meta):
    with pytest.raises(
        ConfigurationError, match="resnet_model is 'resnet51'; expected one of resnet"
    ):
        ResnetEncoder("resnet51")
    with pytest.raises(ConfigurationError) as error:
        ResnetEncoder("resnet50", weights="IMAGENET1K_V3")
    assert str(error.value) == (
        "weights is 'IMAGENET1K_V3'; expected the path of a file that exists, or one of "
        "torchvision's weights for resnet50: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"
    )
    with pytest.raises(
        ConfigurationError, match="trainable_layers is 'layer5'; expected one of layer"
    ):
        ResnetEncoder("resnet18", weights=None, trainable_layers=["layer4", "layer5"])
    with pytest.raises(ConfigurationError, match="but requires_grad is false"):
        ResnetEncoder("resnet18", requires_grad=False, weights=None, trainable_layers=["layer4"])


@pytest.mark.parametrize(
    ("arguments", "trained"),
    [
        ({}, {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
        ({"requires_grad": False}, set()),
        ({"trainable_layers": []}, set()),
        ({"trainable_layers": ["layer4", "bn1"]}, {"layer4", "bn1"}),
        ({"trainable_layers": ["layer4.1.conv1"]}, {"layer4"}),
    ],
)
def test_frozen_layers_keep_every_parameter_and_statistic_bit_for_bit(arguments, trained):
    encoder = ResnetEncoder("resnet18", weights=None, **arguments)
    assert changed_by_training(encoder) == trained


def test_frozen_batch_norm_normalises_with_its_running_statistics(weights_file):
    encoder = ResnetEncoder("resnet18", requires_grad=False, weights=weights_file)
    images = torch.randn(2, 3, 32, 32)
    expected = copy.deepcopy(encoder).eval()(images)
    assert torch.equal(encoder(images), expected)  # as built, before any call of train()
    assert torch.equal(encoder.train()(images), expected)


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: ResnetEncoder("resnet18", weights=None, train_bn=False),
        lambda: TorchvisionEncoder("resnet18", weights=None, train_bn=False),
        lambda: TimmEncoder("resnet10t", pretrained=False, train_bn=False),
    ],
    ids=["resnet", "torchvision", "timm"],
)
def test_batch_norm_is_not_trained_in_a_trained_network(encoder):
    network = encoder()
    before = copy.deepcopy(network.state_dict())
    train_one_step(network)
    norms = [name for name, part in network.named_modules() if isinstance(part, _BatchNorm)]
    after = network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert not {name.rpartition(".")[0] for name in changed} & set(norms)


def test_batch_norm_frozen_from_outside_is_frozen_too():
    """As by the trainer's "no_grad", which sets requires_grad by patterns of names."""
    encoder = ResnetEncoder("resnet18", weights=None)
    for name in ("bn1", "layer1"):
        encoder.get_submodule(name).requires_grad_(False)
    encoder.conv1.requires_grad_(False)
    assert changed_by_training(encoder) == {"layer2", "layer3", "layer4"}
    encoder.requires_grad_(True)
    assert changed_by_training(encoder) >= {"bn1", "layer1"}


@pytest.mark.parametrize("input_channels", [1, 2, 4, 6])
def test_other_input_channels(input_channels, resnet, weights_file):
    encoder = ResnetEncoder("resnet18", weights=weights_file, input_channels=input_channels)
    assert encoder.get_input_channels() == input_channels
    random = ResnetEncoder("resnet18", weights=None, input_channels=input_channels)
    # A gray image repeated over the channels passes conv1 as it did in RGB.
    gray = torch.rand(1, 1, 32, 32)
    if input_channels % 3 == 0 or input_channels == 1:
        expected = resnet.conv1(gray.expand(-1, 3, -1, -1))
        actual = encoder.conv1(gray.expand(-1, input_channels, -1, -1))
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    for network in (encoder, random):
        assert network(torch.randn(2, input_channels, 32, 32)).shape == (2, 512, 1, 1)


def test_weights_made_for_the_same_other_channels_are_taken_as_they_are(tmp_path):
    path = str(tmp_path / "gray.pth")
    first = ResnetEncoder("resnet18", weights=None, input_channels=1)
    torch.save(first.state_dict(), path)
    second = ResnetEncoder("resnet18", weights=path, input_channels=1)
    assert torch.equal(first.conv1.weight, second.conv1.weight)

from collections.abc import Iterator

import pytest
import torch
import torchvision
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.modules.im2im_encoders import Im2ImEncoder, TorchvisionEncoder
from allencv.modules.pretrained_weights import without_pretrained_weights
from tests.modules.small_networks import small_networks

pytestmark = pytest.mark.slow


def network(model_name, **arguments):
    """torchvision's own, with weights and running statistics that are like nothing at the start."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(model_name, weights=None, **arguments).eval()
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.add_(0.02 * torch.randn_like(value))
    return model


@pytest.fixture
def small() -> Iterator[None]:
    with small_networks():
        yield


@pytest.fixture
def save(tmp_path):
    def save(state):
        path = str(tmp_path / "weights.pth")
        torch.save(state if isinstance(state, dict) else state.state_dict(), path)
        return path

    return save


PUBLISHED_INCEPTION = {"transform_input": True, "aux_logits": True, "init_weights": True}


@pytest.mark.parametrize(
    ("model_name", "last_layer", "size", "arguments"),
    [
        ("convnext_tiny", "classifier.2", 64, {}),
        ("densenet121", "classifier", 64, {}),
        ("efficientnet_b0", "classifier.1", 64, {}),
        ("googlenet", "fc", 64, PUBLISHED_INCEPTION),
        ("inception_v3", "fc", 96, PUBLISHED_INCEPTION),
        ("maxvit_t", "classifier.5", 64, {}),
        ("mnasnet0_5", "classifier.1", 64, {}),
        ("mobilenet_v2", "classifier.1", 64, {}),
        ("mobilenet_v3_small", "classifier.3", 64, {}),
        ("regnet_y_400mf", "fc", 64, {}),
        ("resnet18", "fc", 64, {}),
        ("shufflenet_v2_x0_5", "fc", 64, {}),
        ("swin_t", "head", 64, {}),
        ("vit_b_32", "heads.head", 224, {}),
    ],
)
def test_it_is_torchvisions_network_up_to_the_last_layer(
    model_name, last_layer, size, arguments, save, small
):
    model = network(model_name, **arguments)
    encoder = TorchvisionEncoder(model_name, weights=save(model)).eval()
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        features = encoder(images)
        logits = model.get_submodule(last_layer)(features.flatten(1))
        assert torch.equal(logits, model(images))
        model.set_submodule(last_layer, torch.nn.Identity())
        assert torch.equal(features, model(images)[:, :, None, None])
    assert features.shape[1] == encoder.get_output_channels()


@pytest.mark.parametrize(
    ("model_name", "node", "size"),
    [
        ("convnext_tiny", "features", 64),
        ("densenet121", None, 64),
        ("googlenet", "inception5b", 64),
        ("maxvit_t", "blocks", 64),
        ("mnasnet0_5", "layers", 64),
        ("mobilenet_v3_small", "features", 64),
        ("regnet_y_400mf", "trunk_output", 64),
        ("shufflenet_v2_x0_5", "conv5", 64),
        ("swin_t", "permute", 64),
    ],
)
def test_without_pool_it_is_the_image_that_torchvision_pools(model_name, node, size, save, small):
    """As a hook sees it."""
    arguments = PUBLISHED_INCEPTION if model_name == "googlenet" else {}
    model = network(model_name, **arguments)
    seen = []
    part = model.features if node is None else model.get_submodule(node)
    part = part[-1] if isinstance(part, torch.nn.ModuleList) else part
    part.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.randn(1, 3, size, size)
    encoder = TorchvisionEncoder(model_name, weights=save(model), pool=False).eval()
    with torch.no_grad():
        model(images)
        features = encoder(images)
    expected = torch.relu(seen[0]) if node is None else seen[0]  # DenseNet's last, not a module
    assert torch.equal(features, expected)
    assert features.shape == (1, encoder.get_output_channels(), size // 32, size // 32)


@pytest.mark.parametrize(
    ("model_name", "pool", "shape"),
    [
        ("convnext_tiny", True, (768, 1, 1)),
        ("densenet121", False, (1024, 7, 7)),
        ("swin_t", False, (768, 7, 7)),
        ("vit_b_32", True, (768, 1, 1)),
    ],
)
def test_the_dimensions_of_published_networks(model_name, pool, shape):
    """Without weights: the networks of the tests above are smaller than these."""
    with torch.device("meta"):
        encoder = TorchvisionEncoder(model_name, weights=None, pool=pool).eval()
        assert encoder(torch.zeros(1, 3, 224, 224)).shape == (1, *shape)
    assert encoder.get_output_channels() == shape[0]


def test_vgg_without_pool_has_no_parameters_of_its_large_layers():
    with torch.device("meta"):
        encoder = TorchvisionEncoder("vgg11", weights=None, pool=False)
        assert encoder.get_output_channels() == 512
        assert encoder.eval()(torch.randn(1, 3, 64, 96)).shape == (1, 512, 2, 3)
    assert sum(parameter.numel() for parameter in encoder.parameters()) < 10_000_000


def test_from_params(small):
    params = {
        "type": "torchvision",
        "model_name": "convnext_tiny",
        "weights": None,
        "pool": False,
        "trainable_layers": ["features.7", "features.6"],
        "input_channels": 1,
        "torchvision_arguments": {"stochastic_depth_prob": 0.5},
    }
    encoder = Im2ImEncoder.from_params(Params(params))
    assert isinstance(encoder, TorchvisionEncoder)
    assert (encoder.get_input_channels(), encoder.get_stride()) == (1, 32)
    trained = {name for name, value in encoder.named_parameters() if value.requires_grad}
    assert {name.split(".")[2] for name in trained} == {"6", "7"}


def test_stochastic_depth_acts_in_training_only(save):
    weights = save(network("efficientnet_b0"))
    encoder = TorchvisionEncoder(
        "efficientnet_b0",
        weights=weights,
        requires_grad=False,  # so that batch normalisation is the same in both modes
        pool=False,
        torchvision_arguments={"stochastic_depth_prob": 0.5},
    )
    images = torch.randn(2, 3, 64, 64)
    assert not torch.equal(encoder.train()(images), encoder(images))
    assert torch.equal(encoder.eval()(images), encoder(images))


@pytest.mark.parametrize("model_name", ["mobilenet_v3_small", "googlenet"])
def test_other_input_channels(model_name, save):
    model = network(model_name, **({"init_weights": True} if model_name == "googlenet" else {}))
    encoder = TorchvisionEncoder(model_name, weights=save(model), input_channels=1)
    first = next(part for part in model.modules() if isinstance(part, torch.nn.Conv2d))
    own = next(part for part in encoder.modules() if isinstance(part, torch.nn.Conv2d))
    assert torch.equal(own.weight, first.weight.sum(dim=1, keepdim=True))
    assert (own.bias is None) == (first.bias is None)
    assert encoder.eval()(torch.randn(1, 1, 64, 64)).shape[2:] == (1, 1)


def test_published_names_of_densenet(save, small):
    """torchvision renames them when it loads them; its weights are from before."""
    model = network("densenet121")
    state = model.state_dict()
    old = {
        name.replace("norm1.", "norm.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2."): value
        for name, value in state.items()
    }
    encoder = TorchvisionEncoder("densenet121", weights=save(old))
    own = encoder.backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in own.items())


def test_a_file_without_the_last_layer(save):
    model = network("mobilenet_v3_small")
    model.classifier[3] = torch.nn.Identity()
    encoder = TorchvisionEncoder("mobilenet_v3_small", weights=save(model)).eval()
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(encoder(images).flatten(1), model(images))


def test_a_failed_download_says_what_to_do(monkeypatch, tmp_path):
    def download(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(
        ConfigurationError, match="could not load shufflenet.*no network.*set weights to a local"
    ):
        TorchvisionEncoder("shufflenet_v2_x0_5")
    with without_pretrained_weights():
        TorchvisionEncoder("shufflenet_v2_x0_5")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"model_name": "resnet19"}, "model_name is 'resnet19'; expected one of resnet"),
        ({"weights": "V3"}, "'V3'; expected the path .* weights for shufflenet.*: IMAGENET1K_V1"),
        ({"torchvision_arguments": {"colour": 1}}, "does not take torchvision_arguments .*colour"),
        ({"torchvision_arguments": {"num_classes": 2}}, "torchvision_arguments has 'num_classes'"),
        ({"model_name": "squeezenet1_1", "pool": False}, "pool is false; expected true for squeez"),
        ({"trainable_layers": ["layer1"]}, "trainable_layers is 'layer1'; expected one of "),
    ],
)
def test_bad_values_are_refused(arguments, problem):
    arguments = {"model_name": "shufflenet_v2_x0_5", "weights": None, **arguments}
    with pytest.raises(ConfigurationError, match=problem) as error:
        TorchvisionEncoder(**arguments)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_of_another_network_is_refused(save):
    with pytest.raises(ConfigurationError, match="expected a state dict of mobilenet_v3_small"):
        TorchvisionEncoder("mobilenet_v3_small", weights=save({"weight": torch.zeros(1)}))


@pytest.mark.parametrize(
    ("model_name", "pool", "first", "last", "number"),
    [
        ("resnet18", False, ["conv1", "bn1"], ["layer4"], 5),
        ("densenet121", True, ["features.conv0", "features.norm0"], None, 8),
        ("convnext_tiny", True, ["features.0"], None, 8),
        ("swin_t", False, ["features.0"], ["features.7", "norm"], 8),
        ("regnet_y_400mf", True, ["stem"], ["trunk_output.block4"], 5),
        ("efficientnet_b0", False, ["features.0"], ["features.8"], 9),
    ],
)
def test_stages(model_name, pool, first, last, number):
    device = "cpu" if model_name.startswith("regnet") else "meta"  # it computes its widths
    with torch.device(device):
        stages = TorchvisionEncoder(model_name, weights=None, pool=pool).get_stages()
    assert stages[0] == [f"backbone.{name}" for name in first]
    if last is not None:
        assert stages[-1] == [f"backbone.{name}" for name in last]
    assert len(stages) == number


def test_stages_of_a_transformer():
    arguments = {"image_size": 64}
    with torch.device("meta"):
        encoder = TorchvisionEncoder("vit_b_32", weights=None, torchvision_arguments=arguments)
    stages = encoder.get_stages()
    assert set(stages[0]) == {
        "backbone.class_token",
        "backbone.conv_proj",
        "backbone.encoder.pos_embedding",
    }
    assert stages[1] == ["backbone.encoder.layers.encoder_layer_0"]
    assert stages[-1] == ["backbone.encoder.layers.encoder_layer_11", "backbone.encoder.ln"]


@pytest.mark.parametrize("pool", [True, False])
def test_it_can_be_exported_with_a_free_batch_size(pool, small):
    encoder = TorchvisionEncoder("resnet18", weights=None, pool=pool).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    images = torch.randn(2, 3, 64, 64)
    exported = torch.export.export(encoder, (images,), dynamic_shapes=shapes).module()
    more_images = torch.randn(5, 3, 64, 64)
    torch.testing.assert_close(exported(more_images), encoder(more_images))


def test_images_of_a_size_that_the_network_cannot_take(small) -> None:
    encoder = TorchvisionEncoder("vit_b_32", weights=None)
    with pytest.raises(ConfigurationError, match=r"vit_b_32 got images of 100 by 96 pixels"):
        encoder(torch.zeros(1, 3, 100, 96))

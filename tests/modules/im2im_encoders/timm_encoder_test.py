import copy

import pytest
import timm
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from safetensors.torch import save_file
from timm.layers import DropPath, resample_abs_pos_embed

from allencv.modules.im2im_encoders import Im2ImEncoder, TimmEncoder
from allencv.modules.im2vec_encoders import FlattenEncoder, PoolingEncoder
from allencv.modules.pretrained_weights import without_pretrained_weights

SWIN = {"window_size": 2, "embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}
BEIT = {"embed_dim": 24, "depth": 2, "num_heads": 2}


def network(model_name, **arguments):
    """timm's own, with weights and running statistics that are like nothing at the start."""
    torch.manual_seed(0)
    model = timm.create_model(model_name, **arguments).eval()
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.add_(0.05 * torch.randn_like(value))
    return model


@pytest.fixture
def save(tmp_path):
    def save(model, suffix=".pth"):
        path = str(tmp_path / f"weights{suffix}")
        state = model if isinstance(model, dict) else model.state_dict()
        (save_file if suffix == ".safetensors" else torch.save)(state, path)
        return path

    return save


@pytest.mark.parametrize(
    ("model_name", "size", "arguments"),
    [
        ("test_resnet", None, {}),
        ("test_convnext", None, {}),  # normalised after the pooling
        ("test_vit", 64, {}),  # its class token
        ("test_vit", 64, {"global_pool": "avg"}),  # the average of the patches, then fc_norm
        ("test_vit", 64, {"global_pool": "avg", "fc_norm": False}),
        ("test_vit3", 64, {}),  # attention
        ("beit_base_patch16_224", 64, BEIT),
        ("swin_tiny_patch4_window7_224", 64, SWIN),
        ("test_efficientnet", None, {}),
        ("mobilenetv3_small_050", None, {}),  # a layer after the pooling
        ("test_mambaout", None, {}),
        ("test_nfnet", None, {"global_pool": "max"}),
    ],
)
def test_with_a_linear_layer_it_is_timms_network(model_name, size, arguments, save):
    model = network(model_name, **arguments, **({"img_size": size} if size else {}))
    encoder = TimmEncoder(
        model_name, weights=save(model), image_size=size, timm_arguments=arguments
    ).eval()
    channels = encoder.get_output_channels()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features, expected = encoder(images), model(images)
        for vectors in (FlattenEncoder(channels, 1, 1), PoolingEncoder(channels)):
            logits = model.get_classifier()(vectors(features))
            torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(
    ("model_name", "size", "arguments"),
    [
        ("test_resnet", None, {}),
        ("test_convnext", None, {}),
        ("test_efficientnet", None, {}),
        ("test_vit", 64, {}),
        ("swin_tiny_patch4_window7_224", 64, SWIN),
    ],
)
def test_a_stage_is_timms_feature_level(model_name, size, arguments, save):
    size_argument = {"img_size": size} if size else {}
    weights = save(network(model_name, **arguments, **size_argument))
    images = torch.randn(2, 3, 64, 64)
    levels = timm.create_model(
        model_name,
        features_only=True,
        out_indices=(0, 1, 2, 3),
        pretrained=True,
        pretrained_cfg_overlay={"file": weights},
        **arguments,
        **size_argument,
    ).eval()
    with torch.no_grad():
        expected = levels(images)
    for stage in (1, 3):
        given = {"weights": weights, "image_size": size, "timm_arguments": arguments}
        encoder = TimmEncoder(model_name, **given, stage=stage, pool=False).eval()
        features = encoder(images).detach()
        torch.testing.assert_close(features, channels_first(expected[stage], levels))
        pooled = TimmEncoder(model_name, **given, stage=stage).eval()
        assert pooled.get_stride() is None
        torch.testing.assert_close(pooled(images).detach(), features.mean((2, 3), keepdim=True))


def channels_first(features, levels):
    channels_are_last = getattr(levels, "output_fmt", "NCHW") == "NHWC"
    return features.permute(0, 3, 1, 2) if channels_are_last else features


def test_the_last_level_is_normalised_and_without_class_token(save):
    model = network("test_vit", img_size=(64, 96))
    encoder = TimmEncoder("test_vit", weights=save(model), image_size=[64, 96], pool=False)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        patches = model.forward_features(images)[:, 1:]
        assert torch.equal(encoder.eval()(images), patches.transpose(1, 2).reshape(2, 64, 4, 6))
    model = network("swin_tiny_patch4_window7_224", img_size=64, **SWIN)
    encoder = TimmEncoder(
        "swin_tiny_patch4_window7_224",
        weights=save(model),
        image_size=64,
        pool=False,
        timm_arguments=SWIN,
    )
    with torch.no_grad():
        expected = model.forward_features(images[:, :, :, :64]).permute(0, 3, 1, 2)
        assert torch.equal(encoder.eval()(images[:, :, :, :64]), expected)


def test_what_comes_after_a_stage_is_removed():
    encoder = TimmEncoder("test_vit", pretrained=False, image_size=64, stage=1)
    names = {name for name, _ in encoder.named_parameters()}
    assert "backbone.blocks.1.norm1.weight" in names
    assert not [name for name in names if ".blocks.2." in name or name.startswith("backbone.norm")]


def test_from_params():
    encoder = Im2ImEncoder.from_params(
        Params(
            {
                "type": "timm",
                "model_name": "test_convnext",
                "pretrained": False,
                "requires_grad": False,
                "drop_path_rate": 0.3,
                "input_channels": 1,
                "timm_arguments": {"act_layer": "relu"},
            }
        )
    )
    assert isinstance(encoder, TimmEncoder)
    assert encoder.get_input_channels() == 1
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    rates = [part.drop_prob for part in encoder.modules() if isinstance(part, DropPath)]
    assert max(rates) == pytest.approx(0.3)
    assert any(isinstance(part, torch.nn.ReLU) for part in encoder.modules())


def test_position_embeddings_are_interpolated_for_another_size(save):
    model = network("test_vit")
    assert model.patch_embed.grid_size == (10, 10)
    encoder = TimmEncoder("test_vit", weights=save(model), image_size=[64, 96])
    expected = resample_abs_pos_embed(model.pos_embed, (4, 6), num_prefix_tokens=1)
    assert torch.equal(encoder.backbone.pos_embed, expected)
    assert encoder(torch.randn(2, 3, 64, 96)).shape == (2, 64, 1, 1)


@pytest.mark.parametrize("input_channels", [1, 2])
def test_a_first_convolution_for_colours_is_adapted(input_channels, save):
    model = network("test_resnet")
    encoder = TimmEncoder("test_resnet", weights=save(model), input_channels=input_channels)
    colours = model.conv1[0].weight if isinstance(model.conv1, torch.nn.Sequential) else None
    colours = model.conv1.weight if colours is None else colours
    first = next(iter(encoder.parameters()))
    expected = colours.sum(1, keepdim=True) if input_channels == 1 else colours[:, :2] * 1.5
    torch.testing.assert_close(first, expected)


@pytest.mark.parametrize("num_classes", [0, 7, 1000])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_may_have_other_classes_or_none(num_classes, suffix, save):
    model = network("test_resnet", num_classes=num_classes)
    encoder = TimmEncoder("test_resnet", weights=save(model, suffix))
    own = {name.removeprefix("backbone."): value for name, value in encoder.state_dict().items()}
    expected = {n: v for n, v in model.state_dict().items() if not n.startswith("fc.")}
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[name], expected[name]) for name in own)
    assert "state_dict" not in encoder.backbone.pretrained_cfg


def test_a_file_of_another_project_is_converted(save):
    """ConvNeXt's authors name the same weights otherwise, which timm knows."""
    model = network("test_convnext")
    state = {}
    for name, value in model.state_dict().items():
        name = name.replace("head.fc.", "head.").replace("head.norm.", "norm.")
        name = name.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".")
        for index in (1, 2, 3):
            name = name.replace(f"stages.{index}.downsample.", f"downsample_layers.{index}.")
        for theirs, ours in (("dwconv", "conv_dw"), ("pwconv1", "mlp.fc1"), ("pwconv2", "mlp.fc2")):
            name = name.replace(ours, theirs)
        state[name] = value
    encoder = TimmEncoder("test_convnext", weights=save({"model": state})).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        logits = model.get_classifier()(encoder(images).flatten(1))
        torch.testing.assert_close(logits, model(images))


def test_a_file_that_does_not_fit_is_refused(save):
    state = network("test_resnet").state_dict()
    without = {name: value for name, value in state.items() if name != "bn1.bias"}
    for wrong, problem in [
        (without, 'Missing key.*"bn1.bias"'),
        ({**state, "extra": torch.zeros(1)}, 'Unexpected key.*"extra"'),
        ({f"encoder.{name}": value for name, value in state.items()}, "Missing key"),
        ({**state, "bn1.bias": torch.zeros(7)}, "size mismatch for bn1.bias"),
    ]:
        with pytest.raises(
            ConfigurationError,
            match=f"weights is '.*', which does not fit test_resnet: .*{problem}",
        ) as error:
            TimmEncoder("test_resnet", weights=save(wrong))
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ConfigurationError, match="'gone.pth'; expected the path of a file that"):
        TimmEncoder("test_resnet", weights="gone.pth")


def test_published_weights(tmp_path):
    """From a folder, in the form in which they are on the hub."""
    model = network("test_resnet", num_classes=7)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    name = f"local-dir:{tmp_path}"
    encoder = TimmEncoder(name).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.get_classifier()(encoder(images).flatten(1)), model(images))
    random = TimmEncoder(name, pretrained=False)
    assert not torch.equal(random.backbone.bn1.running_var, model.bn1.running_var)


def test_a_file_takes_the_place_of_published_weights(tmp_path, save):
    published = network("test_resnet", num_classes=7)
    timm.models.save_for_hf(published, tmp_path, safe_serialization=True)
    own = {name: value + 1 for name, value in published.state_dict().items()}
    for pretrained in (True, False):
        encoder = TimmEncoder(f"local-dir:{tmp_path}", pretrained=pretrained, weights=save(own))
        assert torch.equal(encoder.backbone.bn1.weight, own["bn1.weight"])


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No hub, and nothing kept from it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return {"cache_dir": str(tmp_path / "cache")}


def test_a_failed_download_says_what_to_do(offline):
    with pytest.raises(ConfigurationError) as error:
        TimmEncoder("test_resnet", timm_arguments=offline)
    message = str(error.value)
    assert message.startswith(
        "could not build test_resnet with its published weights: check the connection, set "
        "weights to a local file, or set pretrained to false for random initialisation"
    )
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("weights", [{}, {"weights": "gone.pth"}])
def test_a_trained_model_is_rebuilt_without_weights(weights, offline):
    with without_pretrained_weights():
        encoder = TimmEncoder("test_resnet.r160_in1k", timm_arguments=offline, **weights)
    assert encoder.get_output_channels() == 96


def test_wrong_names_are_refused_with_the_nearest():
    with pytest.raises(
        ConfigurationError,
        match="model_name is 'convnext_tini', which timm does not have; nearest: convnext_tiny,",
    ):
        TimmEncoder("convnext_tini")
    with pytest.raises(
        ConfigurationError,
        match=r"model_name is 'test_vit\.r161_in1k'; expected one of test_vit\.r",
    ):
        TimmEncoder("test_vit.r161_in1k")
    nameless = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(
        ConfigurationError, match=f"timm publishes no weights for {nameless}; expected .*pretrained"
    ):
        TimmEncoder(nameless)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"image_size": 64}, "test_resnet does not take an argument .*'img_size'.*image_size"),
        ({"timm_arguments": {"colour": 1}}, "does not take an argument .*'colour'"),
        ({"timm_arguments": {"in_chans": 1}}, "timm_arguments has 'in_chans'; expected it as inp"),
        ({"timm_arguments": {"num_classes": 3}}, "'num_classes'; expected it as the model's own"),
        ({"drop_path_rate": 1.5}, r"drop_path_rate is 1.5; expected a number in \[0, 1\)"),
        ({"stage": 5}, "stage is 5; expected -5 to 4, as test_resnet has 5 feature levels"),
        ({"stage": -6}, "stage is -6; expected -5 to 4"),
        ({"trainable_layers": ["layer9"]}, "trainable_layers is 'layer9'; expected one of layer"),
        ({"timm_arguments": {"global_pool": "mean"}}, "could not build test_resnet"),
    ],
)
def test_bad_values_are_refused(arguments, problem):
    with pytest.raises(ConfigurationError, match=problem) as error:
        TimmEncoder("test_resnet", pretrained=False, **arguments)
    assert len(str(error.value).splitlines()) == 1


def test_images_of_a_wrong_size_are_refused():
    encoder = TimmEncoder(
        "beit_base_patch16_224", pretrained=False, image_size=64, timm_arguments=BEIT
    )
    with pytest.raises(ConfigurationError) as error:
        encoder(torch.zeros(1, 3, 80, 64))
    message = str(error.value)
    assert message.startswith("beit_base_patch16_224 got images of 80 by 64 pixels (height by")
    assert "80" in message
    assert message.endswith("image_size and stage, or change the size of the images")


def test_only_the_trainable_layers_change():
    encoder = TimmEncoder(
        "test_resnet",
        pretrained=False,
        trainable_layers=["layer4", "layer3.0.conv1"],
        timm_arguments={"zero_init_last": False},
    )
    before = copy.deepcopy(encoder.state_dict())
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    encoder.train()(torch.randn(4, 3, 32, 32)).square().sum().backward()
    torch.optim.SGD(trained, lr=0.1).step()
    after = encoder.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {name.split(".")[1] for name in changed} == {"layer3", "layer4"}
    assert {name for name in changed if "layer3" in name} == {"backbone.layer3.0.conv1.weight"}


@pytest.mark.parametrize(
    ("model_name", "first", "last"),
    [
        ("test_resnet", ["conv1", "bn1"], ["layer4"]),
        ("test_convnext", ["stem"], ["head"]),
        ("test_vit", ["cls_token", "pos_embed", "patch_embed"], ["norm", "blocks.5"]),
    ],
)
def test_stages_are_timms_groups_of_layers(model_name, first, last):
    stages = TimmEncoder(model_name, pretrained=False).get_stages()
    assert set(stages[0]) == {f"backbone.{name}" for name in first}
    assert set(stages[-1]) == {f"backbone.{name}" for name in last}


def test_stages_where_timm_groups_nothing():
    stages = TimmEncoder("poolformer_s12", pretrained=False).get_stages()
    expected = ["backbone.stem", *(f"backbone.stages.{index}" for index in range(4))]
    assert [stage[0] for stage in stages] == expected


@pytest.mark.parametrize("stage", [None, 4])
def test_gradient_checkpointing_gives_the_same_gradients(stage):
    images = torch.randn(2, 3, 64, 64)
    gradients = []
    for gradient_checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = TimmEncoder(
            "test_vit",
            pretrained=False,
            image_size=64,
            stage=stage,
            gradient_checkpointing=gradient_checkpointing,
        )
        assert encoder.backbone.grad_checkpointing == gradient_checkpointing
        encoder.train()(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("pool", [True, False])
def test_it_can_be_exported_with_a_free_batch_size(pool):
    encoder = TimmEncoder(
        "test_vit", pretrained=False, image_size=64, pool=pool, timm_arguments={"depth": 1}
    ).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    images = torch.randn(2, 3, 64, 64)
    exported = torch.export.export(encoder, (images,), dynamic_shapes=shapes).module()
    more_images = torch.randn(5, 3, 64, 64)
    torch.testing.assert_close(exported(more_images), encoder(more_images))

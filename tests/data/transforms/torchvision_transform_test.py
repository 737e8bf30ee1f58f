import inspect
import pickle
from copy import deepcopy
from typing import Any, Dict

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import InterpolationMode, v2

from allencv.data import transforms
from allencv.data.transforms import ImageTransform, random_source
from allencv.data.transforms import torchvision_transform as module
from allencv.data.transforms.torchvision_transform import TRANSFORMS, TorchvisionTransform

# What each class is made with here, where its defaults do not do or would not draw.
ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "CenterCrop": {"size": [10, 12]},
    "ColorJitter": {"brightness": 0.4, "contrast": 0.4, "saturation": [0.5, 1.5], "hue": 0.1},
    "ElasticTransform": {"sigma": 2.0},
    "GaussianBlur": {"kernel_size": 3},
    "JPEG": {"quality": [5, 95]},
    "Pad": {"padding": [1, 2], "padding_mode": "reflect"},
    "RandomAdjustSharpness": {"sharpness_factor": 2},
    "RandomAffine": {"degrees": 30, "translate": [0.1, 0.2], "scale": [0.5, 1.5], "shear": 10},
    "RandomCrop": {"size": 16, "padding": 4},
    "RandomErasing": {"p": 1.0, "value": "random"},
    "RandomPosterize": {"bits": 2},
    "RandomResize": {"min_size": 8, "max_size": 16},
    "RandomResizedCrop": {"size": 16, "scale": [0.5, 1], "interpolation": "bicubic"},
    "RandomRotation": {"degrees": [0, 90], "interpolation": "bilinear", "expand": True},
    "RandomShortestSize": {"min_size": [8, 12, 16]},
    "RandomSolarize": {"threshold": 128},
    "ScaleJitter": {"target_size": [16, 16]},
}
# Where Python's torchvision takes what has no form in JSON: ours, theirs.
DIFFERENT_ARGUMENTS: Dict[str, Any] = {
    "AutoAugment": ({"policy": "svhn"}, {"policy": v2.AutoAugmentPolicy.SVHN}),
    "LinearTransformation": (
        {"transformation_matrix": [[0.0, 2.0], [1.0, 0.0]], "mean_vector": [1.0, 2.0]},
        {
            "transformation_matrix": torch.tensor([[0.0, 2.0], [1.0, 0.0]]),
            "mean_vector": torch.tensor([1.0, 2.0]),
        },
    ),
    "ToDtype": (
        {"dtype": "float32", "scale": True},
        {"dtype": torch.float32, "scale": True},
    ),
    **{
        name: (
            {"transforms": ["random_invert", {"type": "random_crop", "size": 16}], **more},
            {"transforms": [v2.RandomInvert(), v2.RandomCrop(16)], **more},
        )
        for name, more in [
            ("Compose", {}),
            ("RandomApply", {"p": 0.6}),
            ("RandomChoice", {"p": [1, 3]}),
            ("RandomOrder", {}),
        ]
    },
}


def registered_name(name: str) -> str:
    names = [key for key in ImageTransform.list_available() if key != "flip"]
    (found,) = (key for key in names if ImageTransform.by_name(key).__name__ == name)
    return found


def make_image(name: str, channels: int = 3) -> torch.Tensor:
    shape = (1, 2, 1) if name == "LinearTransformation" else (24, 32, channels)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, shape, generator=generator).to(torch.uint8).permute(2, 0, 1)


def test_names() -> None:
    assert registered_name("RandomResizedCrop") == "random_resized_crop"
    assert registered_name("TrivialAugmentWide") == "trivial_augment_wide"
    assert registered_name("ToDtype") == "to_dtype"
    assert registered_name("JPEG") == "jpeg"
    assert registered_name("AugMix") == "aug_mix"
    assert ImageTransform.by_name("flip") is transforms.RandomHorizontalFlip
    assert len(TRANSFORMS) >= 37


IN_FILES_OF_THEIR_OWN = ["ColorJitter", "RandomCrop", "RandomErasing", "RandomResizedCrop"]


@pytest.mark.parametrize("name", [*TRANSFORMS, *IN_FILES_OF_THEIR_OWN])
def test_gives_what_torchvision_gives_with_the_same_seed(name: str) -> None:
    same = ARGUMENTS.get(name, {})
    our_arguments, their_arguments = DIFFERENT_ARGUMENTS.get(name, (same, same))
    params = Params({"type": registered_name(name), **deepcopy(our_arguments)})
    ours = ImageTransform.from_params(params)
    theirs = getattr(v2, name)(**their_arguments)
    image = make_image(name)
    for seed in range(10):
        torch.manual_seed(seed)
        expected = theirs(image)
        with random_source(torch.Generator().manual_seed(seed)):
            assert torch.equal(ours(image), expected)
        torch.manual_seed(seed)
        assert torch.equal(ours(image), expected)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_python_shows(name: str) -> None:
    ours, theirs = getattr(transforms, name), getattr(v2, name)
    assert issubclass(ours, TorchvisionTransform)
    our_parameters = inspect.signature(ours).parameters
    their_parameters = inspect.signature(theirs).parameters
    assert list(our_parameters) == list(their_parameters)
    for key, parameter in their_parameters.items():
        assert our_parameters[key].default == parameter.default
        assert our_parameters[key].kind == parameter.kind
    assert f"torchvision's `{name}`" in ours.__doc__
    assert f'"{registered_name(name)}"' in ours.__doc__
    assert f"torchvision.transforms.v2.{name}.html" in ours.__doc__


def test_python_and_config_are_the_same() -> None:
    python = transforms.Compose(
        [
            transforms.RandomResizedCrop(16, interpolation=InterpolationMode.BICUBIC),
            transforms.RandAugment(magnitude=5),
            transforms.ToDtype(torch.float32, scale=True),
        ]
    )
    config = ImageTransform.from_params(
        Params(
            {
                "type": "compose",
                "transforms": [
                    {"type": "random_resized_crop", "size": 16, "interpolation": "bicubic"},
                    {"type": "rand_augment", "magnitude": 5},
                    {"type": "to_dtype", "dtype": "float32", "scale": True},
                ],
            }
        )
    )
    image = make_image("Compose")
    for seed in range(5):
        results = []
        for transform in (python, config):
            with random_source(torch.Generator().manual_seed(seed)):
                results.append(transform(image))
        assert torch.equal(*results)
    assert "RandAugment(magnitude=5)" in repr(config)


def test_a_container_takes_torchvisions_own_transforms_in_python() -> None:
    image = make_image("Compose")
    flip = transforms.Compose([v2.RandomHorizontalFlip(p=1.0)])
    assert torch.equal(flip(image), image.flip(-1))


def test_a_transform_that_is_not_drawn_gives_the_image_itself() -> None:
    image = make_image("RandomInvert")
    assert transforms.RandomInvert(p=0.0)(image) is image


@pytest.mark.parametrize("name", ["RandomResizedCrop", "AutoAugment", "Resize"])
def test_pickle(name: str) -> None:
    arguments = {} if name == "AutoAugment" else {"size": 16}
    transform = getattr(transforms, name)(**arguments)
    copy = pickle.loads(pickle.dumps(transform))
    assert repr(copy) == repr(transform)
    image = make_image(name)
    results = []
    for either in (transform, copy):
        with random_source(torch.Generator().manual_seed(3)):
            results.append(either(image))
    assert torch.equal(*results)


def test_a_users_subclass() -> None:
    class Half(transforms.RandomResizedCrop):
        def __init__(self, size: int) -> None:
            super().__init__(size // 2)

    assert list(inspect.signature(Half).parameters) == ["size"]
    assert Half(8)(make_image("RandomResizedCrop")).shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"type": "random_resized_crop", "sise": 16}, "'sise'; expected one of size, "),
        ({"type": "random_resized_crop"}, '"size" is required'),
        ({"type": "color_jitter", "hue": 2}, r"color_jitter .*'hue': 2.*ValueError: hue values"),
        ({"type": "random_rotation", "degrees": -3}, "random_rotation .* -3.*ValueError"),
        ({"type": "random_erasing", "scale": [1]}, "random_erasing .*IndexError"),
        ({"type": "random_horizontal_flip", "p": 2}, "random_horizontal_flip .* 2.*ValueError"),
        ({"type": "random_horizontal_flip", "p": "0.5"}, "flip.p is '0.5'; expected a number"),
        (
            {"type": "resize", "size": [8, 200_000]},
            r"resize.size is \[8, 200000\]; .* at most 8192",
        ),
        ({"type": "resize", "max_size": 8193}, "resize.max_size is 8193; expected at most 8192"),
        ({"type": "random_crop", "size": 8, "padding": 10_000}, "random_crop.padding is 10000"),
        ({"type": "center_crop", "size": "64"}, "center_crop.size is '64'; expected a number"),
        (
            {"type": "random_resized_crop", "size": 16, "interpolation": "bilinaer"},
            "random_resized_crop.interpolation is 'bilinaer'; expected one of bilinear, .*lanczos",
        ),
        (
            {"type": "random_resized_crop", "size": 16, "interpolation": "box"},
            "interpolation is 'box'",
        ),
        (
            {"type": "resize", "size": 16, "interpolation": "lanczos", "antialias": False},
            'resize.antialias is False; expected true with interpolation: "lanczos"',
        ),
        (
            {"type": "rand_augment", "interpolation": "bicubic"},
            "rand_augment.interpolation is 'bicubic'; expected one of bilinear, nearest$",
        ),
        ({"type": "rand_augment", "interpolation": None}, "interpolation is None"),
        (
            {"type": "auto_augment", "policy": "image_net"},
            "auto_augment.policy is 'image_net'; expected one of imagenet, cifar10, svhn",
        ),
        ({"type": "auto_augment", "policy": 3}, "auto_augment .*'policy': 3.*ValueError"),
        ({"type": "to_dtype", "dtype": "float"}, "to_dtype.dtype is 'float'; expected .*float32"),
        ({"type": "compose", "transforms": []}, "compose .*ValueError: Pass at least one"),
        (
            {"type": "compose", "transforms": [{"type": "center_crop", "sise": 1}]},
            r"transforms\.0.*'sise'",
        ),
        (
            {"type": "linear_transformation", "transformation_matrix": "a", "mean_vector": [1]},
            "linear_transformation .*'a'.*TypeError",
        ),
        ({"type": "resize", "size": -3}, "resize.size is -3; expected at least 1 pixel"),
        (
            {"type": "random_crop", "size": [8, 0]},
            r"random_crop.size is \[8, 0\]; expected at least",
        ),
    ],
)
def test_a_wrong_config(params, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ImageTransform.from_params(Params(params))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: transforms.RandomCrop(sise=16),
            "random_crop is 'sise'; expected one of size, ",
        ),
        (lambda: transforms.RandomCrop(), "missing a required argument: 'size'; it takes"),
        (lambda: transforms.CenterCrop(3, 4), "too many positional arguments"),
        (lambda: transforms.Compose(["flip"]), "expected a list of image transforms"),
    ],
)
def test_wrong_arguments_in_python(make, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic", "lanczos"])
def test_every_interpolation_that_is_taken_resizes(mode: str) -> None:
    image = make_image("Resize")
    resized = transforms.Resize(8, interpolation=mode)(image)
    assert torch.equal(resized, v2.Resize(8, interpolation=InterpolationMode(mode))(image))


def test_a_torch_without_lanczos_does_not_offer_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def resize(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("Input Error: Only 3D, 4D and 5D input Tensors supported")

    with monkeypatch.context() as patched:
        patched.setattr(v2.functional, "resize", resize)
        module._resizes_by_lanczos.cache_clear()
        with pytest.raises(ConfigurationError, match="is 'lanczos'; expected one of .*bicubic"):
            transforms.Resize(8, interpolation="lanczos")
        transforms.Resize(8, interpolation="bicubic")
    module._resizes_by_lanczos.cache_clear()


@pytest.mark.parametrize(
    "name", ["RandomAffine", "RandomRotation", "RandomPerspective", "ElasticTransform"]
)
def test_every_interpolation_that_is_taken_warps(name: str) -> None:
    arguments = {"RandomPerspective": {"p": 1.0}, "ElasticTransform": {"sigma": 2.0}}
    modes = ["nearest", "bilinear"] + (["bicubic"] if name == "ElasticTransform" else [])
    for mode in modes:
        transform = getattr(transforms, name)(
            **arguments.get(name, {"degrees": 45}), interpolation=mode
        )
        assert transform(make_image(name)).shape == (3, 24, 32)

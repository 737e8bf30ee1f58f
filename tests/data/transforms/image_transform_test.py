from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any, Dict, List

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms import ImageTransform, RandomCrop, Resize, random_source
from allencv.data.transforms.image_transform import Draft, InTurn, TransformError
from allencv.data.transforms.torchvision_transform import TRANSFORMS

HEIGHT, WIDTH = 24, 32
SEEDS = range(12)

# For each registered name a smallest config. A new transform adds a line here, and is tested.
DETERMINISTIC: Dict[str, Dict[str, Any]] = {
    "center_crop": {"size": 16},
    "eval": {"size": 16},
    "grayscale": {},
    "identity": {},
    "linear_transformation": {"transformation_matrix": [[0.0] * 6] * 6, "mean_vector": [0.0] * 6},
    "normalize": {"mean": [0.5], "std": [0.25]},
    "pad": {"padding": 2},
    "resize": {"size": 16},
    "rgb": {},
    "to_dtype": {"dtype": "float32"},
}
RANDOM: Dict[str, Dict[str, Any]] = {
    "alternating_flip": {},
    "aug_mix": {},
    "auto_augment": {},
    "color_jitter": {"brightness": 0.5},
    "compose": {"transforms": [{"type": "identity"}, {"type": "random_horizontal_flip"}]},
    "cutout": {"size": 8},
    "elastic_transform": {"sigma": 2.0},
    "flip": {},
    "gaussian_blur": {"kernel_size": 3},
    "gaussian_noise": {},
    "grid_mask": {"d_min": 6, "d_max": 12},
    "hide_and_seek": {"grid_sizes": [5, 8]},
    "jpeg": {"quality": [5, 95]},
    "rand_augment": {},
    "random_adjust_sharpness": {"sharpness_factor": 2},
    "random_affine": {"degrees": 90},
    "random_apply": {"transforms": ["random_vertical_flip"]},
    "random_autocontrast": {},
    "random_channel_permutation": {},
    "random_choice": {"transforms": ["identity", "random_invert"], "p": [1, 3]},
    "random_crop": {"size": 16},
    "random_equalize": {},
    "random_erasing": {"value": "random"},
    "random_grayscale": {"p": 0.5},
    "random_horizontal_flip": {},
    "random_invert": {},
    "random_order": {"transforms": ["random_invert", {"type": "random_posterize", "bits": 2}]},
    "random_perspective": {},
    "random_photometric_distort": {},
    "random_posterize": {"bits": 2},
    "random_resize": {"min_size": 8, "max_size": 16},
    "random_resized_crop": {"size": 16},
    "random_rotation": {"degrees": 90},
    "random_shortest_size": {"min_size": [8, 12, 16]},
    "random_solarize": {"threshold": 128},
    "random_vertical_flip": {},
    "random_zoom_out": {},
    "scale_jitter": {"target_size": [16, 16]},
    "train_light": {"size": 16},
    "train_strong": {"size": 16},
    "trivial_augment_wide": {},
}
PARAMS = {**DETERMINISTIC, **RANDOM}
# Names from other files, as a user's, may be registered too while the tests run.
REGISTERED = [name for name in ImageTransform.list_available() if not name.startswith("test_")]


def build(name: str) -> ImageTransform:
    assert name in PARAMS, f"add the smallest config of '{name}' to PARAMS"
    return ImageTransform.from_params(Params({"type": name, **deepcopy(PARAMS[name])}))


def make_image(name: str = "", channels: int = 3) -> torch.Tensor:
    """`uint8`, with the strides of a decoded image, neither very dark nor very bright."""
    height, width = (1, 6 // channels) if name == "linear_transformation" else (HEIGHT, WIDTH)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(50, 200, (height, width, channels), generator=generator)
    return pixels.to(torch.uint8).permute(2, 0, 1)


def apply_with_seeds(transform: ImageTransform, image: torch.Tensor) -> List[torch.Tensor]:
    results = []
    for seed in SEEDS:
        with random_source(torch.Generator().manual_seed(seed)):
            results.append(transform(image))
    return results


def are_equal(first: List[torch.Tensor], second: List[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def test_every_config_is_of_a_registered_name() -> None:
    assert set(PARAMS) == set(REGISTERED)


@pytest.mark.parametrize("name", sorted({*DETERMINISTIC, *RANDOM} - {"compose"}))
def test_a_transform_says_whether_it_is_random(name: str) -> None:
    cls = ImageTransform.by_name(name)
    assert isinstance(cls, type)
    assert issubclass(cls, ImageTransform)
    assert cls.is_random == (name in RANDOM)


def test_what_holds_transforms_is_not_random_itself() -> None:
    assert not TRANSFORMS["Compose"].is_random


def test_a_transform_of_a_user_need_not_say() -> None:
    class Mine(ImageTransform):
        pass

    assert Mine.is_random is None


@pytest.mark.parametrize("name", REGISTERED)
def test_a_transform_is_fixed_unless_it_draws(name: str) -> None:
    assert build(name).is_fixed() == (name in DETERMINISTIC)


def test_only_a_class_that_says_so_is_fixed() -> None:
    class Mine(Resize):
        """It inherits `is_random`, but may draw."""

    class Fixed(ImageTransform):
        is_random = False

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return image

    assert Resize(4).is_fixed()
    assert not Mine(4).is_fixed()
    assert Fixed().is_fixed()
    flip: ImageTransform = TRANSFORMS["RandomHorizontalFlip"]()
    for holder in (InTurn, TRANSFORMS["Compose"]):
        assert holder([Fixed(), Resize(4)]).is_fixed()
        assert not holder([Fixed(), flip]).is_fixed()
        assert not holder([Fixed(), Mine(4)]).is_fixed()
    assert not TRANSFORMS["Compose"]([lambda image: image]).is_fixed()


def test_the_parts_of_a_list() -> None:
    flip: ImageTransform = TRANSFORMS["RandomHorizontalFlip"]()
    fixed, rest = InTurn([Resize(4), flip, Resize(3)]).parts
    assert fixed is not None
    assert rest is not None
    assert len(fixed.transforms) == 1
    assert (len(rest.transforms), rest.start) == (2, 1)
    assert InTurn([flip]).parts[0] is None
    assert InTurn([Resize(4)]).parts[1] is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", REGISTERED)
def test_image_in_image_out(name: str, channels: int) -> None:
    image = make_image(name, channels)
    before = image.clone()
    result = build(name)(image)
    assert torch.equal(image, before)
    expected_channels = {"grayscale": 1, "rgb": 3}.get(name, channels)
    assert result.shape[0] == expected_channels
    assert result.dim() == 3
    is_float = name in ("linear_transformation", "normalize", "to_dtype")
    assert result.dtype == (torch.float32 if is_float else torch.uint8)


@pytest.mark.parametrize("name", REGISTERED)
def test_a_seed_decides_the_result_in_any_thread(name: str) -> None:
    transform, image = build(name), make_image(name)
    global_state = torch.get_rng_state()
    results = apply_with_seeds(transform, image)
    assert are_equal(results, apply_with_seeds(transform, image))
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(apply_with_seeds, transform, image) for _ in range(4)]
    assert all(are_equal(results, future.result()) for future in futures)
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize("name", REGISTERED)
def test_seeds_differ_where_something_is_random(name: str) -> None:
    first, *others = apply_with_seeds(build(name), make_image(name))
    differs = any(not torch.equal(first, other) for other in others)
    assert differs == (name in RANDOM)


@ImageTransform.register("test_brighter")
class Brighter(ImageTransform):
    """What a user writes in a file of their own."""

    def __init__(self, most: int = 10) -> None:
        self.most = most

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.randint(1, self.most + 1, ()).to(torch.uint8)


def test_a_users_transform_in_a_container_from_jsonnet(tmp_path) -> None:
    path = tmp_path / "transform.jsonnet"
    path.write_text("""
        local brighter = {type: "test_brighter", most: 5};
        {type: "compose", transforms: [{type: "random_apply", transforms: [brighter], p: 1}, "rgb"]}
    """)
    transform = ImageTransform.from_params(Params.from_file(str(path)))
    image = torch.zeros(1, 2, 2, dtype=torch.uint8)
    results = apply_with_seeds(transform, image)
    assert {int(result.unique()) for result in results} == {1, 2, 3, 4, 5}
    assert results[0].shape == (3, 2, 2)
    assert are_equal(results, apply_with_seeds(transform, image))


def test_an_unknown_key_of_a_users_transform() -> None:
    with pytest.raises(ConfigurationError, match="'moist'; expected one of most"):
        ImageTransform.from_params(Params({"type": "test_brighter", "moist": 5}))


def test_the_base_does_nothing() -> None:
    with pytest.raises(NotImplementedError):
        ImageTransform()(torch.zeros(3, 2, 2))


class Refusing(ImageTransform):
    def draft(self, height: int, width: int) -> Draft:
        return Draft(1, self)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("never\nand for this reason")


@pytest.mark.parametrize(
    ("transforms", "said"),
    [
        (
            [build("random_horizontal_flip"), RandomCrop(HEIGHT + 1)],
            "random_crop (dataset_reader.transforms.1) cannot be applied to an image of "
            f"3 x {HEIGHT} x {WIDTH} (channels, height, width): ValueError: Required crop size",
        ),
        ([Refusing()], "Refusing (dataset_reader.transforms.0) cannot be applied to an image of "),
    ],
)
def test_the_transform_that_fails_is_named(transforms: List[ImageTransform], said: str) -> None:
    with pytest.raises(TransformError) as error:
        InTurn(transforms)(make_image())
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    draft = InTurn([Refusing(), *transforms]).draft(HEIGHT, WIDTH)
    assert draft is not None
    with pytest.raises(TransformError, match=r"^Refusing \(dataset_reader.transforms.0\)"):
        draft.apply(make_image())

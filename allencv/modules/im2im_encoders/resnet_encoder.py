import os
from typing import Any, Dict, List, Optional, Self

import torch
import torchvision
from allennlp.common.checks import ConfigurationError
from torch.nn.modules.batchnorm import _BatchNorm

from allencv.common.checks import not_one_of
from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder
from allencv.modules.pretrained_weights import pretrained_weights_skipped

_MODELS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_LAYERS = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


def adapt_input_channels(weight: torch.Tensor, input_channels: int) -> torch.Tensor:
    """
    Turns the weight of a first convolution made for red, green and blue, of shape
    `(output_channels, 3, height, width)`, into one for `input_channels`. For 1 channel the three
    are summed, so that a gray image gives what it gave as RGB. For any other number they are
    repeated in turn (R, G, B, R, ...) and scaled by `3 / input_channels`, which keeps the size of
    the output. `timm` has the same convention for its `in_chans`.
    """
    if input_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    tiled = weight[:, torch.arange(input_channels) % 3]
    return tiled * (3 / input_channels)


@Im2ImEncoder.register("pretrained_resnet")
@Im2ImEncoder.register("resnet")
class ResnetEncoder(Im2ImEncoder):
    """
    A residual network (He et al. 2015, arXiv:1512.03385) of `torchvision` without its classifier,
    pretrained on ImageNet by default. Input shape: `(batch, input_channels, height, width)`,
    normalised with ImageNet's mean and deviation for pretrained weights; output shape: `(batch,
    output_channels, 1, 1)`, or `(batch, output_channels, ceil(height / 32), ceil(width / 32))` with
    `pool` off. There are 512 output channels for resnet18 and resnet34, and 2048 for the others.

    The layers keep torchvision's names, so parameters are called `layer4.0.conv1.weight` and so on.

    Batch normalisation whose weights do not require gradients, for whatever reason, is frozen
    altogether: it normalises with its running statistics and leaves them as they are, in training
    too.

    Registered as an `Im2ImEncoder` with names "pretrained_resnet" and "resnet".

    # Parameters

    resnet_model : `str`, required
        One of resnet18, resnet34, resnet50, resnet101 and resnet152.
    requires_grad : `bool`, optional (default = `True`)
        Whether the encoder is trained. If `False`, all of it is frozen.
    weights : `Optional[str]`, optional (default = `"DEFAULT"`)
        The name of a set of weights of torchvision for this model ("DEFAULT", "IMAGENET1K_V1" and
        so on), which is downloaded once and kept in torch.hub's folder; or the path of a state dict
        saved by `torch.save` with torchvision's parameter names, with or without the classifier's
        `fc`; or `None` for random initialisation. It is ignored when a trained model is loaded from
        its archive (see `allencv.modules.pretrained_weights`). Raises `ConfigurationError` if it is
        neither a name nor a file, if the download fails, or if the file does not fit the model.
    pool : `bool`, optional (default = `True`)
        Whether to average the feature image to 1 by 1 pixel. If `False`, its stride is 32.
    trainable_layers : `Optional[List[str]]`, optional (default = `None`)
        The layers that are trained, of conv1, bn1, layer1, layer2, layer3 and layer4; the others
        are frozen, and an empty list freezes all. `None` means all if `requires_grad`, else none.
    input_channels : `int`, optional (default = `3`)
        The channels of an input image. Pretrained weights for 3 channels are adapted to another
        number by `adapt_input_channels`.
    """

    def __init__(
        self,
        resnet_model: str,
        requires_grad: bool = True,
        weights: Optional[str] = "DEFAULT",
        pool: bool = True,
        trainable_layers: Optional[List[str]] = None,
        input_channels: int = 3,
    ) -> None:
        super().__init__()
        if resnet_model not in _MODELS:
            raise not_one_of("resnet_model", resnet_model, _MODELS)
        trunk = torchvision.models.get_model(resnet_model, weights=None)
        self._input_channels = input_channels
        self._output_channels: int = trunk.fc.in_features
        self._pool = pool

        self.conv1 = trunk.conv1
        if input_channels != 3:
            self.conv1 = torch.nn.Conv2d(input_channels, 64, 7, stride=2, padding=3, bias=False)
            torch.nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = trunk.bn1
        self.relu = trunk.relu
        self.maxpool = trunk.maxpool
        self.layer1 = trunk.layer1
        self.layer2 = trunk.layer2
        self.layer3 = trunk.layer3
        self.layer4 = trunk.layer4

        if weights is not None and not pretrained_weights_skipped():
            self._load_weights(resnet_model, weights)
        self._freeze(requires_grad, trainable_layers)

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_channels(self) -> int:
        return self._output_channels

    def get_stride(self) -> Optional[int]:
        return None if self._pool else 32

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # Shape: (batch, 64, height / 4, width / 4)
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        # Shape: (batch, output_channels, height / 32, width / 32)
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        if self._pool:
            features = torch.nn.functional.adaptive_avg_pool2d(features, 1)
        return features

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm) and not module.weight.requires_grad:
                module.eval()
        return self

    def _freeze(self, requires_grad: bool, trainable_layers: Optional[List[str]]) -> None:
        if trainable_layers and not requires_grad:
            raise ConfigurationError(
                f"trainable_layers is {trainable_layers}, but requires_grad is false; expected "
                "only one of the two keys"
            )
        for name in trainable_layers or []:
            if name not in _LAYERS:
                raise not_one_of("a name in trainable_layers", name, _LAYERS)
        for name in _LAYERS:
            trained = requires_grad if trainable_layers is None else name in trainable_layers
            self.get_submodule(name).requires_grad_(trained)
        self.train()  # puts the batch normalisation of frozen layers into evaluation mode

    def _load_weights(self, resnet_model: str, weights: str) -> None:
        known = torchvision.models.get_model_weights(resnet_model).__members__
        if weights in known:
            state = _download(known[weights])
        elif os.path.isfile(weights):
            state = _read(weights)
        else:
            raise ConfigurationError(
                f"weights is {weights!r}; expected the path of a file that exists, or one of "
                f"torchvision's weights for {resnet_model}: {', '.join(known)}"
            )
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
        first = state.get("conv1.weight")
        if first is not None and first.shape[1] == 3 != self._input_channels:
            state["conv1.weight"] = adapt_input_channels(first, self._input_channels)

        own_state = self.state_dict()
        # Files from before PyTorch 1.0 lack the batch counters, and load_state_dict adds them.
        needed = [name for name in own_state if not name.endswith("num_batches_tracked")]
        problems = {
            "lacks": [name for name in needed if name not in state],
            "has unknown": [name for name in state if name not in own_state],
            "has other shapes for": [
                name
                for name in needed
                if name in state and state[name].shape != own_state[name].shape
            ],
        }
        for problem, names in problems.items():
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise ConfigurationError(
                    f"weights is {weights!r}, which {problem} {', '.join(names[:3])}{more}; "
                    f"expected a state dict of {resnet_model} for {self._input_channels} channels"
                )
        self.load_state_dict(state)


def _download(weights: Any) -> Dict[str, torch.Tensor]:
    """`weights` is a member of a weights enum of torchvision."""
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # of the network, the disk or torch.load
        folder = os.path.join(torch.hub.get_dir(), "checkpoints")
        raise ConfigurationError(
            f"could not load {os.path.basename(weights.url)} from {folder} nor download it there "
            f"({_reason(error)}): put it there yourself, or set weights to a local file, or to "
            "null for random initialisation"
        ) from error


def _read(path: str) -> Dict[str, torch.Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch.load raises depends on what the file is instead
        raise ConfigurationError(
            f"weights is {path!r}, which torch.load cannot read ({_reason(error)}); expected a "
            "state dict"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and torch.is_tensor(value) for name, value in state.items()
    ):
        raise ConfigurationError(
            f"weights is {path!r}, which holds a {type(state).__name__}; expected a state dict of "
            "nothing but names and tensors"
        )
    return state


def _reason(error: Exception) -> str:
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line}"

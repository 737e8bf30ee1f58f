from typing import List, Optional

import torch
import torchvision

from allencv.common.nearest_names import not_one_of
from allencv.modules.freezing import freeze
from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder
from allencv.modules.pretrained_weights import pretrained_weights_skipped
from allencv.modules.weight_files import (
    adapt_input_channels,
    load_fitting,
    torchvision_state_dict,
)

MODELS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""The names that `resnet_model` takes."""


@Im2ImEncoder.register("pretrained_resnet")
@Im2ImEncoder.register("resnet")
class ResnetEncoder(Im2ImEncoder):
    """
    A residual network (He et al. 2015, arXiv:1512.03385) of `torchvision` without its classifier,
    pretrained on ImageNet by default. Input shape: `(batch, input_channels, height, width)`,
    normalised with ImageNet's mean and deviation for pretrained weights; output shape: `(batch,
    output_channels, 1, 1)`, or `(batch, output_channels, ceil(height / 32), ceil(width / 32))` with
    `pool` off. There are 512 output channels for resnet18 and resnet34, and 2048 for the others.

    The layers keep torchvision's names, such as `layer4.0.conv1.weight`.

    Registered as an `Im2ImEncoder` with names "pretrained_resnet" and "resnet".

    # Parameters

    resnet_model : `str`, required
        "resnet18", "resnet34", "resnet50", "resnet101" or "resnet152".
    requires_grad : `bool`, optional (default = `True`)
        Whether to train the encoder. If `False`, all of it is frozen.
    weights : `Optional[str]`, optional (default = `"DEFAULT"`)
        The name of torchvision weights for this model ("DEFAULT", "IMAGENET1K_V1" and so on),
        downloaded once to torch.hub's folder; or the path of a file with torchvision's parameter
        names, with or without the classifier's `fc` (see
        `allencv.modules.weight_files.read_state_dict`); or `None` for random initialisation.
        Ignored when a trained model is loaded from its archive (see
        `allencv.modules.pretrained_weights`). Raises `ConfigurationError` if it is neither a name
        nor a file, if the download fails, or if the file does not fit the model.
    pool : `bool`, optional (default = `True`)
        Whether to average the feature map to 1 by 1 pixel. If `False`, its stride is 32.
    trainable_layers : `Optional[List[str]]`, optional (default = `None`)
        The layers to train, of conv1, bn1, layer1, layer2, layer3 and layer4, or parts of them,
        such as "layer4.1"; the others are frozen. An empty list freezes all. `None` means all if
        `requires_grad`, else none.
    input_channels : `int`, optional (default = `3`)
        The channels of an input image. `adapt_input_channels` converts pretrained weights for 3
        channels to another number.
    train_bn : `bool`, optional (default = `True`)
        Whether to train the batch normalisation of trained layers. If not, it normalises with its
        running statistics and does not change them, which suits small batches and short
        fine-tuning.
    """

    def __init__(
        self,
        resnet_model: str,
        requires_grad: bool = True,
        weights: Optional[str] = "DEFAULT",
        pool: bool = True,
        trainable_layers: Optional[List[str]] = None,
        input_channels: int = 3,
        train_bn: bool = True,
    ) -> None:
        super().__init__()
        if resnet_model not in MODELS:
            raise not_one_of("resnet_model", resnet_model, MODELS)
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
        freeze(self, requires_grad, trainable_layers, train_bn)
        self.train()  # puts the batch normalisation of frozen layers into evaluation mode

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

    def _load_weights(self, resnet_model: str, weights: str) -> None:
        state = torchvision_state_dict(resnet_model, weights)
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
        first = state.get("conv1.weight")
        if first is not None and first.shape[1] == 3 != self._input_channels:
            state["conv1.weight"] = adapt_input_channels(first, self._input_channels)
        expected = f"a state dict of {resnet_model} for {self._input_channels} channels"
        load_fitting(self, state, weights, expected)

from typing import Any, Dict, List, Optional

import torch
import torchvision
from allennlp.common.checks import ConfigurationError

from allencv.common.nearest_names import not_one_of
from allencv.modules.freezing import freeze
from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder
from allencv.modules.stages import layer_stages
from allencv.modules.torchvision_networks import (
    FEATURES_STRIDE,
    create_torchvision_network,
    without_pooling,
)

_CONTAINERS = ("features", "trunk_output", "layers", "blocks", "encoder.layers", "encoder")


@Im2ImEncoder.register("torchvision")
class TorchvisionEncoder(Im2ImEncoder):
    """
    Any classification network of `torchvision` without its last layer, pretrained on ImageNet by
    default. Input shape: `(batch, input_channels, height, width)`, normalised with ImageNet's mean
    and deviation for pretrained weights; output shape: `(batch, output_channels, 1, 1)`, the input
    of the last layer; or with `pool` off the feature map before the pooling,
    `(batch, output_channels, height / 32, width / 32)`.

    The network is `backbone`, so parameters have names such as `backbone.features.0.0.weight`. For
    a ResNet, "pretrained_resnet" keeps torchvision's parameter names.

    Registered as an `Im2ImEncoder` with name "torchvision".

    # Parameters

    model_name : `str`, required
        One of `torchvision.models.list_models(module=torchvision.models)`, such as
        "efficientnet_b0", "convnext_tiny" or "mobilenet_v3_large".
    requires_grad : `bool`, optional (default = `True`)
        Whether to train the encoder. If `False`, all of it is frozen.
    weights : `Optional[str]`, optional (default = `"DEFAULT"`)
        The name of torchvision weights for this network ("DEFAULT", "IMAGENET1K_V1" and so on),
        downloaded once to torch.hub's folder; or the path of a file with torchvision's parameter
        names, with or without the last layer (see `allencv.modules.weight_files.read_state_dict`);
        or `None` for random initialisation. Ignored when a trained model is loaded from its archive
        (see `allencv.modules.pretrained_weights`).
    pool : `bool`, optional (default = `True`)
        Whether to output one pixel. `False` is possible for convnext, densenet, efficientnet,
        googlenet, maxvit, mnasnet, mobilenet, regnet, resnet, resnext, shufflenet, swin, vgg and
        wide_resnet; the stride is then 32.
    trainable_layers : `Optional[List[str]]`, optional (default = `None`)
        The layers to train, by their names in torchvision's network, such as "features.7" or
        "layer4"; the others are frozen. `None` means all if `requires_grad`, else none.
    input_channels : `int`, optional (default = `3`)
        The channels of an input image. `allencv.modules.weight_files.adapt_input_channels` converts
        pretrained weights for 3 channels to another number.
    torchvision_arguments : `Optional[Dict[str, Any]]`, optional (default = `None`)
        More arguments of torchvision's function of this name, such as
        `{"stochastic_depth_prob": 0.2}` for convnext, or `{"image_size": 384}` for vit.
    train_bn : `bool`, optional (default = `True`)
        Whether to train the batch normalisation of trained layers. If not, it normalises with its
        running statistics and does not change them, which suits small batches and short
        fine-tuning.

    # Raises

    `ConfigurationError` if torchvision has no such network or argument, or if the weights cannot be
    found or downloaded, or do not fit.
    """

    def __init__(
        self,
        model_name: str,
        requires_grad: bool = True,
        weights: Optional[str] = "DEFAULT",
        pool: bool = True,
        trainable_layers: Optional[List[str]] = None,
        input_channels: int = 3,
        torchvision_arguments: Optional[Dict[str, Any]] = None,
        train_bn: bool = True,
    ) -> None:
        super().__init__()
        known = torchvision.models.list_models(module=torchvision.models)
        if model_name not in known:
            raise not_one_of("model_name", model_name, known)
        self._model_name = model_name
        self._input_channels = input_channels
        self._pool = pool
        self.backbone, self._output_channels = create_torchvision_network(
            model_name, weights, input_channels, torchvision_arguments or {}
        )
        if not pool:
            self.backbone, self._output_channels = without_pooling(
                self.backbone, model_name, self._output_channels
            )
        freeze(self.backbone, requires_grad, trainable_layers, train_bn)
        self.train()  # puts the batch normalisation of frozen layers into evaluation mode

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_channels(self) -> int:
        return self._output_channels

    def get_stride(self) -> Optional[int]:
        return None if self._pool else FEATURES_STRIDE

    def get_stages(self) -> List[List[str]]:
        return layer_stages(self, [f"backbone.{name}" for name in _CONTAINERS] + ["backbone"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        try:
            if self._pool:
                # Shape: (batch, output_channels, 1, 1)
                return self.backbone(images)[:, :, None, None]
            # Shape: (batch, output_channels, height / 32, width / 32)
            return self.backbone(images)["features"]
        except AssertionError as error:  # torchvision's error for a wrong size
            raise ConfigurationError(
                f"{self._model_name} got images of {images.shape[2]} by {images.shape[3]} pixels "
                f"(height by width): {error} Change the size of the images in the transforms of "
                "dataset_reader and validation_dataset_reader"
            ) from error

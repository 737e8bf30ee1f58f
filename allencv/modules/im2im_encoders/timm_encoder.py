from typing import Any, Dict, List, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError

from allencv.modules.freezing import freeze
from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder
from allencv.modules.pretrained_weights import pretrained_weights_skipped
from allencv.modules.stages import layer_stages, shortest_prefixes
from allencv.modules.timm_networks import create_timm_network
from allencv.modules.weight_files import reason

_OWN_KEYS = {
    "model_name": "model_name",
    "pretrained": "pretrained",
    "checkpoint_path": "weights",
    "pretrained_cfg": "weights",
    "pretrained_cfg_overlay": "weights",
    "in_chans": "input_channels",
    "img_size": "image_size",
    "drop_path_rate": "drop_path_rate",
    "features_only": "stage",
    "out_indices": "stage",
    "num_classes": "the model's own num_labels",
}
"""Arguments of `timm.create_model` with another place in the config."""

_CONTAINERS = ("stages", "dense_stages", "transformers")
"""Where the few networks without stages in timm keep their layers."""


@Im2ImEncoder.register("timm")
class TimmEncoder(Im2ImEncoder):
    """
    Any network of `timm` without its classifier. Input shape:
    `(batch, input_channels, height, width)`, normalised as the weights require (see `mean` and
    `std` of `timm.get_pretrained_cfg(model_name)`; not all are ImageNet's). Output shape:
    `(batch, output_channels, 1, 1)`, the input of timm's own classifier: pooled as in this network
    (average, class token, attention), with its last normalisation. With `pool` off it is the
    feature map `(batch, output_channels, height / stride, width / stride)`; for a transformer,
    that of its patches, without class and register tokens.

    The network is `backbone`, so parameters have names such as `backbone.blocks.0.norm1.weight`.
    Parameters that do not affect the output are removed. With `gradient_checkpointing`, batch
    normalisation counts each batch twice in its running statistics.

    Registered as an `Im2ImEncoder` with name "timm".

    # Parameters

    model_name : `str`, required
        A name in timm ("convnext_tiny"), with a tag for particular weights
        ("vit_base_patch16_224.dino"), or on the Hugging Face hub ("hf-hub:owner/repository").
        `timm.list_models()` and `timm.list_pretrained()` list names. The hub is needed for the
        network's description even without `pretrained`, and when a model is loaded from its
        archive.
    requires_grad : `bool`, optional (default = `True`)
        Whether to train the encoder. If `False`, all of it is frozen.
    pretrained : `bool`, optional (default = `True`)
        Whether to start from timm's published weights, downloaded once. Ignored, like `weights`,
        when a trained model is loaded from its archive (see `allencv.modules.pretrained_weights`).
    weights : `Optional[str]`, optional (default = `None`)
        The path of a weights file for this network (".safetensors" or `torch.save`) to use instead
        of the published weights. The classifier may be missing or have other classes. As with
        published weights, position embeddings for another image size are interpolated, and a first
        convolution for red, green and blue is adapted to `input_channels`.
    pool : `bool`, optional (default = `True`)
        Whether to output one pixel. If `False`, the stride is that of the feature level.
    stage : `Optional[int]`, optional (default = `None`)
        The feature level to output, an index into timm's `feature_info`: 0 is the first, -1 the
        last. It gets no further normalisation; `pool` averages it. `None` is the end of the
        network: the pooled vector, or without `pool` the last level, normalised if the network does
        so. Parts of the head in timm, such as the last layer of an EfficientNet or the
        normalisation after the pooling of a ConvNeXt, are not in the feature levels.
    trainable_layers : `Optional[List[str]]`, optional (default = `None`)
        The layers to train, by their names in timm's network, such as "stages.3", "norm" or
        "blocks.11"; the others are frozen. `None` means all if `requires_grad`, else none.
    input_channels : `int`, optional (default = `3`)
        The channels of an input image.
    image_size : `Optional[Union[int, List[int]]]`, optional (default = `None`)
        The side, or height and width, of the images in pixels, for networks built for one size,
        such as most transformers. `None` is the size of the weights.
    drop_path_rate : `Optional[float]`, optional (default = `None`)
        Stochastic depth (Huang et al. 2016, arXiv:1603.09382): the probability, in [0, 1), of
        skipping the last block in training, decreasing to 0 towards the first. `None` is timm's
        value for the network, usually 0.
    gradient_checkpointing : `bool`, optional (default = `False`)
        Whether to recompute the blocks' activations in the backward pass instead of keeping them
        (Chen et al. 2016, arXiv:1604.06174): less memory, about a third more time.
    timm_arguments : `Optional[Dict[str, Any]]`, optional (default = `None`)
        More arguments of `timm.create_model` for this network, such as `{"global_pool": "avg"}` or
        `{"dynamic_img_size": true}`.
    train_bn : `bool`, optional (default = `True`)
        Whether to train the batch normalisation of trained layers. If not, it normalises with its
        running statistics and does not change them, which suits small batches and short
        fine-tuning.

    # Raises

    `ConfigurationError` if timm has no such network, stage or argument, or if the weights cannot be
    found or downloaded, or do not fit; and in `forward` for images of a wrong size.
    """

    def __init__(
        self,
        model_name: str,
        requires_grad: bool = True,
        pretrained: bool = True,
        weights: Optional[str] = None,
        pool: bool = True,
        stage: Optional[int] = None,
        trainable_layers: Optional[List[str]] = None,
        input_channels: int = 3,
        image_size: Optional[Union[int, List[int]]] = None,
        drop_path_rate: Optional[float] = None,
        gradient_checkpointing: bool = False,
        timm_arguments: Optional[Dict[str, Any]] = None,
        train_bn: bool = True,
    ) -> None:
        super().__init__()
        arguments = dict(timm_arguments or {})
        for key in arguments:
            if key in _OWN_KEYS:
                raise ConfigurationError(
                    f"timm_arguments has {key!r}; expected it as {_OWN_KEYS[key]}"
                )
        arguments["in_chans"] = input_channels
        if image_size is not None:
            size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
            arguments["img_size"] = size
        if drop_path_rate is not None:
            if not 0 <= drop_path_rate < 1:
                raise ConfigurationError(
                    f"drop_path_rate is {drop_path_rate}; expected a number in [0, 1)"
                )
            arguments["drop_path_rate"] = drop_path_rate
        if pretrained_weights_skipped():
            pretrained, weights = False, None

        self._model_name = model_name
        self._input_channels = input_channels
        self._pool = pool
        self.backbone: Any = create_timm_network(model_name, pretrained, weights, arguments)
        self._cut(stage)
        if gradient_checkpointing:
            try:
                self.backbone.set_grad_checkpointing()
            except (AssertionError, AttributeError):
                raise ConfigurationError(
                    f"gradient_checkpointing is true; expected false, because timm does not "
                    f"support it for {model_name}"
                ) from None
        freeze(self.backbone, requires_grad, trainable_layers, train_bn)
        self.train()  # puts the batch normalisation of frozen layers into evaluation mode

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_channels(self) -> int:
        return self._output_channels

    def get_stride(self) -> Optional[int]:
        return None if self._pool else self._stride

    def get_stages(self) -> List[List[str]]:
        from timm.models import group_parameters

        try:
            matcher = self.backbone.group_matcher(coarse=True)
        except (AssertionError, AttributeError):  # a few networks have none
            groups = layer_stages(self.backbone, _CONTAINERS)
        else:
            by_layer = group_parameters(self.backbone, matcher)
            groups = shortest_prefixes(by_layer[layer] for layer in sorted(by_layer))
        return [[f"backbone.{name}" for name in names] for names in groups]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        try:
            if self._level is None:
                # Shape: (batch, output_channels, 1, 1)
                return self.backbone(images)[:, :, None, None]
            # Shape: (batch, output_channels, height / stride, width / stride)
            (features,) = self.backbone.forward_intermediates(
                images,
                indices=[self._level],
                norm=self._norm,
                output_fmt="NCHW",
                intermediates_only=True,
            )
        except AssertionError as error:  # timm's error for a wrong size or an unsupported output
            raise ConfigurationError(
                f"{self._model_name} got images of {images.shape[2]} by {images.shape[3]} pixels "
                f"(height by width): {error} Check the encoder's image_size and stage, or "
                "change the size of the images"
            ) from error
        return features.mean(dim=(2, 3), keepdim=True) if self._pool else features

    def _cut(self, stage: Optional[int]) -> None:
        """Remove the classifier, and everything after the feature level."""
        self._level: Optional[int] = None
        self._norm = stage is None
        try:
            if stage is None and self._pool:
                self.backbone.reset_classifier(0)
                self._output_channels = int(self.backbone.head_hidden_size)
                return
            levels = len(self.backbone.feature_info)
            index = -1 if stage is None else stage
            if not -levels <= index < levels:
                raise ConfigurationError(
                    f"stage is {stage}; expected {-levels} to {levels - 1}, as {self._model_name} "
                    f"has {levels} feature levels"
                )
            self._level = index % levels
            level = self.backbone.feature_info[self._level]
            self._output_channels, self._stride = level["num_chs"], level["reduction"]
            self.backbone.prune_intermediate_layers(
                [self._level], prune_norm=not self._norm, prune_head=True
            )
        except (AssertionError, AttributeError) as error:
            raise ConfigurationError(
                f"{self._model_name} does not give what this config asks for ({reason(error)}); "
                "check pool and stage"
            ) from error

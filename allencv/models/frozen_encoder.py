"""The part of a classifier that training does not change."""

from dataclasses import dataclass
from typing import Callable, Dict, Optional

import torch
from allennlp.common.checks import ConfigurationError
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

KEY = "trainer.frozen_features"


@dataclass(frozen=True)
class FrozenEncoder:
    """
    The encoders of a classifier that training does not change. They compute in evaluation mode:
    nothing is dropped. Input: images `(batch, channels, height, width)` as the classifier's
    `forward` takes them. Output: `features` as its `forward` takes them.

    # Parameters

    prepare : `Callable[[torch.Tensor], torch.Tensor]`
        Checks and normalises the images.
    normalize : `torch.nn.Module`
        The normalisation that `prepare` uses.
    encoders : `Dict[str, torch.nn.Module]`
        By their names in the classifier, from the input on.
    """

    prepare: Callable[[torch.Tensor], torch.Tensor]
    normalize: torch.nn.Module
    encoders: Dict[str, torch.nn.Module]

    @property
    def network(self) -> torch.nn.Module:
        """All that decides the features of an image."""
        return encoder_network(self.normalize, self.encoders)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        features = self.prepare(images)
        for encoder in self.encoders.values():
            was_training = encoder.training
            features = encoder.eval()(features)
            encoder.train(was_training)
        return features


def named_encoders(
    im2im_encoder: Optional[torch.nn.Module], im2vec_encoder: torch.nn.Module
) -> Dict[str, torch.nn.Module]:
    """Return the encoders of a classifier by their names in it, from the input on."""
    encoders = {"_im2im_encoder": im2im_encoder, "_im2vec_encoder": im2vec_encoder}
    return {name: encoder for name, encoder in encoders.items() if encoder is not None}


def encoder_network(
    normalize: torch.nn.Module, encoders: Dict[str, torch.nn.Module]
) -> torch.nn.Module:
    """Return all that decides the output of `named_encoders`, for `encoder_checksum`."""
    return torch.nn.ModuleDict({"normalize": normalize, **encoders})


def frozen_encoders(
    im2im_encoder: Optional[torch.nn.Module], im2vec_encoder: torch.nn.Module
) -> Dict[str, torch.nn.Module]:
    """
    Return the encoders that training does not change, by their names in a classifier, up to the
    first that it changes.

    # Raises

    `ConfigurationError` if that is the first one of all, with what changes.
    """
    frozen: Dict[str, torch.nn.Module] = {}
    for name, encoder in named_encoders(im2im_encoder, im2vec_encoder).items():
        change = _change(name, encoder)
        if change is not None and not frozen:
            raise ConfigurationError(
                f"{KEY} is set, but {change}; expected a frozen encoder, by requires_grad false "
                f'without trainable_layers, or by trainer.no_grad ["{name}"]'
            )
        if change is not None:
            break
        frozen[name] = encoder
    return frozen


def _change(prefix: str, encoder: torch.nn.Module) -> Optional[str]:
    """Say what training changes in an encoder, or return `None`."""
    for name, parameter in encoder.named_parameters(prefix):
        if parameter.requires_grad:
            return f"{name} is trained"
    was_training = encoder.training
    encoder.train()  # an encoder may keep frozen normalisation in evaluation mode
    try:
        for name, module in encoder.named_modules(prefix=prefix):
            if not isinstance(module, _NormBase):
                continue
            if module.training and module.track_running_stats:
                return f"the normalisation {name} changes its running statistics in training"
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                return f"the batch normalisation {name} has no running statistics"
    finally:
        encoder.train(was_training)
    return None

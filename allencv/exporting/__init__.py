"""Export trained models as bundles, for `allencv.runtime` and `allencv.serving`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allencv.exporting.bundle_export import export_bundle
    from allencv.exporting.torch_classifier import TorchClassifier

_MODULES = {"TorchClassifier": "torch_classifier", "export_bundle": "bundle_export"}
"""Where each name is defined. `TorchClassifier` needs torch, but not AllenNLP."""

__all__ = ["TorchClassifier", "export_bundle"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'allencv.exporting' has no attribute {name!r}")
    return getattr(import_module(f"allencv.exporting.{_MODULES[name]}"), name)

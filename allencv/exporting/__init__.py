"""A trained model becomes a bundle, which `allencv.runtime` opens and `allencv.serving` serves."""

from allencv.exporting.export_bundle import export_bundle
from allencv.exporting.torch_classifier import TorchClassifier

__all__ = ["TorchClassifier", "export_bundle"]

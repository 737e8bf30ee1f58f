"""Export trained models as bundles, for `allencv.runtime` and `allencv.serving`."""

from allencv.exporting.export_bundle import export_bundle
from allencv.exporting.torch_classifier import TorchClassifier

__all__ = ["TorchClassifier", "export_bundle"]

"""
Run a finished model. It needs only numpy and pillow, and an engine to run bundles; it imports
neither torch nor AllenNLP.

Validation in training, prediction, export and serving all turn files into pixels with this code.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, List

# Before any import of onnxruntime: by default it writes an identifier into the home folder and
# sends usage data to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from allencv.runtime.bundle import is_bundle, open_bundle
    from allencv.runtime.classifier import Classifier, judged, readable
    from allencv.runtime.errors import BundleError, ImageError
    from allencv.runtime.images import COLOR_MODES, ImageSource, read_image, to_color_mode
    from allencv.runtime.manifest import Manifest
    from allencv.runtime.onnx_classifier import OnnxClassifier
    from allencv.runtime.preprocessing import Preprocessing

_MODULES = {
    "BundleError": "errors",
    "COLOR_MODES": "images",
    "Classifier": "classifier",
    "ImageError": "errors",
    "ImageSource": "images",
    "Manifest": "manifest",
    "OnnxClassifier": "onnx_classifier",
    "Preprocessing": "preprocessing",
    "is_bundle": "bundle",
    "judged": "classifier",
    "open_bundle": "bundle",
    "read_image": "images",
    "readable": "classifier",
    "to_color_mode": "images",
}
"""Where each name is defined. A module is imported when its name is first used."""

__all__ = [
    "COLOR_MODES",
    "BundleError",
    "Classifier",
    "ImageError",
    "ImageSource",
    "Manifest",
    "OnnxClassifier",
    "Preprocessing",
    "is_bundle",
    "judged",
    "open_bundle",
    "read_image",
    "readable",
    "to_color_mode",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'allencv.runtime' has no attribute {name!r}")
    return getattr(import_module(f"allencv.runtime.{_MODULES[name]}"), name)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})

"""
Run a finished model. It needs only numpy and pillow, and an engine to run bundles; it imports
neither torch nor AllenNLP.

Validation in training, prediction, export and serving all turn files into pixels with this code.
"""

import os

# Before any import of onnxruntime: by default it writes an identifier into the home folder and
# sends usage data to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from allencv.runtime.bundle import is_bundle, open_bundle
from allencv.runtime.classifier import Classifier, readable
from allencv.runtime.errors import BundleError, ImageError
from allencv.runtime.images import COLOR_MODES, ImageSource, read_image, to_color_mode
from allencv.runtime.manifest import Manifest
from allencv.runtime.onnx_classifier import OnnxClassifier
from allencv.runtime.preprocessing import Preprocessing

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
    "open_bundle",
    "read_image",
    "readable",
    "to_color_mode",
]

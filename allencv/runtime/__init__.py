"""
What a finished model needs to answer, and nothing more: numpy and pillow, and an engine where a
bundle is run.

Training's validation reader, prediction, export and serving all turn a file into pixels with the
code in here. It imports neither torch nor AllenNLP.
"""

import os

# Before onnxruntime is imported anywhere: it else writes an identifier into the home folder and
# sends its maker what is run.
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

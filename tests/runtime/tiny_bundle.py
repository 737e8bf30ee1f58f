"""A bundle whose network can be worked out by hand: it looks at the mean colour of an image."""

from pathlib import Path
from typing import List, Optional

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from allencv.runtime import Preprocessing
from allencv.runtime.bundle import MANIFEST, sha256_of
from allencv.runtime.certainty import Certainty
from allencv.runtime.certainty.files import FILES, write_certainty
from allencv.runtime.manifest import Manifest

LABELS = ["red", "green", "blue"]
SIZE = 16
SCALE = 8.0
"""The logit of a label is this times the mean of its channel, which is between 0 and 1."""


def write_bundle(
    folder: Path,
    labels: Optional[List[str]] = None,
    thresholds: Optional[List[float]] = None,
    certainty: Optional[Certainty] = None,
) -> Path:
    """
    With `thresholds` it gives any number of labels, and otherwise one. Of more than three labels,
    each third one looks at the same channel. The vector is the mean colour.
    """
    labels = labels or LABELS
    activation = helper.make_node("Sigmoid", ["logits"], ["probs"])
    if thresholds is None:
        activation = helper.make_node("Softmax", ["logits"], ["probs"], axis=-1)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gather", ["mean", "channels"], ["channel"], axis=1),
        helper.make_node("Mul", ["channel", "scale"], ["logits"]),
        activation,
    ]
    constants = {
        "axes": np.array([1, 2]),
        "channels": np.arange(len(labels)) % 3,
        "scale": np.array(SCALE / 255, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "mean_colour",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["batch", len(labels)]),
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    manifest = Manifest(
        task="single_label" if thresholds is None else "multi_label",
        labels=labels,
        thresholds=thresholds,
        preprocessing=Preprocessing(SIZE, SIZE),
        format="onnx",
        precision="float32",
        files={"model.onnx": sha256_of(folder / "model.onnx")},
        versions={"onnx": onnx.__version__},
        parity=None,
        vector_size=3,
    )
    if certainty is not None:
        write_certainty(folder, certainty)
        manifest.files.update({name: sha256_of(folder / name) for name in FILES})
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return folder


def mean_of(image: Path) -> np.ndarray:
    return Preprocessing(SIZE, SIZE)(image).reshape(-1, 3).mean(axis=0)


def logits_of(image: Path) -> np.ndarray:
    return SCALE * mean_of(image) / 255


def softmax_of(image: Path) -> np.ndarray:
    powers = np.exp(logits_of(image))
    return powers / powers.sum()


def sigmoid_of(image: Path) -> np.ndarray:
    return 1 / (1 + np.exp(-logits_of(image)))

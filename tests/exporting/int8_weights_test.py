from typing import List

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from allencv.exporting.int8_weights import Layer, corrected_biases, weight_overrides, weight_ranges


def test_two_neighbours_have_the_range_together() -> None:
    values = np.array([[1.0, 3, -1], [-2, -2, 4], [5, -5, 1], [0, 0, 0]])
    assert weight_ranges(values, depthwise=False).tolist() == [4, 4, 5, 0]
    assert weight_ranges(values, depthwise=True).tolist() == [3, 4, 5, 0]


def test_neighbours_are_in_the_next_channel_or_at_the_next_place() -> None:
    values = np.zeros((3, 2, 1, 2))  # (output, input, height, width)
    values[0, :, 0, 0] = 1, 2
    values[1, 0, 0] = 3, 4
    values[2] = 5 * np.eye(2)[:, None]
    assert weight_ranges(values, depthwise=False).tolist() == [3, 7, 5]


def test_a_single_weight_has_no_neighbour() -> None:
    assert weight_ranges(np.array([[[[-2.0]]]]), depthwise=False).tolist() == [2]


def model_of(kernel: np.ndarray, bias: np.ndarray, **attributes: int) -> ModelProto:
    """A convolution of the image, which is `(batch, channels, height, width)` and float."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel", "bias"], ["out"], "conv", **attributes)],
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in (("kernel", kernel), ("bias", bias))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_corrected_bias_keeps_the_mean_of_each_channel(groups: int) -> None:
    random = np.random.default_rng(groups)
    kernel = random.normal(0, 1, (4, 4 // groups, 1, 1)).astype(np.float32)
    bias = random.normal(0, 1, 4)
    batches: List[np.ndarray] = [
        random.uniform(0, 9, (images, 4, 3, 3)).astype(np.float32) for images in (2, 5)
    ]
    model = model_of(kernel, bias, group=groups)
    steps = weight_ranges(kernel, depthwise=False).reshape(4, 1, 1, 1) / 127
    rounded = np.round(kernel / steps) * steps
    pixels = np.concatenate(batches).reshape(7, groups, 4 // groups, 9)
    shape = (groups, 4 // groups, 4 // groups)  # (group, output, input)

    def means(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        out = np.einsum("goi,ngip->ngop", kernel.reshape(shape), pixels).reshape(7, 4, 9)
        return out.mean(axis=(0, 2)) + bias

    corrected = corrected_biases(model, batches)["conv"]
    assert corrected.dtype == np.float32
    assert np.abs(corrected - bias).max() > 1e-4
    assert means(rounded, corrected) == pytest.approx(means(kernel, bias), abs=1e-5)


def test_no_biases_without_convolutions() -> None:
    model = model_of(np.ones((1, 1, 1, 1)), np.ones(1))
    del model.graph.node[0].input[2]
    assert corrected_biases(model, [np.ones((1, 1, 2, 2), np.float32)]) == {}


@pytest.mark.parametrize(
    ("attributes", "axis", "ranges"), [({}, 1, [4, 6]), ({"transB": 1}, 0, [3, 7])]
)
def test_the_channels_of_a_linear_layer(attributes: dict, axis: int, ranges: List[int]) -> None:
    node = helper.make_node("Gemm", ["x", "linear"], ["y"], "head", **attributes)
    linear = numpy_helper.from_array(np.array([[1, 2], [3, 4]], np.float32), "linear")
    model = helper.make_model(helper.make_graph([node], "one", [], [], [linear]))
    overrides = weight_overrides(model, [Layer([node], "linear"), Layer([node], "computed")])
    assert overrides.keys() == {"linear"}
    assert [each["rmax"] for each in overrides["linear"]] == ranges
    assert {each["axis"] for each in overrides["linear"]} == {axis}

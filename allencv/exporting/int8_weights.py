"""Round weights to int8 without overflow, and correct biases for the rounding."""

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

import numpy as np

from allencv.exporting.onnx_file import INPUT

LARGEST = 127


class Layer(NamedTuple):
    """
    A layer that is computed in int8. It has several nodes if they share its weights: with
    `test_time_augmentation` one for each view.
    """

    nodes: List[Any]
    weights: str

    def names(self) -> List[str]:
        return [node.name for node in self.nodes]


def weight_ranges(values: np.ndarray, depthwise: bool) -> np.ndarray:
    """
    Return the number that becomes 127 in int8, for each output channel. `values` are weights with
    the output channel first.

    A processor without VNNI adds the products of two neighbouring weights in 16 bits, and cuts off
    larger sums. So two neighbours are at most 128 together, as 128 * 255 < 2**15. onnxruntime's
    `reduce_range` halves all weights instead, which loses more labels. The neighbour is in the next
    channel or at the next place, depending on the memory order. Depthwise convolutions do not add
    in pairs.
    """
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)
    if not depthwise:
        for ordered in (values, np.moveaxis(values, 1, -1)):
            rows = ordered.reshape(len(values), -1)
            sums = np.abs(rows[:, 1:] + rows[:, :-1])
            largest = np.maximum(largest, sums.max(axis=1, initial=0))
    return largest


def weight_overrides(model: Any, layers: Sequence[Layer]) -> Dict[str, List[Dict[str, Any]]]:
    """Return onnxruntime's `TensorQuantOverrides` with the ranges of the layers' weights."""
    values = _initializers(model)
    overrides: Dict[str, List[Dict[str, Any]]] = {}
    for layer in layers:
        node, weights = layer.nodes[0], values.get(layer.weights)
        if weights is None or (node.op_type != "Conv" and weights.ndim != 2):
            continue  # computed from the image, or without channels
        axis = 0 if node.op_type == "Conv" or _attribute(node, "transB", 0) else 1
        weights = np.moveaxis(weights, axis, 0)
        overrides[layer.weights] = [
            {"axis": axis, "rmin": -limit, "rmax": limit}
            for limit in weight_ranges(weights, _is_depthwise(node, weights)).tolist()
        ]
    return overrides


def corrected_biases(model: Any, batches: Sequence[np.ndarray]) -> Dict[str, np.ndarray]:
    """
    Return biases for convolutions in int8, by the name of the node. Rounded weights move the mean
    of each output channel, and the bias moves it back. (Nagel et al. 2019,
    https://arxiv.org/abs/1906.04721, section 4.2.) The means of the input channels are those of
    `batches`, without the padding.
    """
    nodes = [node for node in model.graph.node if node.op_type == "Conv" and len(node.input) == 3]
    values = _initializers(model)
    nodes = [node for node in nodes if {*node.input[1:]} <= values.keys()]
    if not nodes:
        return {}
    dimensions = {node.input[0]: values[node.input[1]].ndim for node in nodes}
    means = _channel_means(model, dimensions, batches)
    biases: Dict[str, np.ndarray] = {}
    for node in nodes:
        weights = values[node.input[1]]
        limits = weight_ranges(weights, _is_depthwise(node, weights))
        steps = np.where(limits > 0, limits / LARGEST, 1).reshape(-1, *[1] * (weights.ndim - 1))
        rounding = weights - np.round(weights / steps) * steps
        rounding = rounding.sum(axis=tuple(range(2, weights.ndim)))  # (output, input of a group)
        groups = _attribute(node, "group", 1)
        moved = [
            part @ mean
            for part, mean in zip(
                np.split(rounding, groups), np.split(means[node.input[0]], groups)
            )
        ]
        bias = values[node.input[2]] + np.concatenate(moved)
        biases[node.name] = bias.astype(np.float32)
    return biases


def with_biases(model: Any, biases: Mapping[str, np.ndarray]) -> Any:
    """Return a copy of a model with other biases, by the name of the node."""
    import onnx
    from onnx import numpy_helper

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for node in graph.node:
        if node.name in biases:
            node.input[2] = f"{node.name}_bias"  # the old one may be that of other nodes too
            graph.initializer.append(numpy_helper.from_array(biases[node.name], node.input[2]))
    used = {name for node in graph.node for name in node.input}
    for each in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(each)
    return changed


def _channel_means(
    model: Any, tensors: Dict[str, int], batches: Sequence[np.ndarray]
) -> Dict[str, np.ndarray]:
    """Return the mean of each channel of tensors, which are given with their dimensions."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for index, (name, dimensions) in enumerate(tensors.items()):
        axes = np.array([0, *range(2, dimensions)])
        probe.graph.initializer.append(numpy_helper.from_array(axes, f"axes{index}"))
        inputs, result = [name, f"axes{index}"], f"mean{index}"
        probe.graph.node.append(helper.make_node("ReduceMean", inputs, [result], keepdims=0))
        probe.graph.output.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    sums: List[np.ndarray] = []
    for batch in batches:
        means = session.run(None, {INPUT: batch})
        weighed = [mean * len(batch) for mean in means]
        sums = [total + more for total, more in zip(sums, weighed)] if sums else weighed
    count = sum(len(batch) for batch in batches)
    return {name: sum_ / count for name, sum_ in zip(tensors, sums)}


def _initializers(model: Any) -> Dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def _is_depthwise(node: Any, weights: np.ndarray) -> bool:
    return node.op_type == "Conv" and _attribute(node, "group", 1) > 1 and weights.shape[1] == 1


def _attribute(node: Any, name: str, default: int) -> int:
    return next((each.i for each in node.attribute if each.name == name), default)

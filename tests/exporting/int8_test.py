from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
import onnx
import pytest
from allennlp.common.checks import ConfigurationError
from onnx import TensorProto, helper, numpy_helper

from allencv.exporting.int8 import (
    METHODS,
    Candidate,
    _best,
    _cut_before_hard_swish,
    _layers,
    _quantize,
    to_int8,
)
from allencv.exporting.int8_weights import corrected_biases
from allencv.runtime.engine import PROBABILITIES, VECTORS
from allencv.runtime.onnxruntime_engine import onnxruntime_engine

SIZE, CHANNELS, LABELS = 16, 8, 4
LAYERS = [["first"], ["depthwise"], ["head"]]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Convolutions that are clipped to [0, 6], one of them depthwise, and a linear layer."""
    random = np.random.default_rng(0)
    weights = {
        "kernel": random.normal(0, 0.05, (CHANNELS, 3, 3, 3)),
        "bias": random.normal(0, 1, CHANNELS),
        "depth_kernel": random.normal(0, 0.5, (CHANNELS, 1, 3, 3)),
        "linear": random.normal(0, 2, (CHANNELS, LABELS)),
        "low": np.array(0),
        "high": np.array(6),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["pixels"], "turn", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["pixels", "kernel", "bias"], ["a"], "first"),
        helper.make_node("Clip", ["a", "low", "high"], ["b"], "clip"),
        helper.make_node("Conv", ["b", "depth_kernel"], ["c"], "depthwise", group=CHANNELS),
        helper.make_node("Clip", ["c", "low", "high"], ["d"], "clip2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "linear"], ["g"], "head"),
        helper.make_node("Softmax", ["g"], ["probabilities"], "softmax", axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "clipped",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", LABELS])],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def batches() -> List[np.ndarray]:
    shape = (8, SIZE, SIZE, 3)
    return [
        np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8) for seed in range(4)
    ]


def quantized(
    network: Path,
    batches: List[np.ndarray],
    method: str = "MinMax",
    in_float: int = 0,
    corrected: bool = True,
) -> Path:
    """Quantize a network in one way, without a choice."""
    model, made = onnx.load(network), network.with_name("quantized.onnx")
    biases = corrected_biases(model, batches) if corrected else {}
    _quantize(model, made, batches, method, _layers(model), in_float, biases)
    return made


def names_of_layers(network: Path) -> List[List[str]]:
    return [layer.names() for layer in _layers(onnx.load(network))]


def values_in(file: Path) -> Dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer}


def kinds_of(file: Path) -> List[str]:
    return [node.op_type for node in onnx.load(file).graph.node]


def probabilities(file: Path, batches: List[np.ndarray]) -> np.ndarray:
    return np.concatenate([onnxruntime_engine(file, 1)(batch)[PROBABILITIES] for batch in batches])


def test_the_nearest_network_is_kept(network: Path, batches: List[np.ndarray]) -> None:
    expected = probabilities(network, batches)
    said = to_int8(network, batches)
    given = probabilities(network, batches)
    agreement = (expected.argmax(axis=1) == given.argmax(axis=1)).mean()
    assert agreement > 0.9
    assert 0 < np.abs(expected - given).max() < 0.1
    assert " ranges with the first layer in float32, which keeps" in said
    assert f"keeps {agreement:.2%} of the labels of 32 quantization images" in said
    assert all(method in said for method in METHODS)
    assert [file.name for file in network.parent.iterdir()] == ["model.onnx"]


def with_vector(network: Path, clipped: bool) -> Path:
    """A copy of the network whose second output is the input of the last layer."""
    model = onnx.load(network)
    head = next(node for node in model.graph.node if node.name == "head")
    flat = next(node for node in model.graph.node if node.name == "flat")
    if clipped:
        cut = helper.make_node("Relu", ["f"], ["vector"], "cut")
        model.graph.node.insert(list(model.graph.node).index(head), cut)
    else:
        flat.output[0] = "vector"
    head.input[0] = "vector"
    shape = ["batch", CHANNELS]
    output = helper.make_tensor_value_info("vector", TensorProto.FLOAT, shape)
    model.graph.output.append(output)
    copy = network.parent / "copy"
    copy.mkdir()
    onnx.save(model, copy / "model.onnx")
    return copy / "model.onnx"


def test_the_vector_changes_nothing_of_the_probabilities(
    network: Path, batches: List[np.ndarray]
) -> None:
    copy = with_vector(network, clipped=False)
    expected = onnxruntime_engine(copy, 1)(batches[0], (VECTORS,))[0]
    assert to_int8(copy, batches) == to_int8(network, batches)
    assert kinds_of(copy) == kinds_of(network)
    assert np.array_equal(probabilities(copy, batches), probabilities(network, batches))
    given = onnxruntime_engine(copy, 1)(batches[0], (VECTORS,))[0]
    np.testing.assert_allclose(given, expected, atol=0.1)
    # It is not rounded to the 256 steps of the last layer.
    steps = given / values_in(copy)["vector_scale"]
    assert np.abs(steps - np.round(steps)).max() > 0.1


def test_a_vector_that_is_clipped_stays_so(network: Path, batches: List[np.ndarray]) -> None:
    model = onnx.load(network)
    values = next(each for each in model.graph.initializer if each.name == "low")
    values.CopyFrom(numpy_helper.from_array(np.array(-6, np.float32), "low"))
    onnx.save(model, network)
    before = onnxruntime_engine(with_vector(network, clipped=True), 1)(batches[0], (VECTORS,))[0]
    copy = network.parent / "copy" / "model.onnx"
    to_int8(copy, batches)
    given = onnxruntime_engine(copy, 1)(batches[0], (VECTORS,))[0]
    assert (before == 0).any()
    assert given.min() == 0
    np.testing.assert_allclose(given, before, atol=0.1)


def test_what_cuts_numbers_off_becomes_part_of_the_layer(
    network: Path, batches: List[np.ndarray]
) -> None:
    """Otherwise the 256 steps would reach from the smallest to the largest number before it."""
    made = quantized(network, batches)
    assert "Clip" not in kinds_of(made)
    values = values_in(made)
    assert values["b_scale"] == pytest.approx(6 / 255, rel=1e-3)
    assert values["b_zero_point"] == 0


def test_layers_that_are_left_in_float(network: Path, batches: List[np.ndarray]) -> None:
    values = values_in(quantized(network, batches, "Percentile", in_float=2))
    assert values["kernel"].dtype == values["depth_kernel"].dtype == np.float32
    assert values["linear_quantized"].dtype == np.int8
    assert np.array_equal(values["bias"], values_in(network)["bias"])
    assert names_of_layers(network) == LAYERS


def test_corrected_biases_bring_the_probabilities_nearer(
    network: Path, batches: List[np.ndarray]
) -> None:
    """A large weight in each channel of a depthwise convolution makes the others coarse."""
    model = onnx.load(network)
    kernel = next(each for each in model.graph.initializer if each.name == "depth_kernel")
    values = numpy_helper.to_array(kernel) / 100
    values[:, 0, 0, 0] = 1
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))
    onnx.save(model, network)
    expected = probabilities(network, batches)
    off = [
        np.abs(expected - probabilities(quantized(network, batches, corrected=on), batches)).mean()
        for on in (False, True)
    ]
    assert off[1] < off[0] / 2


def test_a_layer_is_left_in_float_where_labels_are_lost(
    network: Path, batches: List[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allencv.exporting.int8.ENOUGH", 1.01)
    said = to_int8(network, batches)
    assert "ranges with the first 2 layers in float32" in said


def of_nodes(folder: Path, nodes: Sequence[onnx.NodeProto], **others: np.ndarray) -> Path:
    """A network of nodes that turn "e" `(batch, 3, 1, 1)` into "g" `(batch, 3)`."""
    weights = {
        "kernel": np.random.default_rng(0).normal(0, 0.02, (3, 3, 1, 1)),
        "linear": np.random.default_rng(1).normal(0, 0.02, (3, 3)),
        **others,
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["pixels"], "turn", perm=[0, 3, 1, 2]),
            helper.make_node("GlobalAveragePool", ["pixels"], ["e"], "pool"),
            *nodes,
            helper.make_node("Softmax", ["g"], ["probabilities"], "softmax", axis=-1),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(weights[key].astype(np.float32), key)
            for key in sorted(used & weights.keys())
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "model.onnx")
    return folder / "model.onnx"


def flat(given: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Flatten", [given], [result], f"flat_{result}")


def test_a_layer_has_a_node_in_each_view(tmp_path: Path, batches: List[np.ndarray]) -> None:
    views = [
        node
        for view in ("a", "b")
        for node in (
            helper.make_node("Conv", ["e", "kernel"], [view], f"conv_{view}"),
            flat(view, f"flat_{view}"),
            helper.make_node("Gemm", [f"flat_{view}", "linear"], [f"head_{view}"], f"gemm_{view}"),
        )
    ]
    network = of_nodes(tmp_path, [*views, helper.make_node("Add", ["head_a", "head_b"], ["g"])])
    assert names_of_layers(network) == [["conv_a", "conv_b"], ["gemm_a", "gemm_b"]]
    to_int8(network, batches)
    kinds = {each.name: each.data_type for each in onnx.load(network).graph.initializer}
    assert kinds["kernel"] == TensorProto.FLOAT
    assert kinds["linear_quantized"] == TensorProto.INT8


@pytest.mark.parametrize("images", [1, 2])
def test_the_only_layer_is_quantized(tmp_path: Path, images: int) -> None:
    head = helper.make_node("Gemm", ["f", "linear"], ["g"], "head")
    network = of_nodes(tmp_path, [flat("e", "f"), head])
    said = to_int8(network, [np.zeros((images, SIZE, SIZE, 3), np.uint8)])
    kinds = {each.name: each.data_type for each in onnx.load(network).graph.initializer}
    assert kinds["linear_quantized"] == TensorProto.INT8
    assert "ranges with no layer in float32, which keeps 100.00%" in said
    assert f"labels of {images} quantization image{'s' * (images > 1)} (" in said


def test_a_network_without_layers_is_refused(tmp_path: Path, batches: List[np.ndarray]) -> None:
    with pytest.raises(ConfigurationError, match="no convolution and no linear layer for int8"):
        to_int8(of_nodes(tmp_path, [flat("e", "g")]), batches)


def test_numbers_that_hard_swish_makes_0_take_no_steps(
    tmp_path: Path, batches: List[np.ndarray]
) -> None:
    nodes = [
        helper.make_node("Conv", ["e", "kernel", "bias"], ["a"], "conv"),
        helper.make_node("HardSwish", ["a"], ["b"], "swish"),
        flat("b", "f"),
        helper.make_node("Gemm", ["f", "linear"], ["g"], "head"),
    ]
    network = of_nodes(tmp_path, nodes, bias=np.array([-9, 0, 2]))
    expected = probabilities(network, batches)
    model = onnx.load(network)
    _cut_before_hard_swish(model)
    onnx.save(model, network)
    assert np.array_equal(probabilities(network, batches), expected)
    made = quantized(network, batches)
    values = values_in(made)
    assert "Clip" not in kinds_of(made)
    assert values["swish_cut_scale"] * values["swish_cut_zero_point"] == pytest.approx(3, rel=0.02)


def test_sums_of_products_do_not_overflow(tmp_path: Path, batches: List[np.ndarray]) -> None:
    """Processors without VNNI add two products of uint8 and int8 in 16 bits."""
    import onnxruntime

    channels = 64
    random = np.random.default_rng(0)
    network = of_nodes(
        tmp_path,
        [
            helper.make_node("Conv", ["e", "wide", "bias"], ["a"], "wide"),
            helper.make_node("Clip", ["a", "low", "high"], ["b"], "clip"),
            helper.make_node("Conv", ["b", "same"], ["c"], "same"),
            flat("c", "g"),
        ],
        wide=random.normal(0, 0.001, (channels, 3, 1, 1)),
        bias=np.full(channels, 8.0),
        low=np.array(0),
        high=np.array(6),
        same=np.outer([0.01, 0.02, -0.03], np.ones(channels)).reshape(3, channels, 1, 1),
    )
    made = quantized(network, batches)
    weights = values_in(made)["same_quantized"].astype(int)
    assert set(np.abs(weights).ravel()) <= {63, 64}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    exact = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    wanted = exact.run(None, {"image": batches[0]})[0]
    assert probabilities(made, batches[:1]) == pytest.approx(wanted, abs=0.02)
    assert wanted == pytest.approx(probabilities(network, batches[:1]), abs=0.02)


def test_the_best_has_most_labels_and_then_the_nearest_probabilities() -> None:
    def candidate(agreement: float, difference: float) -> Candidate:
        return Candidate(Path(), "MinMax", 1, agreement, difference)

    candidates = [candidate(0.9, 0.1), candidate(0.95, 0.3), candidate(0.95, 0.2)]
    assert _best(candidates) is candidates[2]

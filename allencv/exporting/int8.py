"""Quantize a network to int8 in the way that keeps most labels of the quantization images."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
from allennlp.common.checks import ConfigurationError

from allencv.common.quiet import quiet
from allencv.exporting.int8_weights import (
    Layer,
    corrected_biases,
    weight_overrides,
    with_biases,
)
from allencv.exporting.onnx_file import INPUT, VECTOR
from allencv.runtime.classifier import compare
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.engine import PROBABILITIES
from allencv.runtime.onnxruntime_engine import onnxruntime_engine
from allencv.runtime.plurals import numbered

COMPUTED = ("Conv", "Gemm", "MatMul")
"""
The kinds of nodes that are computed in int8. With sums and softmaxes too, networks were not faster,
and some gave other labels.
"""
CLIPPED = ("Relu", "Clip")
"""
The kinds of nodes that become part of the layer before them. Its range is then that of their
result: otherwise half of the 256 steps or more would be for numbers that are cut off.
"""
METHODS = ("MinMax", "Percentile", "Entropy")
"""The names of onnxruntime's methods to choose the ranges of activations."""
ENOUGH = 0.99
"""The agreement on the quantization images from which no further layer is left in float32."""
SHARE_IN_FLOAT = 0.1
"""
The largest share of the layers that are left in float32: the first ones. In an EfficientNet-Lite0,
the layers with the least signal to noise in onnxruntime's `qdq_loss_debug` made no difference.
"""


class Candidate(NamedTuple):
    """A quantized network, and how far it is from the original on the quantization images."""

    file: Path
    method: str
    in_float: int
    """How many of the first layers are in float32."""
    agreement: float
    difference: float


def to_int8(
    file: Path, batches: Sequence[np.ndarray], thresholds: Optional[List[float]] = None
) -> str:
    """
    Quantize an ONNX file: weights to int8, channel by channel, and activations to uint8 (signed
    ones are slow). Biases make up for the rounding of the weights.

    The first layer stays in float32: there int8 loses most labels, and is slow because the pixels
    are then normalised in another memory order. Try several ways to choose the ranges of the
    activations on `batches` of pixels. If all of them lose labels, also leave the first tenth of
    the layers in float32. Keep the network with most labels of the original one; of equal ones,
    that with the nearest probabilities. `thresholds` are those of a multi-label model.

    # Returns

    What was chosen, in words.

    # Raises

    `ConfigurationError` for a network without a layer to quantize.
    """
    import onnx

    model = onnx.load(file)
    vector = _without_vector(model)
    layers = _layers(model)
    if not layers:
        raise ConfigurationError(
            "the network has no convolution and no linear layer for int8; expected precision "
            "float32 or float16"
        )
    expected = _probabilities(file, batches)
    _cut_before_hard_swish(model)
    biases = corrected_biases(model, batches)

    def candidate(method: str, in_float: int) -> Candidate:
        made = file.with_name(f"{method}-{in_float}.onnx")
        _quantize(model, made, batches, method, layers, in_float, biases)
        given = _probabilities(made, batches)
        agreement, _ = compare(expected, given, thresholds)
        difference = float(np.abs(expected - given).mean())
        return Candidate(made, method, in_float, agreement, difference)

    first = min(1, len(layers) - 1)  # the only layer is quantized
    candidates = [candidate(method, first) for method in METHODS]
    best = _best(candidates)
    more = max(2, int(len(layers) * SHARE_IN_FLOAT))
    if best.agreement < ENOUGH and more < len(layers):
        candidates.append(candidate(best.method, more))
        best = _best(candidates)
    quantized = onnx.load(best.file)
    quantized.graph.output.extend(vector)
    onnx.save(quantized, file)
    for each in candidates:
        each.file.unlink()
    return _in_words(best, candidates, len(expected))


def _best(candidates: Sequence[Candidate]) -> Candidate:
    return max(candidates, key=lambda each: (each.agreement, -each.difference))


def _in_words(best: Candidate, candidates: Sequence[Candidate], images: int) -> str:
    others = ", ".join(
        f"{_way(each)}: {each.agreement:.2%}" for each in candidates if each is not best
    )
    return (
        f"{_way(best)}, which keeps {best.agreement:.2%} of the labels of "
        f"{numbered(images, 'quantization image')} ({others})"
    )


def _way(candidate: Candidate) -> str:
    count = candidate.in_float
    layers = "the first layer" if count == 1 else f"the first {count} layers"
    return f"{candidate.method} ranges with {layers if count else 'no layer'} in float32"


def _probabilities(file: Path, batches: Sequence[np.ndarray]) -> np.ndarray:
    engine = onnxruntime_engine(file, cpu_count())
    return np.concatenate([engine(batch)[PROBABILITIES] for batch in batches])


def _quantize(
    model: Any,
    made: Path,
    batches: Sequence[np.ndarray],
    method: str,
    layers: Sequence[Layer],
    in_float: int,
    biases: Mapping[str, np.ndarray],
) -> None:
    """Quantize the layers from number `in_float` on, with other biases."""
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    excluded = [name for layer in layers[:in_float] for name in layer.names()]
    quantized = {name: bias for name, bias in biases.items() if name not in excluded}
    # As part of a layer, it would leave numbers in the vector that it cuts off.
    excluded += [
        node.name for node in model.graph.node if node.op_type in CLIPPED and VECTOR in node.output
    ]
    with quiet(), redirect_stdout(io.StringIO()):  # it prints what it computes
        quantize_static(
            with_biases(model, quantized),
            made,
            _Calibration(batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=[*COMPUTED, *CLIPPED],
            nodes_to_exclude=excluded,
            calibrate_method=CalibrationMethod[method],
            extra_options={
                "TensorQuantOverrides": weight_overrides(model, layers[in_float:]),
                # Otherwise the activations of all batches are kept until the end.
                "CalibStridedMinMax": 1,
            },
        )


def _layers(model: Any) -> List[Layer]:
    """Return the layers that are computed in int8, from the image on."""
    layers: Dict[str, Layer] = {}
    for node in model.graph.node:
        if node.op_type in COMPUTED:
            layer = layers.setdefault(node.input[1], Layer([], node.input[1]))
            layer.nodes.append(node)
    return list(layers.values())


def _without_vector(model: Any) -> List[Any]:
    """
    Remove the vector from the outputs of a network, and return it. As an output, onnxruntime would
    round it to 256 steps, and compute the last layer in float32.
    """
    vector = [each for each in model.graph.output if each.name == VECTOR]
    for each in vector:
        model.graph.output.remove(each)
    return vector


def _cut_before_hard_swish(model: Any) -> None:
    """Cut off the numbers below -3, for which HardSwish is 0: see `CLIPPED`."""
    from onnx import helper, numpy_helper

    nodes = []
    for node in model.graph.node:
        if node.op_type == "HardSwish":
            cut = f"{node.name}_cut"
            nodes.append(helper.make_node("Clip", [node.input[0], "hard_swish_0"], [cut], cut))
            node.input[0] = cut
        nodes.append(node)
    if len(nodes) > len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        start = numpy_helper.from_array(np.array(-3, np.float32), "hard_swish_0")
        model.graph.initializer.append(start)


class _Calibration:
    """onnxruntime's `CalibrationDataReader`, which cannot be imported here."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches = batches
        self._places = iter(range(len(batches)))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._places = iter(range(start_index, end_index))

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        place = next(self._places, None)
        return None if place is None else {INPUT: self._batches[place]}

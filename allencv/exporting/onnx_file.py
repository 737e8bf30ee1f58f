import re
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from torch.export import ExportedProgram

from allencv.common.quiet import quiet
from allencv.exporting.network import not_exportable

OPSET = 20
INPUT, OUTPUT = "image", "probabilities"
QUANTIZED = ("Conv", "Gemm", "MatMul")
"""
The kinds of nodes that are computed in int8. With more of them, sums and softmaxes too, networks
were no quicker, and some gave other labels.
"""


def write_onnx(program: ExportedProgram, file: Path) -> None:
    """
    Writes a graph as one self-contained ONNX file.

    # Raises

    `ConfigurationError` if it has an operation that ONNX has not.
    """
    import onnx

    try:
        with quiet():
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        assert written is not None
        model = written.model_proto
        _strip(model.graph)
        onnx.save(model, file)  # which may be too large for it
    except OSError:  # of the disk
        raise
    except Exception as error:  # torch has a class for each step of it
        raise _not_in_onnx(error, program) or not_exportable(error) from error


def _not_in_onnx(error: Exception, program: ExportedProgram) -> Optional[ConfigurationError]:
    """The error for an operation that ONNX has not, with the part of the model that uses it."""
    cause: Optional[BaseException] = error
    found = None
    while cause is not None and found is None:
        found = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(cause))
        cause = cause.__cause__
    if found is None:
        return None
    name = found[1].rpartition(".")[2].strip("_")
    used = ""
    for node in program.graph.nodes:
        modules = node.meta.get("nn_module_stack")
        if name in str(node.target) and modules:
            path, kind = list(modules.values())[-1]
            part = str(path).removeprefix("_model._")
            used = f", which model.{part} ({str(kind).rpartition('.')[2]}) uses"
            break
    return ConfigurationError(
        f"the network cannot be exported: ONNX has no operator for torch's '{found[1]}'{used}; "
        "write that part with other operations, or take --format torch_export, which needs torch "
        "to be run"
    )


def to_float16(file: Path) -> None:
    """Turns the weights of an ONNX file, and what is computed with them, into half precision."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(file)
    # In half precision a probability near 1 would be a multiple of 1 / 2048.
    last = [node.name for node in model.graph.node if OUTPUT in node.output]
    with quiet():
        half = convert_float_to_float16(model, keep_io_types=True, node_block_list=last)
    onnx.save(half, file)


def to_int8(file: Path, batches: Sequence[np.ndarray]) -> None:
    """
    Quantizes an ONNX file: weights to int8, channel by channel, and activations to uint8 (signed
    ones are slow) in the ranges that they have for `batches` of pixels.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with quiet():
        quantize_static(
            file,
            file,
            _Calibration(batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(QUANTIZED),
        )


class _Calibration:
    """onnxruntime's `CalibrationDataReader`, which cannot be imported here."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _strip(graph: Any) -> None:
    """Takes out where in the code of this machine each node comes from, and names the batch."""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == batch:
                size.dim_param = "batch"

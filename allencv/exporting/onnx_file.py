import re
from pathlib import Path
from typing import Any, Optional

import torch
from allennlp.common.checks import ConfigurationError
from torch.export import ExportedProgram

from allencv.common.quiet import quiet
from allencv.exporting.network import not_exportable

OPSET = 20
INPUT, OUTPUT, VECTOR = "image", "probabilities", "vector"


def write_onnx(program: ExportedProgram, file: Path) -> None:
    """
    Write a graph as a self-contained ONNX file.

    # Raises

    `ConfigurationError` if it has an operation that ONNX lacks.
    """
    import onnx

    try:
        with quiet():
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT, VECTOR],
                verbose=False,
            )
        assert written is not None
        model = written.model_proto
        _strip(model.graph)
        onnx.save(model, file)  # raises an error if the model is too large
    except OSError:  # from the disk
        raise
    except Exception as error:  # torch has many classes of errors here
        raise _not_in_onnx(error, program) or not_exportable(error) from error


def _not_in_onnx(error: Exception, program: ExportedProgram) -> Optional[ConfigurationError]:
    """Return the error for an operation that ONNX lacks, with the part that uses it."""
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
        "write that part with other operations, or use --format torch_export, which needs torch "
        "to run"
    )


def to_float16(file: Path) -> None:
    """Convert the weights and computations of an ONNX file to half precision."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(file)
    # In half precision, probabilities near 1 would be multiples of 1 / 2048.
    last = [node.name for node in model.graph.node if OUTPUT in node.output]
    with quiet():
        half = convert_float_to_float16(model, keep_io_types=True, node_block_list=last)
    onnx.save(half, file)


def _strip(graph: Any) -> None:
    """Remove the places in this machine's code from all nodes, and name the batch."""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == batch:
                size.dim_param = "batch"

from functools import cache

from torch.onnx._internal.exporter._registration import ONNXRegistry

_read = staticmethod(cache(ONNXRegistry.from_torchlib))


def read_operators_once() -> None:
    """Keep the operators of ONNX, whose code torch reads anew for each export."""
    ONNXRegistry.from_torchlib = _read  # type: ignore[method-assign]

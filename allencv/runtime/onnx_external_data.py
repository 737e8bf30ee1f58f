"""
Detect weights that an ONNX file keeps in other files. The checksum of the ONNX file does not cover
them, and the slim runtime has no `onnx` package to detect them.
"""

from typing import Dict, Iterator, Optional, Tuple

PARTS: Dict[str, Dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        **{5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto"},
        **{22: "SparseTensorProto", 23: "SparseTensorProto"},
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "TensorProto": {},
}
"""The fields that lead to tensors, with their kinds, for each kind of message in an ONNX file."""
EXTERNAL_DATA = 13
"""The field of a `TensorProto` with the file of its numbers."""

Value = Optional[memoryview]
"""The bytes of a field, or `None` for a number."""


def has_external_data(data: bytes) -> bool:
    """
    Return whether a tensor of an ONNX file has its numbers in another file.

    # Raises

    `ValueError` if `data` is not the protocol buffer of an ONNX file.
    """
    rest = [("ModelProto", memoryview(data))]
    while rest:
        kind, message = rest.pop()
        for number, value in _fields(message):
            if kind == "TensorProto" and number == EXTERNAL_DATA:
                return True
            if number in PARTS[kind]:
                if value is None:
                    raise ValueError(f"field {number} of a {kind} is not a message")
                rest.append((PARTS[kind][number], value))
    return False


def _fields(message: memoryview) -> Iterator[Tuple[int, Value]]:
    """Yield the fields of a protobuf: https://protobuf.dev/programming-guides/encoding/"""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind, value = key & 7, None
        if kind == 0:
            _, place = _varint(message, place)
        elif kind == 2:
            length, place = _varint(message, place)
            value = message[place : place + length]
            place += length
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field has the type {kind}")
        if place > len(message):
            raise ValueError("a field is cut off")
        yield key >> 3, value


def _varint(message: memoryview, place: int) -> Tuple[int, int]:
    """Read a number in bytes of seven bits, lowest first; return also the next place."""
    number = 0
    for index, byte in enumerate(message[place : place + 10]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, place + index + 1
    raise ValueError("a number is cut off")

import random
from typing import Dict, List

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto, helper, numpy_helper

from allencv.runtime.onnx_external_data import EXTERNAL_DATA, PARTS, has_external_data


def fields_to_tensors() -> Dict[str, Dict[int, str]]:
    """By onnx's own description of its files: all fields that lead from a model to a tensor."""
    kinds: Dict[str, Dict[int, str]] = {}
    rest = [onnx.ModelProto.DESCRIPTOR]
    while rest:
        kind = rest.pop()
        if kind.name not in kinds:
            messages = [field for field in kind.fields if field.message_type is not None]
            kinds[kind.name] = {field.number: field.message_type.name for field in messages}
            rest += [field.message_type for field in messages]
    leading = {"TensorProto"}
    while more := {kind for kind in kinds if leading & set(kinds[kind].values())} - leading:
        leading |= more
    return {
        kind: {number: name for number, name in kinds[kind].items() if name in leading}
        for kind in leading
    }


def test_all_fields_that_lead_to_tensors_are_known() -> None:
    assert fields_to_tensors() == PARTS
    field = onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"]
    assert field.number == EXTERNAL_DATA


def tensor(external: bool) -> TensorProto:
    made = numpy_helper.from_array(np.ones(3, np.float32), "w")
    if external:
        entry = made.external_data.add()
        entry.key, entry.value = "location", "w.bin"
        made.data_location = TensorProto.EXTERNAL
    return made


def graph(*tensors: TensorProto, nodes: "tuple[onnx.NodeProto, ...]" = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], list(tensors))


def models(external: bool) -> List[Message]:
    """The places where a tensor may be."""
    made = tensor(external)
    constant = helper.make_node("Constant", [], ["c"], value=made)
    branch = helper.make_node("If", ["c"], ["d"], then_branch=graph(made), else_branch=graph())
    nested = helper.make_node("If", ["c"], ["d"], then_branch=graph(nodes=(branch,)))
    sparse = onnx.SparseTensorProto(values=made, dims=[3])
    function = helper.make_function("own", "F", [], ["c"], [constant], [])
    training = onnx.TrainingInfoProto(algorithm=graph(made))
    with_sparse = graph()
    with_sparse.sparse_initializer.append(sparse)
    with_sparse.node.add().attribute.add().tensors.append(made)
    graphs = [graph(made), graph(tensor(False), made), graph(nodes=(constant,))]
    graphs += [graph(nodes=(nested,)), with_sparse]
    found = [helper.make_model(each) for each in graphs]
    found.append(helper.make_model(graph(), functions=[function]))
    found.append(helper.make_model(graph()))
    found[-1].training_info.append(training)
    return found


@pytest.mark.parametrize("index", range(7))
def test_external_data_is_found_wherever_it_is(index: int) -> None:
    assert not has_external_data(models(False)[index].SerializeToString())
    assert has_external_data(models(True)[index].SerializeToString())


def test_a_damaged_file_is_read_as_protobuf_reads_it() -> None:
    """What protobuf reads and has external data is found, or refused."""
    whole = models(True)[3].SerializeToString()
    dice = random.Random(0)
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            found = has_external_data(bytes(data))
        except ValueError:
            continue
        try:
            model = onnx.ModelProto.FromString(bytes(data))
        except DecodeError:
            continue
        assert found == ("external_data" in str(model))


@pytest.mark.parametrize("data", [b"\x3a", b"\x3a\x05ab", b"\x0b", b"\x80" * 11, b"\x38\x01"])
def test_what_is_no_protobuf_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cut off|has the type|is not a message"):
        has_external_data(data)

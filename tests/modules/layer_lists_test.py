import pytest
from allennlp.common.checks import ConfigurationError

from allencv.modules.layer_lists import one_per_layer


def test_one_value_or_a_list():
    assert one_per_layer("strides", 2, "num_layers", 3) == [2, 2, 2]
    assert one_per_layer("strides", (1, 2), "num_layers", 2) == [1, 2]
    with pytest.raises(ConfigurationError) as error:
        one_per_layer("strides", [1, 2], "num_layers", 3)
    assert str(error.value) == (
        "strides has 2 values, but num_layers is 3; expected a single value or one for each layer"
    )

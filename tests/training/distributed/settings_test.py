from typing import Any, Dict

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.training.distributed.settings import Distributed


def test_a_config_without_the_block() -> None:
    settings = Distributed.of({"model": "any"})
    assert settings.cuda_devices is None
    assert (settings.num_nodes, settings.timeout_s) == (1, 1800)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"cuda_devices": []}, r"distributed.cuda_devices is \[\]; expected a device for each"),
        ({"num_nodes": 0}, "distributed.num_nodes is 0; expected 1 or more"),
        ({"timeout_s": 0}, "distributed.timeout_s is 0; expected seconds above 0"),
        ({"primary_port": 65536}, "distributed.primary_port is 65536; expected 1 to 65535"),
        ({"num_node": 2}, "num_node"),
    ],
)
def test_wrong_values(block: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Distributed.of({"distributed": block})

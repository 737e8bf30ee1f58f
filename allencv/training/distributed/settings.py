from typing import Any, Dict, List, Optional

import torch
from allennlp.common import FromParams, Lazy, Params
from allennlp.common.checks import ConfigurationError
from allennlp.nn.parallel import DdpAccelerator

from allencv.runtime.plurals import numbered

TIMEOUT_S = 1800.0


class Distributed(FromParams):
    """
    Training in several processes, the ranks: one for each device. `allencv train` starts those of
    one machine. Under `torchrun`, which starts them itself, the block is not needed.

    # Example

    ```jsonnet
    { cuda_devices: [0, 1] }
    ```

    # Parameters

    cuda_devices : `List[int]`, optional (default = `None`)
        The GPUs of this machine, or -1 for each process on a CPU. Required without `torchrun`,
        which takes the first GPUs by default.
    num_nodes : `int`, optional (default = `1`)
        The number of machines.
    primary_address : `str`, optional (default = `"127.0.0.1"`)
        The address of the first machine, which the others connect to. Required with several
        machines.
    primary_port : `int`, optional (default = `None`)
        A free port of the first machine. Required with several machines. `None` finds one.
    timeout_s : `float`, optional (default = `1800.0`)
        How many seconds a rank waits for the others. Then the run ends with an error. Reading the
        data and evaluating must take a rank less time.
    ddp_accelerator : `DdpAccelerator`, optional (default = `None`)
        How gradients are exchanged.
    """

    def __init__(
        self,
        cuda_devices: Optional[List[int]] = None,
        num_nodes: int = 1,
        primary_address: Optional[str] = None,
        primary_port: Optional[int] = None,
        timeout_s: float = TIMEOUT_S,
        ddp_accelerator: Optional[Lazy[DdpAccelerator]] = None,
    ) -> None:
        for key, value, is_right, expected in (
            ("cuda_devices", cuda_devices, cuda_devices != [], "a device for each process"),
            ("num_nodes", num_nodes, num_nodes >= 1, "1 or more"),
            ("timeout_s", timeout_s, timeout_s > 0, "seconds above 0"),
            ("primary_port", primary_port, primary_port in (None, *range(1, 65536)), "1 to 65535"),
        ):
            if not is_right:
                raise ConfigurationError(f"distributed.{key} is {value}; expected {expected}")
        self.cuda_devices = cuda_devices
        self.num_nodes = num_nodes
        self.primary_address = primary_address
        self.primary_port = primary_port
        self.timeout_s = timeout_s
        self.ddp_accelerator = ddp_accelerator

    @classmethod
    def of(cls, config: Dict[str, Any]) -> "Distributed":
        """Read the block of a config. Raises `ConfigurationError` for a wrong key or value."""
        return cls.from_params(Params(dict(config.get("distributed") or {})))

    def check_devices(self) -> None:
        """Check that the devices exist. Raises `ConfigurationError`."""
        devices, count = self.cuda_devices or [], torch.cuda.device_count()
        gpus = [device for device in devices if device != -1]
        missing = [device for device in gpus if not 0 <= device < count]
        if missing:
            has = "has no GPU that torch can use"
            if count > 0:
                has = f"has {numbered(count, 'GPU')}, 0" + (f" to {count - 1}" if count > 1 else "")
            raise ConfigurationError(
                f"distributed.cuda_devices has {missing[0]}, but this machine {has}; expected the "
                "number of a GPU, or -1 for the CPU"
            )
        if len(set(gpus)) < len(gpus) or (gpus and len(gpus) < len(devices)):
            raise ConfigurationError(
                f"distributed.cuda_devices is {devices}; expected different GPUs, or only -1"
            )

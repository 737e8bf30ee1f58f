import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Tuple, Union

import numpy as np

from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.engine import PROBABILITIES, Engine
from allencv.runtime.errors import BundleError
from allencv.runtime.onnxruntime_engine import last_line

if TYPE_CHECKING:
    import openvino


def openvino_engine(
    file: Path, threads: int, device: str = "CPU", reduced: bool = False, one_by_one: bool = False
) -> Engine:
    """
    Run an ONNX file with OpenVINO on a "CPU", "GPU" or "NPU".

    # Parameters

    threads : for one call, on the CPU.
    reduced : compute in the fastest precision of the chip, such as bfloat16. By default, it is the
        precision of the network. An NPU always computes in half precision.
    one_by_one : compile the network for one image, and give it one at a time, as NPUs need.
    """
    core = openvino_core()
    config: Dict[str, Union[str, int]] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == "CPU":
        # A stream handles one call at a time: as many streams as there are cores for.
        streams = max(1, cpu_count() // threads)
        config |= {"INFERENCE_NUM_THREADS": streams * threads, "NUM_STREAMS": streams}
        if not reduced:
            config["INFERENCE_PRECISION_HINT"] = "f32"
    elif device == "GPU" and not reduced:
        config["EXECUTION_MODE_HINT"] = "ACCURACY"
    try:
        model = core.read_model(str(file))
        if one_by_one:
            shape = model.input().partial_shape
            shape[0] = 1
            model.reshape(shape)
        network = core.compile_model(model, device, config)
    except Exception as error:  # OpenVINO has many classes of errors
        raise BundleError(f"{file}: OpenVINO cannot load it: {last_line(error)}") from error
    # Each thread needs its own request.
    requests = threading.local()

    def run(images: np.ndarray, outputs: Tuple[int, ...] = (PROBABILITIES,)) -> List[np.ndarray]:
        if not hasattr(requests, "own"):
            requests.own = network.create_infer_request()
        found = requests.own.infer([images])
        # The next call overwrites the result in the request's memory.
        return [found[output].copy() for output in outputs]

    def run_one_by_one(
        images: np.ndarray, outputs: Tuple[int, ...] = (PROBABILITIES,)
    ) -> List[np.ndarray]:
        rows = [run(image[None], outputs) for image in images]
        return [np.concatenate(each) for each in zip(*rows)]

    return run_one_by_one if one_by_one else run


@functools.cache
def openvino_core() -> "openvino.Core":
    """
    Return the process's only core, which is never freed. Each core installs a signal stack for the
    thread that creates it. With two cores, freeing both leaves a freed stack installed, and the
    next handled signal ends the process (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()

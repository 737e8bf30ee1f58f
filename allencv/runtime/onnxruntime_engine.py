import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from allencv.runtime.engine import PROBABILITIES, Engine
from allencv.runtime.errors import BundleError

CPU_PROVIDER = "CPUExecutionProvider"
NVIDIA = "an NVIDIA GPU with its driver, CUDA and cuDNN"
NEEDS = {
    "CUDAExecutionProvider": NVIDIA,
    "TensorrtExecutionProvider": f"{NVIDIA}, and TensorRT's libraries in LD_LIBRARY_PATH",
    "CoreMLExecutionProvider": "a Mac",
}
"""What the providers of onnxruntime need of a machine."""


def onnxruntime_engine(
    file: Path, threads: int, provider: str = CPU_PROVIDER, precision: str = "float32"
) -> Engine:
    """
    Run an ONNX file with a provider of onnxruntime, in the `precision` of the network.

    Idle threads sleep. By default they spin, which doubles the CPU time for each request of a
    server.

    # Raises

    `BundleError` if the file cannot be loaded, or if the provider cannot be used on this machine:
    onnxruntime would use the CPU in its place.
    """
    import onnxruntime

    if provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        with redirect_stdout(sys.stderr):  # it prints what it does not find
            onnxruntime.preload_dlls()  # CUDA's, if pip installed them
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # The fallback would print to stdout and try the same again.
        session = onnxruntime.InferenceSession(
            str(file), options, providers=_providers(provider, precision), enable_fallback=0
        )
    except Exception as error:  # onnxruntime has many classes of errors
        needs = f" with its {provider}, which needs {NEEDS[provider]}" if provider in NEEDS else ""
        reason = last_line(error)
        raise BundleError(f"{file}: onnxruntime cannot load it{needs}: {reason}") from error
    if session.get_providers()[0] != provider:
        raise BundleError(
            f"onnxruntime cannot use its {provider} on this machine, and would use the CPU; "
            f"expected {NEEDS[provider]}"
        )
    inputs = [value.name for value in session.get_inputs()]
    if len(inputs) != 1:
        raise BundleError(f"{file}: takes {len(inputs)} inputs {inputs}; expected one, the image")
    names = [value.name for value in session.get_outputs()]

    def run(images: np.ndarray, outputs: Tuple[int, ...] = (PROBABILITIES,)) -> List[np.ndarray]:
        return session.run([names[output] for output in outputs], {inputs[0]: images})

    return run


def _providers(provider: str, precision: str) -> List[Tuple[str, Dict[str, Any]]]:
    """
    Return a provider with its options, followed by another for what it cannot compute.
    onnxruntime itself adds the CPU at the end.
    """
    # TF32 would keep 10 of the 23 bits of a float32.
    cuda = ("CUDAExecutionProvider", {"use_tf32": 0})
    if provider == "CUDAExecutionProvider":
        return [cuda]
    if provider == "TensorrtExecutionProvider":
        return [(provider, {"trt_fp16_enable": precision == "float16"}), cuda]
    if provider == "CoreMLExecutionProvider":
        # The older format, NeuralNetwork, always computes in half precision.
        return [(provider, {"ModelFormat": "MLProgram"})]
    return [(provider, {})]


def last_line(error: Exception) -> str:
    """Return the last line, which has the reason of onnxruntime's and OpenVINO's errors."""
    return str(error).strip().rpartition("\n")[2][:300] or type(error).__name__

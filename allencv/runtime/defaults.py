"""Names and defaults that the arguments of commands show. Importing this imports nothing."""

CPU_ENGINES = ("onnxruntime", "openvino", "openvino-reduced")
"""The engines on the CPU. "openvino-reduced" may use less than the network's precision."""
CUDA_ENGINES = ("cuda", "tensorrt")
"""The engines on NVIDIA's GPUs."""
ENGINE_NAMES = (*CPU_ENGINES, "openvino-gpu", "openvino-npu", *CUDA_ENGINES, "coreml")
"""The engines for bundles."""
DEFAULT_ENGINE = "onnxruntime"
AUTO = "auto"
"""The name that stands for the fastest installed engine."""
TOP_K = 5
"""The number of labels that an answer lists."""

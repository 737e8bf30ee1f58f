"""Names and defaults that the arguments of commands show. Importing this imports nothing."""

ENGINE_NAMES = ("onnxruntime", "openvino", "openvino-reduced")
"""The engines for bundles. "openvino-reduced" may use less than the network's precision."""
DEFAULT_ENGINE = "onnxruntime"
AUTO = "auto"
"""The name that stands for the fastest installed engine."""
TOP_K = 5
"""The number of labels that an answer lists."""

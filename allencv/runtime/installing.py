"""
Commands that install what is missing, for error messages. A test compares them with pyproject.toml.
"""

from typing import Dict, Optional, Tuple

from allencv import __version__

INSTALL_ALLENNLP = "pip install --no-deps allennlp==2.10.1"
"""`--no-deps`, because AllenNLP requires versions of 2022 that current Python cannot install."""

EXTRAS: Dict[str, Tuple[str, ...]] = {
    "serve": ("fastapi", "uvicorn", "httptools", "uvloop", "python_multipart", "prometheus_client"),
    "train": (
        *("torch", "torchvision", "timm", "torchmetrics", "safetensors", "simplejpeg", "fsspec"),
        *("filelock", "cached_path", "_jsonnet", "tqdm", "termcolor", "tensorboardX"),
        *("matplotlib", "sklearn", "scipy", "jinja2", "onnx", "onnxscript"),
    ),
}
"""The modules of the extras that are installed as a whole."""

PACKAGES = {
    "onnxruntime": "onnxruntime>=1.22",
    "onnxruntime_gpu": "onnxruntime-gpu[cuda,cudnn]>=1.22",
    "pyarrow": "pyarrow>=17",
    "ray": "ray[data]>=2.50",
    "optuna": "optuna>=5",
    "datasets": "datasets>=5.0",
    "openvino": "openvino>=2026.1",
    "transformers": "transformers==4.49.0",
    "huggingface_hub": "huggingface-hub<1",
    "spacy": "spacy>=3.8,<4",
    "fairscale": "fairscale==0.4.13",
    "nltk": "nltk>=3.9",
    "sentencepiece": "sentencepiece>=0.2",
    "sacremoses": "sacremoses>=0.1",
    "wandb": "wandb>=0.19",
    "h5py": "h5py>=3.12",
    "base58": "base58>=2.1",
    "dill": "dill>=0.3.8",
    "lmdb": "lmdb>=1.5",
    "more_itertools": "more-itertools>=10",
}
"""The packages that are installed one by one, by the name of their module."""


def pip_install(module: str) -> str:
    """Return the command that installs the package of a module in `PACKAGES`."""
    return f'pip install "{PACKAGES[module]}"'


def install_extra(extra: str) -> str:
    """Return how to install an extra of AllenCV. No package index has AllenCV."""
    wheel = f"allencv-{__version__}-py3-none-any.whl"
    return f'pip install ".[{extra}]" in a clone of AllenCV, or pip install "{wheel}[{extra}]"'


def how_to_install(module: str) -> Optional[str]:
    """Return how to install a module that is missing, such as "torch", if AllenCV may need it."""
    package = module.partition(".")[0]
    if package == "allennlp":
        return INSTALL_ALLENNLP
    if package in PACKAGES:
        return pip_install(package)
    return next((install_extra(extra) for extra in EXTRAS if package in EXTRAS[extra]), None)

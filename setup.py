from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = {}
exec((ROOT / "allencv" / "__init__.py").read_text(encoding="utf-8"), VERSION)

setup(
    name="allencv",
    version=VERSION["__version__"],
    description="Image classification as an AllenNLP experiment",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["allencv", "allencv.*"]),
    package_data={"allencv": ["py.typed", "reporting/templates/*", "serving/page/*"]},
    # An editable installation that mypy understands: a path, and no import hook.
    options={"editable_wheel": {"mode": "compat"}},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "allennlp==2.10.1",
        # AllenNLP's own pins are from 2022; pyproject.toml carries the overrides that lift them.
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=2",
        "pillow>=11",
        "fsspec>=2024.2",  # paths that are URLs
        "simplejpeg>=1.8",  # JPEG decoding that releases the GIL
        "matplotlib>=3.9",  # `allennlp find-lr` draws with it and does not declare it
        "safetensors>=0.4",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "tensorboardX>=2.6",
        "timm>=1.0.31",  # backbones and optimizers by name
        "torchmetrics>=1.9",  # metrics by name
        "onnx>=1.18",  # export
        "onnxscript>=0.5",
        "onnxruntime>=1.22",
        "fastapi>=0.115",  # serving
        "uvicorn>=0.34",
        "httptools>=0.6",  # uvicorn takes both where they are, and is slow without
        "uvloop>=0.21; sys_platform != 'win32'",
        "python-multipart>=0.0.20",
        "prometheus-client>=0.21",
        "jinja2>=3.1",  # the report
    ],
    extras_require={
        "parquet": ["pyarrow>=17"],
        # 5.1 asks for a huggingface-hub that transformers 4 refuses
        "huggingface": ["datasets>=5.0,<5.1"],
        "openvino": ["openvino>=2026.1"],
        "benchmark": ["psutil>=6", "litserve>=0.2.19"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "coverage[toml]>=7.6",
            "ruff>=0.8",
            "mypy>=1.13",
            "httpx>=0.28",
            "jsonschema>=4.23",
            "playwright>=1.50",
            "psutil>=6",
            "zensical>=0.0.73",  # scripts/docs
        ],
    },
    entry_points={"console_scripts": ["allencv=allencv.__main__:main"]},
)

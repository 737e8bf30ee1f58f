"""The packages and the data of the wheel. The rest is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["allencv", "allencv.*"]), "allencv.training_config"],
    # The wheel carries the folder of configs inside the package, for `allencv recipe`.
    package_dir={"allencv.training_config": "training_config"},
    package_data={
        "allencv": ["py.typed", "reporting/templates/*", "reviewing/page/*", "serving/page/*"],
        "allencv.training_config": ["*.jsonnet", "lib/*.libsonnet"],
    },
    # An editable installation that mypy understands: a path, and no import hook.
    options={"editable_wheel": {"mode": "compat"}},
)

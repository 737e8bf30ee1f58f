import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

CODE = """
from importlib.util import find_spec
print(find_spec("cupy"), find_spec("visible").name)
"""


def test_packages_are_hidden_and_the_machine_keeps_its_own_start(tmp_path: Path) -> None:
    for name in ("cupy", "visible"):
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "sitecustomize.py").write_text("print('its own')")
    folders = [str(ROOT / "benchmarks/gpu/hide_packages"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == "its own\nNone visible\n"

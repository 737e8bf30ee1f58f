from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType

from tests.conftest import ROOT


def load(name: str) -> ModuleType:
    """Import a file of benchmarks/gpu, which is no package. `pack` has no suffix either."""
    path = ROOT / "benchmarks/gpu" / name
    loader = SourceFileLoader(f"gpu_{path.stem}", str(path))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module

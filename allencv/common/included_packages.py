import argparse
import logging
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import List

from allennlp.common.checks import ConfigurationError
from allennlp.common.plugins import DEFAULT_PLUGINS, discover_plugins
from allennlp.common.util import import_module_and_submodules

logger = logging.getLogger(__name__)

NOT_IMPORTED = [
    "allennlp.confidence_checks.task_checklists",  # for text; AllenNLP imports it if it can
    "allennlp.sanity_checks",  # deprecated
    "allennlp.tools",  # scripts
]


def import_plugins() -> None:
    """
    Import all of AllenNLP, and the plugins that are installed or named in `.allennlp_plugins`.
    AllenNLP's function of this name forgets all that is known of folders of modules before each
    import, which takes half a second more (allennlp/common/util.py).
    """
    _import_all("allennlp")
    if os.getcwd() not in sys.path:  # for the processes of distributed training
        sys.path.append(os.getcwd())
    for name in DEFAULT_PLUGINS:
        if find_spec(name) is not None:
            try:
                import_module_and_submodules(name)
            except ModuleNotFoundError as error:
                logger.error("The plugin %s cannot be loaded: %s", name, error)
    for name in discover_plugins():
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            logger.error("The plugin %s cannot be loaded: %s", name, error)


def _import_all(name: str) -> None:
    """Import a package with the modules in it that AllenNLP imports."""
    path = getattr(import_module(name), "__path__", [])
    for module in iter_modules(path, f"{name}."):
        own_name = module.name.rpartition(".")[2]
        if module.name not in NOT_IMPORTED and not own_name.startswith(("_", "test")):
            _import_all(module.name)


def import_included_packages(arguments: List[str]) -> None:
    """
    Import the packages of `--include-package` before the command reads its other arguments.

    # Raises

    `ConfigurationError` if a module, or one that it imports, is missing.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--include-package", action="append", default=[])
    try:
        names = parser.parse_known_args(arguments)[0].include_package
    except argparse.ArgumentError:  # it has no value; the command itself reports this
        return
    for name in names:
        place = f"--include-package is '{name}'"
        try:
            import_module_and_submodules(name)
        except SyntaxError as error:
            reason = f"{error.filename}:{error.lineno}: {error.msg}"
            raise ConfigurationError(f"{place}, which Python cannot read: {reason}") from error
        except (ModuleNotFoundError, TypeError, ValueError) as error:
            missing = getattr(error, "name", None)
            if missing is not None and not f"{name}.".startswith(f"{missing}."):
                raise ConfigurationError(f"{place}, which imports {missing}; install it") from error
            if missing is None and name[:1] not in ("", "."):
                raise  # from the user's code
            raise ConfigurationError(
                f"{place}; expected a module in this folder or on Python's path, with dots and "
                "without .py"
            ) from error

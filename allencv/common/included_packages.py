import argparse
import logging
import os
import sys
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Callable, List

from allennlp.common.checks import ConfigurationError
from allennlp.common.plugins import DEFAULT_PLUGINS
from allennlp.common.util import import_module_and_submodules, push_python_path

from allencv.runtime.plugin_files import named_plugins

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

    # Raises

    `ConfigurationError` if Python cannot read a plugin, or if its name cannot be one of a module. A
    missing plugin is only logged.
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
    for plugin in named_plugins():
        try:
            # AllenNLP, too, looks in the present folder first.
            with push_python_path(".") if plugin.is_local else nullcontext():
                _import_named(import_module, plugin.name, plugin.place)
        except ConfigurationError as error:
            if not isinstance(error.__cause__, ModuleNotFoundError):
                raise
            logger.error("%s", error)  # as AllenNLP, which goes on


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
        _import_named(import_module_and_submodules, name, "--include-package")


def _import_named(import_: Callable[[str], object], name: str, place: str) -> None:
    """Import a module that is named in a place. Raise `ConfigurationError` as above."""
    place = f"{place} is '{name}'"
    try:
        import_(name)
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

import argparse
from typing import List

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import import_module_and_submodules


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

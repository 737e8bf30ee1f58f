from importlib.metadata import PackageNotFoundError, version
from typing import Dict, Iterable


def installed_versions(packages: Iterable[str]) -> Dict[str, str]:
    """Return the versions of the installed ones among the packages."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

import gzip
import os
import re
import reprlib
import tarfile
import tempfile
import traceback
import zlib
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from allennlp.common import Registrable
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.common.util import SigTermReceived
from allennlp.data.vocabulary import NAMESPACE_PADDING_FILE
from allennlp.models.archival import CONFIG_NAME, Archive, get_weights_path
from allennlp.models.archival import load_archive as load_opened_archive

from allencv.common.archive_files import check_files, read_json
from allencv.common.data_paths import PATH_KEYS
from allencv.common.unpack_archive import ArchiveError, unpack
from allencv.runtime.bundle import is_bundle

PLUGIN = "allencv.plugin"
"""Registers all parts of AllenCV. Imported only if an archive names a part that is missing."""
DOTTED_NAME = re.compile(r"[\w-]+(\.[\w-]+)+")
LONGEST_KEY = 300
"""In characters. Nested keys of megabytes could fill the memory."""
IF_TRUSTED = "; if you trust it, add --trust-archive (in Python trusted=True)"
IF_MISSING = (
    "; add --include-package with the package that registers it (in Python import that package)"
)


def load_archive(
    archive_file: Union[str, Path],
    cuda_device: int = -1,
    overrides: Union[str, Dict[str, Any]] = "",
    weights_file: Optional[str] = None,
    trusted: bool = False,
) -> Archive:
    """
    Load a trained model: `model.tar.gz`, a URL of one, or the folder of a run. Unlike AllenNLP's
    function of this name, it runs no code in or named by the archive, unless it is `trusted`. The
    other arguments are AllenNLP's.

    # Raises

    `ConfigurationError`, as `opened_archive` does.
    """
    with opened_archive(archive_file, trusted, weights_file) as folder:
        return load_opened_archive(folder, cuda_device, overrides, weights_file)


@contextmanager
def opened_archive(
    archive_file: Union[str, Path], trusted: bool = False, weights_file: Optional[str] = None
) -> Iterator[Path]:
    """
    Check an archive, and yield a folder with its files. The folder is removed at the end, unless it
    is `archive_file` itself. In the `with` block, load the folder with AllenNLP's `load_archive`.

    AllenNLP extracts the members of an archive to any path, and imports and calls any Python name
    in its config (allennlp/models/archival.py, allennlp/common/registrable.py). Here,
    `allencv.common.unpack_archive` unpacks the archive, and the config may name only registered
    parts. `torch.load` reads the weights, by default only tensors.

    # Raises

    `ConfigurationError` if the archive is missing, damaged or not allowed, or cannot be loaded in
    the `with` block.
    """
    if is_bundle(archive_file):
        raise ConfigurationError(
            f"'{archive_file}' is a bundle, and this needs an archive (model.tar.gz): classify "
            f"images with a bundle by 'allencv classify {archive_file} photos'"
        )
    path = _local_path(archive_file)
    if path.is_dir() and not (path / CONFIG_NAME).exists():
        raise ConfigurationError(
            f"'{archive_file}' is not a model: it has no {CONFIG_NAME}; expected an archive "
            "(model.tar.gz, or the folder of a run), or the folder of a bundle"
        )
    with tempfile.TemporaryDirectory(prefix="allencv-") as temporary:
        try:
            folder, others = path, []
            if path.is_file():
                folder = Path(temporary)
                others = unpack(path, folder)
            check_files(folder, Path(weights_file or get_weights_path(folder)))
            config = read_json(folder / CONFIG_NAME)
            _check_included(others, config.get("include_in_archive"))
            _check_config(config, trusted)
        except ArchiveError as error:
            reason = " ".join(str(error).split())  # a key of the config may hold a line break
            raise ConfigurationError(f"archive '{archive_file}' is not opened: {reason}") from error
        except (gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError) as error:
            raise ConfigurationError(f"damaged archive '{archive_file}': {error}") from error
        except OSError as error:
            raise ConfigurationError(f"archive '{archive_file}' cannot be read: {error}") from error
        try:
            yield folder
        except SigTermReceived:
            raise
        except Exception as error:  # from the config's parts, or from torch
            if not _arose_in_loading(error):
                raise
            reason = _reason(error).replace(f"{folder}{os.sep}", "")
            raise ConfigurationError(
                f"archive '{archive_file}' cannot be loaded: {reason}"
            ) from error


def _local_path(archive_file: Union[str, Path]) -> Path:
    try:
        return Path(cached_path(archive_file))
    except FileNotFoundError:
        raise ConfigurationError(f"no model archive at '{archive_file}'") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"model archive '{archive_file}' cannot be read: {error}"
        ) from error


def _arose_in_loading(error: Exception) -> bool:
    """Return whether AllenNLP's `load_archive` raised an error, not the use of the model."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is load_opened_archive.__code__ for frame, _ in frames)


def _reason(error: Exception) -> str:
    """Return an error's reason in one line."""
    lines = [line.strip() for line in str(error).splitlines()] or [""]
    if isinstance(error, ConfigurationError):
        return " ".join(lines)
    if lines[0] == "OOV token not found!":
        return (
            "a file of its vocabulary has no out-of-vocabulary token, and "
            f"vocabulary/{NAMESPACE_PADDING_FILE} does not list its namespace"
        )
    if re.match(r"Error(\(s\) in)? loading state.dict", lines[0]):
        differences = [line for line in lines[1:] if line and not line.endswith(": []")]
        return f"its weights do not fit its config and vocabulary: {' '.join(differences[:1]):.300}"
    return f"{type(error).__name__}: {' '.join(lines):.300}"


def _check_included(names: List[str], patterns: Any) -> None:
    """Raise `ArchiveError` for a file that the config does not name in `include_in_archive`."""
    expected = patterns if isinstance(patterns, list) else []
    for name in names:
        paths = [name, *map(str, PurePosixPath(name).parents)]
        if not any(fnmatchcase(path, pattern) for path in paths for pattern in map(str, expected)):
            raise ArchiveError(f"it holds {name!r:.100}, which is not part of an archive")


def _check_config(config: Dict[str, Any], trusted: bool) -> None:
    """
    Raise `ArchiveError` for a config with missing or malformed parts. Unless the archive is
    `trusted`, also raise it for names of anything but registered parts.
    """
    for part in ("model", "dataset_reader"):
        if part not in config:
            raise ArchiveError(f"{CONFIG_NAME} has no {part}")
    for part in ("model", "dataset_reader", "validation_dataset_reader", "vocabulary"):
        # AllenNLP also takes a string, the type, for these two.
        kinds = (dict, str) if part in ("model", "validation_dataset_reader") else dict
        if part in config and not isinstance(config[part], kinds):
            raise ArchiveError(f"{part} is {reprlib.repr(config[part])}; expected a JSON object")
    for key, value in _items(config):
        last = key.split(".")[-1]
        if last == "type" and not isinstance(value, str):
            raise ArchiveError(f"{key} is {reprlib.repr(value)}; expected the name of a part")
        is_missing = last == "type" and not _is_registered(value)
        if trusted:
            continue
        if last in ("_pretrained", "trust_remote_code") or value == "from_archive":
            raise ArchiveError(f"{key} leads to other code or archives{IF_TRUSTED}")
        if not isinstance(value, str) or key in PATH_KEYS:
            continue
        # AllenNLP takes a string for a part's type, and one with dots for a Python name.
        if _is_importable(value):
            raise ArchiveError(f"{key} is {value!r:.100}, the name of Python code{IF_TRUSTED}")
        if is_missing:
            raise ArchiveError(f"{key} is {value!r:.100}, which is not registered{IF_MISSING}")


def _is_registered(name: str) -> bool:
    """Return whether a part has this name. In Python, nobody may have registered our parts yet."""
    if not any(name in names for names in Registrable._registry.values()):
        import_module(PLUGIN)
    return any(name in names for names in Registrable._registry.values())


def _items(config: Any) -> Iterator[Tuple[str, Any]]:
    """Yield every value in a config, also containers, with the end of its dotted key."""
    rest = [("", config)]
    while rest:
        key, value = rest.pop()
        yield key, value
        if isinstance(value, dict):
            start = f"{key}." if key else ""
            rest += [((start + name)[-LONGEST_KEY:], item) for name, item in value.items()]
        elif isinstance(value, list):
            rest += [(key, item) for item in value]


def _is_importable(name: str) -> bool:
    if not DOTTED_NAME.fullmatch(name):
        return False
    try:
        return find_spec(name.split(".")[0]) is not None
    except (ImportError, ValueError):
        return False

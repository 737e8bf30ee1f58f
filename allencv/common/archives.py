import json
import re
import tarfile
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple, Union

from allennlp.common import Registrable
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.models.archival import CONFIG_NAME, Archive
from allennlp.models.archival import load_archive as load_trusted_archive

DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
DATA_KEYS = {"train_data_path", "validation_data_path", "test_data_path"}


def load_archive(
    archive_file: Union[str, Path],
    cuda_device: int = -1,
    overrides: Union[str, Dict[str, Any]] = "",
    weights_file: Optional[str] = None,
    trusted: bool = False,
) -> Archive:
    """
    Opens a trained model: `model.tar.gz`, a URL of one, or the folder of a run. Unlike AllenNLP's
    function of this name it runs no code that the archive brings along or names, unless it is
    `trusted`. The arguments are AllenNLP's.

    # Raises

    `ConfigurationError`, as `opened_archive` does.
    """
    with opened_archive(archive_file, trusted) as folder:
        return load_trusted_archive(folder, cuda_device, overrides, weights_file)


@contextmanager
def opened_archive(archive_file: Union[str, Path], trusted: bool = False) -> Iterator[Path]:
    """
    A folder with the contents of an archive, gone again at the end unless it was a folder already.

    AllenNLP extracts an archive wherever its members say, and imports and calls whatever Python
    name its config holds (allennlp/models/archival.py, allennlp/common/registrable.py). Here
    members stay inside the folder, and the config may name registered parts only. Weights are read
    by `torch.load`, which takes nothing but tensors unless it is told otherwise.

    # Raises

    `ConfigurationError` if the archive is missing, damaged, or asks for more than that.
    """
    try:
        path = Path(cached_path(archive_file))
    except FileNotFoundError:
        raise ConfigurationError(f"no model archive at '{archive_file}'") from None
    with tempfile.TemporaryDirectory(prefix="allencv-") as temporary:
        folder = path
        if path.is_file():
            folder = Path(temporary)
            try:
                with tarfile.open(path, "r:gz") as archive:
                    archive.extractall(folder, filter="data")
            except tarfile.FilterError as error:
                raise ConfigurationError(f"unsafe archive '{archive_file}': {error}") from None
            except (tarfile.TarError, OSError, EOFError) as error:
                raise ConfigurationError(f"damaged archive '{archive_file}': {error}") from None
        if not trusted:
            _check_config(folder / CONFIG_NAME, archive_file)
        yield folder


def _check_config(config_file: Path, archive_file: Union[str, Path]) -> None:
    try:
        # Not jsonnet, whose imports could read files of this machine; AllenNLP writes plain JSON.
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"archive '{archive_file}' has no readable config: {error}"
        ) from None
    registered = {name for names in Registrable._registry.values() for name in names}
    for key, value in _items(config):
        refused: Optional[Exception] = None
        if key.split(".")[-1] in ("_pretrained", "trust_remote_code") or value == "from_archive":
            refused = ConfigurationError(f"{key} leads to other code or archives")
        elif key.split(".")[-1] == "type" and isinstance(value, str) and value not in registered:
            refused = ConfigurationError(f"{key} is '{value}', which nothing has registered")
        elif isinstance(value, str) and key not in DATA_KEYS and _is_importable(value):
            # AllenNLP takes a bare string for a part's type, and a dotted one for a Python name
            refused = ConfigurationError(f"{key} is '{value}', the name of Python code")
        if refused is not None:
            raise ConfigurationError(
                f"archive '{archive_file}' is not opened: {str(refused)[:500]}; import the package "
                "that registers it (allencv.plugin for all of AllenCV), or say that the archive is "
                "trusted (trusted=True, or --trust-archive)"
            )


def _items(value: Any, key: str = "") -> Iterator[Tuple[str, Any]]:
    """Every value in a config with its dotted key, the containers too."""
    yield key, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _items(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _items(item, key)


def _is_importable(name: str) -> bool:
    if not DOTTED_NAME.fullmatch(name):
        return False
    try:
        return find_spec(name.split(".")[0]) is not None
    except (ImportError, ValueError):
        return False

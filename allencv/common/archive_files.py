"""Check that the files of a model archive, or of a run's folder, are complete and unchanged."""

import json
import os
import reprlib
import zipfile
from pathlib import Path
from typing import Any, Dict, List

import torch
from allennlp.data.vocabulary import NAMESPACE_PADDING_FILE
from allennlp.models.archival import CONFIG_NAME, META_NAME, get_weights_path

from allencv.common.torch_files import has_valid_checksums
from allencv.common.unpack_archive import CHECKSUMS_NAME, WEIGHTS_NAME, ArchiveError
from allencv.runtime.bundle import sha256_of
from allencv.runtime.regular_files import check_regular


def check_files(folder: Path, weights: Path) -> None:
    """
    Check that an archive has a vocabulary and `weights`, and that its files are unchanged, by
    `checksums.json`, or else by the checksums that `torch.save` writes.

    # Raises

    `ArchiveError` that names the file.
    """
    if not (folder / CONFIG_NAME).is_file():
        raise ArchiveError(f"it has no {CONFIG_NAME}")
    if not (folder / "vocabulary").is_dir():
        raise ArchiveError("it has no folder 'vocabulary'")
    vocabulary = [folder / "vocabulary" / NAMESPACE_PADDING_FILE, *vocabulary_files(folder)]
    optional = [
        folder / name for name in (META_NAME, CHECKSUMS_NAME) if os.path.lexists(folder / name)
    ]
    for file in [*vocabulary, *optional]:
        _check_file(file, file.relative_to(folder).as_posix())
    if not weights.is_file():
        expected = f"{WEIGHTS_NAME}, or best.th in the folder of a run"
        if weights != Path(get_weights_path(folder)):
            expected = f"them at '{weights}'"
        raise ArchiveError(f"it has no weights; expected {expected}")
    if folder / CHECKSUMS_NAME in optional:
        read = [folder / CONFIG_NAME, folder / META_NAME, weights, *vocabulary_files(folder)]
        _check_checksums(folder, [file for file in read if file.is_relative_to(folder)])
    if folder / META_NAME in optional:
        _check_meta(read_json(folder / META_NAME))
    _check_weights(weights)


def vocabulary_files(folder: Path) -> List[Path]:
    """Return the files of AllenNLP's vocabulary: one for each namespace, and a list."""
    files = sorted((folder / "vocabulary").iterdir())
    return [file for file in files if not file.name.startswith(".")]


def read_json(file: Path) -> Dict[str, Any]:
    """Read a JSON object. Raise `ArchiveError` for anything else."""
    try:
        # AllenNLP writes plain JSON. Imports in jsonnet could read files of this machine.
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArchiveError(f"{file.name} is not readable as JSON: {error}") from None
    except RecursionError:
        raise ArchiveError(f"{file.name} is nested too deeply") from None
    if not isinstance(content, dict):
        raise ArchiveError(f"{file.name} holds {reprlib.repr(content)}; expected a JSON object")
    return content


def _check_file(file: Path, name: str) -> None:
    """Refuse anything but a regular file: AllenNLP would wait for a pipe."""
    try:
        check_regular(file)
    except FileNotFoundError:
        kind = "a broken link" if file.is_symlink() else "missing"
        raise ArchiveError(f"{name!r:.100} is {kind}; expected a file") from None
    except OSError as error:
        raise ArchiveError(f"{name!r:.100} is {error.strerror}") from None
    if file.is_dir():
        raise ArchiveError(f"{name!r:.100} is a folder; expected a file")


def _check_meta(meta: Dict[str, Any]) -> None:
    version = meta.get("version")
    if len(meta) != 1 or not isinstance(version, str) or version.count(".") < 2:
        raise ArchiveError(
            f"{META_NAME} holds {reprlib.repr(meta)}; expected AllenNLP's version only, as in "
            '{"version": "2.10.1"}'
        )


def _check_checksums(folder: Path, read: List[Path]) -> None:
    """Compare all listed files. Files in `read` must be listed if they exist."""
    expected = read_json(folder / CHECKSUMS_NAME)
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*")}
    for name, checksum in expected.items():
        if name not in files or not files[name].is_file():
            raise ArchiveError(f"{name!r:.100} is missing; {CHECKSUMS_NAME} lists it")
        if sha256_of(files[name]) != checksum:
            raise ArchiveError(f"{name!r:.100} was changed: its checksum differs")
    for file in read:
        name = file.relative_to(folder).as_posix()
        if name in files and name not in expected:
            raise ArchiveError(f"{name!r:.100} is not listed in {CHECKSUMS_NAME}")


def _check_weights(file: Path) -> None:
    # Files from before PyTorch 1.6 are not zip archives, and have no checksums.
    is_zip = zipfile.is_zipfile(file)
    if is_zip and not has_valid_checksums(file):
        raise ArchiveError(f"{file.name} was changed or cut off: a checksum in it differs")
    try:
        # With `mmap`, only names and shapes are read here.
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # damaged files raise many classes of errors
        raise ArchiveError(
            f"{file.name} is not a file of weights, or has other content, which could run code "
            f"(torch.load raises {type(error).__name__})"
        ) from error
    if not isinstance(state, dict):
        raise ArchiveError(
            f"{file.name} holds a {type(state).__name__}; expected names and tensors"
        )
    for name in state:
        if not isinstance(name, str):
            raise ArchiveError(
                f"{file.name} has {reprlib.repr(name)} as the name of a tensor; expected a string"
            )

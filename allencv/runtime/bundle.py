import hashlib
import os
from pathlib import Path
from typing import Optional, Union

from allencv.runtime.certainty import Certainty
from allencv.runtime.certainty.files import JSON, read_certainty
from allencv.runtime.errors import BundleError, InputError
from allencv.runtime.manifest import Manifest
from allencv.runtime.regular_files import check_regular

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 2**24
"""16 MiB: the labels of ImageNet-21k take half a megabyte."""


def is_bundle(path: Union[str, os.PathLike]) -> bool:
    """Return whether `path` is a folder with a manifest, valid or not."""
    manifest = os.path.join(path, MANIFEST)
    return os.path.exists(manifest) and not os.path.isdir(manifest)


def check_exists(path: Union[str, os.PathLike]) -> None:
    """Raise `InputError` if `path` names no model here: neither a file, a folder, nor a URL."""
    name = os.fspath(path)
    if "://" not in name and not os.path.exists(name):
        raise InputError(
            f"no model at '{name}'; expected an archive (model.tar.gz, or the folder of a run), or "
            "the folder of a bundle"
        )


def read_manifest(path: Union[str, os.PathLike]) -> Manifest:
    """
    Read the manifest of a bundle, without its other files.

    # Raises

    `BundleError` if there is no bundle, or if its manifest was changed.
    """
    if not is_bundle(path):
        raise BundleError(f"no bundle at '{os.fspath(path)}'; expected a folder with {MANIFEST}")
    file = Path(path) / MANIFEST
    return Manifest.from_bytes(_bytes_of(file), str(file))


def open_bundle(path: Union[str, os.PathLike]) -> Manifest:
    """
    Read the manifest of a bundle. Check that it and all files that it names are unchanged since the
    export. No code of the bundle runs, and a manifest cannot name files outside its folder.

    # Raises

    `BundleError` if there is no bundle, or if it was changed.
    """
    manifest = read_manifest(path)
    for name, expected in manifest.files.items():
        file = Path(path) / name
        if not file.is_file():
            raise BundleError(f"{file}: it is missing; {MANIFEST} lists it")
        if sha256_of(file) != expected:
            raise BundleError(f"{file}: it was changed after the export (its checksum differs)")
    return manifest


def certainty_of(path: Union[str, os.PathLike], manifest: Manifest) -> Optional[Certainty]:
    """
    Return what an opened bundle knows about its answers, or `None`. Raise `BundleError` if it
    cannot be read.
    """
    if JSON not in manifest.files:
        return None
    found = read_certainty(Path(path), len(manifest.labels), manifest.vector_size)
    rule = None if found is None else found.unknown
    if rule is not None and rule.needs_vectors and manifest.vector_size is None:
        raise BundleError(
            f"{Path(path) / JSON}: unknown.kind is {rule.kind!r}, which needs vectors, and the "
            "network gives none"
        )
    return found


def checksum_of(path: Union[str, os.PathLike]) -> str:
    """Return a checksum of a bundle: of its manifest, which has those of the other files."""
    return sha256_of(Path(path) / MANIFEST)


def vector_size_of(manifest: Manifest, name: str) -> int:
    """Return the size of the vectors of a bundle. Raise `BundleError` if it gives none."""
    if manifest.vector_size is None:
        raise BundleError(
            f"bundle '{name}' gives no vectors: it was exported by an older version of allencv; "
            "export it again"
        )
    return manifest.vector_size


def _bytes_of(file: Path) -> bytes:
    try:
        check_regular(file)
        if (size := file.stat().st_size) > LARGEST_MANIFEST:
            raise BundleError(
                f"{file}: it has {size:,} bytes; expected at most {LARGEST_MANIFEST:,}"
            )
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: {error.strerror}") from error


def sha256_of(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

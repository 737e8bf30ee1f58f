"""Put what was found out about a model into its archive."""

import json
import os
import tempfile
from pathlib import Path
from typing import List, Union

from allencv.common.archives import opened_archive
from allencv.common.unpack_archive import CHECKSUMS_NAME, WEIGHTS_NAME
from allencv.common.write_archive import write_files
from allencv.runtime.bundle import sha256_of
from allencv.runtime.certainty import Certainty
from allencv.runtime.certainty.files import FILES, read_certainty, write_certainty
from allencv.runtime.errors import BundleError, InputError
from allencv.runtime.whole_files import write_text

ARCHIVE = "model.tar.gz"


def store_certainty(
    path: Union[str, os.PathLike], certainty: Certainty, trusted: bool = False
) -> List[Path]:
    """
    Add a `Certainty` to an archive: a file, or the folder of a run, and the archive in it if that
    has the same weights. One from before is replaced. Return what was written. An archive is
    written as a whole or not at all, and nothing is written that could not be read again.

    # Raises

    `InputError` for an archive that is not on this machine, or that has other weights by now, and
    for a certainty that could not be read again.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"'{path}' is not a file or folder here; expected one, to write to it")
    _check_readable(certainty)
    if path.is_file():
        if not _add_to_archive(path, certainty, trusted):
            raise InputError(
                f"'{path}' was replaced by an archive with other weights during the calibration; "
                "calibrate it again"
            )
        return [path]
    written = [path / name for name in FILES]
    archive = path / ARCHIVE
    # First, as it is the largest: if the disk is full, the folder stays as it is too.
    if archive.is_file() and _add_to_archive(archive, certainty, trusted):
        written.append(archive)
    write_certainty(path, certainty)
    if (path / CHECKSUMS_NAME).is_file():
        checksums = json.loads((path / CHECKSUMS_NAME).read_text(encoding="utf-8"))
        checksums |= {name: sha256_of(path / name) for name in FILES}
        write_text(path / CHECKSUMS_NAME, json.dumps(checksums, indent=2))
    return written


def _check_readable(certainty: Certainty) -> None:
    with tempfile.TemporaryDirectory(prefix="allencv-") as folder:
        write_certainty(Path(folder), certainty)
        try:
            read_certainty(Path(folder), len(certainty.label_counts), None)
        except BundleError as error:
            reason = str(error).removeprefix(f"{folder}{os.sep}")
            raise InputError(f"the calibration gave numbers that are of no use: {reason}") from None


def _add_to_archive(archive: Path, certainty: Certainty, trusted: bool) -> bool:
    """Add the files to an archive with the same weights. Return whether it has them."""
    with opened_archive(archive, trusted) as folder:
        if sha256_of(folder / WEIGHTS_NAME) != certainty.model:
            return False
        write_certainty(folder, certainty)
        names = sorted(file for file in folder.rglob("*") if file.is_file())
        files = {
            file.relative_to(folder).as_posix(): file
            for file in names
            if file.name != CHECKSUMS_NAME
        }
        write_files(archive, files)
    return True

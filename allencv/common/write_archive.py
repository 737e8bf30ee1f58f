"""Write model archives with checksums."""

import io
import json
import logging
import os
import tarfile
from pathlib import Path
from typing import Dict, List, Optional, Union

from allennlp.models.archival import CONFIG_NAME, META_NAME

from allencv.common.archive_files import vocabulary_files
from allencv.common.unpack_archive import CHECKSUMS_NAME, WEIGHTS_NAME
from allencv.runtime.bundle import sha256_of
from allencv.runtime.certainty.files import ARRAYS_FILE, ARRAYS_SHA256, FILES
from allencv.runtime.certainty.files import JSON as CERTAINTY
from allencv.runtime.whole_files import whole_file

logger = logging.getLogger(__name__)


def archive_model(
    serialization_dir: Union[str, os.PathLike],
    weights: str = "best.th",
    archive_path: Optional[Union[str, os.PathLike]] = None,
    include_in_archive: Optional[List[str]] = None,
) -> str:
    """
    Write `model.tar.gz` like AllenNLP's function of this name (`models/archival.py`), with two
    differences: it is written as a whole or not at all, and it has the SHA-256 of each of its
    files. AllenNLP can read it.

    `allencv.training.train_model` replaces AllenNLP's function by this one. The arguments are
    AllenNLP's.

    # Raises

    `OSError` with the file that cannot be read or written.
    """
    folder = Path(serialization_dir)
    remove_stale_certainty(folder, folder / weights)
    target = Path(folder if archive_path is None else archive_path)
    if target.is_dir():
        target = target / "model.tar.gz"
    files = _files(folder, folder / weights, include_in_archive or [])
    logger.info("archiving weights and vocabulary to %s", target)
    write_files(target, files)
    return str(target)


def remove_stale_certainty(folder: Path, weights: Path) -> None:
    """
    Remove from the folder of a run what was found out about other weights, by calibration, and what
    is damaged, as after a calibration that ended while it wrote.
    """
    file = folder / CERTAINTY
    if not (file.exists() and weights.exists()):
        return
    try:
        content = json.loads(file.read_text("utf-8", "replace"))
        arrays = content.get(ARRAYS_SHA256) or sha256_of(folder / ARRAYS_FILE)
        wanted = {weights: content["model"], folder / ARRAYS_FILE: arrays}
        is_stale = any(sha256_of(path) != digest for path, digest in wanted.items())
    except (FileNotFoundError, ValueError, AttributeError, KeyError):
        is_stale = True
    if is_stale:
        logger.warning("removing %s, which is damaged or about other weights", file)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)


def write_files(target: Path, files: Dict[str, Path]) -> None:
    """Write an archive of these files, by their names in it, and their checksums."""
    checksums = json.dumps({name: sha256_of(file) for name, file in files.items()}, indent=2)
    with whole_file(target) as temporary:
        _write(temporary, files, checksums.encode())


def _write(target: Path, files: Dict[str, Path], checksums: bytes) -> None:
    # Store the targets of links, as links in archives are refused. Do not compress: weights shrink
    # by 8%, and a ResNet-50 would take 5 s to write instead of 0.3 s.
    with tarfile.open(target, "w:gz", dereference=True, compresslevel=0) as archive:
        for name, file in files.items():
            archive.add(file, name)
        member = tarfile.TarInfo(CHECKSUMS_NAME)
        member.size = len(checksums)
        archive.addfile(member, io.BytesIO(checksums))


def _files(folder: Path, weights: Path, patterns: List[str]) -> Dict[str, Path]:
    """Return the files of an archive, by their names in it."""
    files = {CONFIG_NAME: folder / CONFIG_NAME, WEIGHTS_NAME: weights}
    files |= {f"vocabulary/{file.name}": file for file in vocabulary_files(folder)}
    for name in (META_NAME, *FILES):
        if (folder / name).exists():
            files[name] = folder / name
    for found in (found for pattern in patterns for found in sorted(folder.glob(pattern))):
        for file in sorted(found.rglob("*")) if found.is_dir() else [found]:
            if file.is_file():
                files.setdefault(file.relative_to(folder).as_posix(), file)
    return files

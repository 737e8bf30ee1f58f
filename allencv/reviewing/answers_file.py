import os
from datetime import UTC, datetime
from pathlib import Path
from typing import List, Optional, Tuple

from allencv.data.corrections import (
    Correction,
    Corrections,
    Labels,
    as_line,
    as_row,
    columns,
    read_corrections,
)
from allencv.runtime.errors import InputError
from allencv.runtime.file_locks import lock

OPTION = "--output"


class AnswersFile:
    """
    A file of corrections (`allencv.data.corrections`) that grows by one line for each answer. A
    line is on the disk when `add` returns. An existing file is continued. While it is open, another
    process cannot open it.

    # Parameters

    path : the file. Its folder is created.
    multi_label : whether an image may have several labels.

    # Raises

    `InputError` if another process has it open, or it is of images with another number of labels;
    `ConfigurationError` if it is damaged; `OSError`.
    """

    def __init__(self, path: str, multi_label: bool) -> None:
        self.path = path
        self._multi_label = multi_label
        self._folder = os.path.dirname(path)
        Path(self._folder).mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self.corrections = self._opened()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._added: List[Tuple[str, Optional[Correction], int]] = []
        """The images that were answered since, each with the answer and the file's size before."""

    def _opened(self) -> Corrections:
        try:
            lock(self._descriptor)
        except BlockingIOError:
            raise InputError(
                f"{OPTION} is '{self.path}', which another 'allencv review' has open; close that, "
                "or expected another file"
            ) from None
        self._size = os.fstat(self._descriptor).st_size
        if not self._size:
            self._write(as_line(columns(self._multi_label)))
        corrections = read_corrections(self.path, OPTION)
        if corrections.multi_label != self._multi_label:
            kinds = ("one label", "several labels")
            raise InputError(
                f"{OPTION} is '{self.path}', which has {kinds[corrections.multi_label]} an image, "
                f"but the model gives {kinds[self._multi_label]}; expected another file"
            )
        if not Path(self.path).read_bytes().endswith(b"\n"):
            raise InputError(
                f"{OPTION} is '{self.path}', whose last line may be cut off; complete it and end "
                "it with a new line, or remove it"
            )
        return corrections

    def add(self, path: str, answer: str, labels: Labels, previous: Optional[Labels]) -> None:
        """
        Append the answer to an image.

        # Raises

        `InputError` if the file was changed by someone else; `OSError` if it cannot be written. The
        file is then as before.
        """
        time = datetime.now(UTC).isoformat(timespec="seconds")
        correction = Correction(path, answer, labels, previous, time)
        self._check_unchanged()
        size = self._size
        self._write(as_row(correction, self._folder, self.corrections.columns))
        self._added.append((path, self.corrections.of_images.get(path), size))
        self.corrections.of_images[path] = correction

    def undo(self) -> Optional[str]:
        """
        Remove the last answer that was added since the file was opened. Return the path of its
        image, or `None` if there is none. Raise as `add`.
        """
        if not self._added:
            return None
        self._check_unchanged()
        path, earlier, size = self._added[-1]
        os.ftruncate(self._descriptor, size)
        os.fsync(self._descriptor)
        self._size = size
        self._added.pop()
        if earlier is None:
            del self.corrections.of_images[path]
        else:
            self.corrections.of_images[path] = earlier
        return path

    @property
    def can_undo(self) -> bool:
        return bool(self._added)

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, line: str) -> None:
        content = line.encode("utf-8", "surrogateescape")
        try:
            written = 0
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            raise OSError(error.errno, error.strerror, self.path) from error
        self._size += len(content)

    def _check_unchanged(self) -> None:
        """Raise an error if this is no longer the file, as after an editor has saved another."""
        here = os.fstat(self._descriptor)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(here, there) or here.st_size != self._size:
            raise InputError(
                f"'{self.path}' was changed by another program; stop this command and start it "
                "again"
            )

"""Join the parts that the jobs of `classify --shard` have written."""

import shutil
from itertools import chain, islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from allencv.classify.arguments import SUFFIXES
from allencv.classify.output_files import Row, csv_header, suffix_of, write_parquet_rows
from allencv.classify.shards import Part, compared, forget_part, list_digest, read_part
from allencv.runtime.errors import InputError
from allencv.runtime.path_tables import import_pyarrow, paths_in
from allencv.runtime.plurals import numbered
from allencv.runtime.whole_files import whole_file

SHOWN = 10
"""The most missing parts that an error lists."""


def join(files: Sequence[str], output: str) -> int:
    """
    Write the parts in `files`, given in any order, as one file: the one that `classify` without
    `--shard` would have written. Return the number of images.

    # Raises

    `InputError` unless the parts are all parts of one list, each once and unchanged, with the same
    model and options, and of files of the same sizes.
    """
    _check_suffixes(files, output)
    if twice := [file for number, file in enumerate(files) if file in files[:number]]:
        raise InputError(f"'{twice[0]}' is given twice; expected each part once")
    parts = {file: read_part(file) for file in files}
    _check_same(parts)
    ordered = _in_order(parts)
    names = _Counted(_names(ordered))
    first = parts[ordered[0]]
    if list_digest(names) != first.all_images:
        raise InputError(
            "the parts do not have each image of their list once, in order; classify all of them "
            "again with one version of AllenCV"
        )
    _check_sizes(parts, ordered, names.count)
    forget_part(output)
    with whole_file(output) as temporary:
        JOINERS[suffix_of(output)](temporary, first.columns, ordered)
    return names.count


class _Counted:
    """Counts what is iterated over."""

    def __init__(self, names: Iterator[str]) -> None:
        self._names = names
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for name in self._names:
            self.count += 1
            yield name


def _check_suffixes(files: Sequence[str], output: str) -> None:
    suffix = suffix_of(output)
    if suffix not in SUFFIXES:
        raise InputError(
            f"--output is '{output}'; expected a file whose name ends in {', '.join(SUFFIXES)}"
        )
    for file in files:
        if suffix_of(file) != suffix:
            raise InputError(
                f"'{file}' and --output '{output}' have different formats; expected one suffix"
            )
        if Path(file).resolve() == Path(output).resolve():
            raise InputError(f"--output is '{output}', also a part; expected another file")


def _check_same(parts: Dict[str, Part]) -> None:
    (first, expected), *others = parts.items()
    for file, part in others:
        for name, value, of_first in (
            ("number of shards", part.shards, expected.shards),
            *((key, part.answers.get(key), value) for key, value in expected.answers.items()),
        ):
            if value != of_first:
                shown = "" if name == "model" else f": {value!r}, not {of_first!r}"
                raise InputError(
                    f"'{file}' has another {name} than '{first}'{shown}; expected parts of the "
                    "same command"
                )
        if part.all_images != expected.all_images:
            raise InputError(
                f"'{file}' is a part of another list of images than '{first}'; give all jobs "
                "the same paths and, if folders may change between the jobs, a file that lists them"
            )
        if part.columns != expected.columns or part.answers.keys() != expected.answers.keys():
            raise InputError(
                f"'{file}' and '{first}' are of different versions of AllenCV; expected one"
            )


def _in_order(parts: Dict[str, Part]) -> List[str]:
    files: Dict[int, str] = {}
    for file, part in parts.items():
        if part.shard in files:
            raise InputError(
                f"'{files[part.shard]}' and '{file}' are both shard {part.shard}/{part.shards}; "
                "expected each once"
            )
        files[part.shard] = file
    count = next(iter(parts.values())).shards
    missing = (number for number in range(1, count + 1) if number not in files)
    if num_missing := count - len(files):
        some = ", ".join(f"{number}/{count}" for number in islice(missing, SHOWN))
        more = f" and {num_missing - SHOWN} more" if num_missing > SHOWN else ""
        given = numbered(len(files), "part")
        raise InputError(f"{given} given; expected {count}: --shard {some}{more} missing")
    return [files[number] for number in sorted(files)]


def _check_sizes(parts: Dict[str, Part], ordered: List[str], count: int) -> None:
    """Raise `InputError` if a part was made where files of the same names have other sizes."""
    first, *others = ordered
    for file in others:
        sizes = zip(compared(count), parts[first].sizes, parts[file].sizes)
        for place, expected, size in sizes:
            if size != expected:
                name = next(islice(_names(ordered), place, None))
                raise InputError(
                    f"'{file}' was made from other images than '{first}': '{name}' had "
                    f"{_bytes(size)}, not {_bytes(expected)}; classify the parts again where all "
                    "jobs see the same images"
                )


def _bytes(size: Optional[int]) -> str:
    return "no file" if size is None else f"{size} bytes"


def _names(files: Sequence[str]) -> Iterator[str]:
    return chain.from_iterable(paths_in(file, "path") for file in files)


def _join_text(path: Path, header: bytes, files: Sequence[str]) -> None:
    with open(path, "wb") as joined:
        joined.write(header)
        for file in files:
            with open(file, "rb") as part:
                part.seek(len(header))
                shutil.copyfileobj(part, joined)


def _join_csv(path: Path, columns: Dict[str, str], files: Sequence[str]) -> None:
    _join_text(path, csv_header(columns), files)


def _join_json_lines(path: Path, columns: Dict[str, str], files: Sequence[str]) -> None:
    _join_text(path, b"", files)


def _join_parquet(path: Path, columns: Dict[str, str], files: Sequence[str]) -> None:
    """Write the rows anew, so that their groups are those of one file."""
    pyarrow = import_pyarrow(str(path))
    write_parquet_rows(path, columns, _rows(pyarrow, files))


def _rows(pyarrow: Any, files: Sequence[str]) -> Iterator[Row]:
    for file in files:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()


JOINERS: Dict[str, Callable[[Path, Dict[str, str], Sequence[str]], None]] = {
    ".csv": _join_csv,
    ".jsonl": _join_json_lines,
    ".parquet": _join_parquet,
}

"""
Classify with Ray Data: workers, each with the model, on one machine or a cluster. Ray starts a
worker that has died again, and repeats what it had not finished.
"""

import argparse
import glob
import os
import shutil
import tarfile
import uuid
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from allencv.classify.answers import answers
from allencv.classify.output_files import ROWS_AT_ONCE, columns, to_arrow, to_row
from allencv.runtime.classifier import Classifier
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile
from allencv.runtime.images import is_named_as_image
from allencv.runtime.path_tables import import_pyarrow
from allencv.runtime.ray_cluster import ADDRESS, Resources, connected_ray, resources_of

OpenClassifier = Callable[[argparse.Namespace], Tuple[Classifier, str]]
"""Opens the model that the arguments name, returns its checksum too, and completes `args.top_k`."""
BATCHES_AT_ONCE = 16
"""The batches that a worker gets at a time: it decodes one while it computes another."""
MOST_DEATHS = 10
"""How often workers may die at the same images. Ray would repeat it for ever."""
ROWS_TO_READ = 64
TAR, PARQUET = ".tar", (".parquet", ".pq")


class Pool(NamedTuple):
    """The number of workers, and the cores and GPUs of each."""

    workers: int
    cores: int
    gpus: int


def with_images_inside(paths: Sequence[str], column: str) -> Tuple[List[str], List[str]]:
    """
    Divide paths into those of files that hold images, and others. Tar files hold images, and so
    does a Parquet file whose `column` has bytes, or objects with `bytes`.
    """
    inside: List[str] = []
    others: List[str] = []
    for path in paths:
        is_pattern = glob.has_magic(path) and not os.path.lexists(path)
        files = sorted(glob.glob(path, recursive=True)) if is_pattern else [path]
        holders = [file for file in files if _holds_images(file, column)]
        inside += (file for file in holders if file not in inside)
        if not holders:
            others.append(path)
        elif len(holders) < len(files):
            others += (file for file in files if file not in holders)
    return inside, others


def _holds_images(file: str, column: str) -> bool:
    suffix = os.path.splitext(file)[1].lower()
    if suffix not in PARQUET or not os.path.isfile(file):
        return suffix == TAR and os.path.isfile(file)
    pyarrow = import_pyarrow(file)
    try:
        schema = pyarrow.parquet.read_schema(file)
    except (pyarrow.ArrowException, OSError):
        return False  # list_images says what is wrong with it
    if column not in schema.names:
        return False
    kind = schema.field(column).type
    if pyarrow.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def classify_on_ray(
    args: argparse.Namespace,
    open_classifier: OpenClassifier,
    may_use_gpu: bool,
    images: Sequence[ImageFile],
    files: Sequence[str],
) -> Tuple[int, int]:
    """
    Write a folder of Parquet files with the answers for `images`, and for the images inside of
    `files`, in any order. Return the number of images, and of those that could not be classified.

    # Raises

    `InputError` for arguments that cannot be used, and what `open_classifier` raises in a worker.
    """
    folder = Path(os.path.abspath(args.output))
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".allencv-{uuid.uuid4().hex}")
    with connected_ray() as ray:
        pool = _pool(args, may_use_gpu, resources_of(ray))
        args.workers = args.threads = pool.cores
        # First in a task: its errors are those of the plain command.
        opened = ray.remote(num_cpus=pool.cores, num_gpus=pool.gpus)(_columns)
        kinds = ray.get(opened.remote(args, open_classifier, os.getcwd()))
        try:
            for data in _data_sets(ray, args, pool, images, files):
                # In rows of whole batches; Ray holds back what workers have no time for.
                classified = data.map_batches(
                    Worker,
                    fn_constructor_args=(args, open_classifier, os.getcwd(), kinds),
                    batch_size=BATCHES_AT_ONCE * args.batch_size,
                    batch_format="pyarrow",
                    concurrency=pool.workers,
                    num_cpus=pool.cores,
                    num_gpus=pool.gpus,
                    max_task_retries=MOST_DEATHS,
                )
                with warnings.catch_warnings():
                    # That few images need no more than one worker.
                    warnings.filterwarnings("ignore", category=UserWarning, module="ray.data")
                    classified.write_parquet(
                        str(unfinished),
                        min_rows_per_file=ROWS_AT_ONCE,
                        ray_remote_args={"num_cpus": 0},  # the workers may have all cores
                    )
            count, failed = _counts(unfinished)
            if not files and count != len(images):
                raise RuntimeError(f"Ray has written {count} answers for {len(images)} images")
            os.replace(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return count, failed


def _pool(args: argparse.Namespace, may_use_gpu: bool, resources: Resources) -> Pool:
    on_gpu = may_use_gpu and args.device != "cpu" and (args.device or resources.gpus)
    most = resources.gpus if on_gpu else resources.cpus
    kind = "GPUs" if on_gpu else "CPUs"
    if args.device not in (None, "cpu", "cuda"):
        raise InputError(
            f"--device is {args.device}; expected cpu or cuda, as Ray gives each worker its GPU"
        )
    if on_gpu and not resources.gpus:
        raise InputError(f"--device is {args.device}, but Ray has no GPU; expected --device cpu")
    # A cluster may grow; this machine does not.
    if args.parallel is not None and args.parallel > most and not os.environ.get(ADDRESS):
        raise InputError(
            f"--parallel is {args.parallel}; expected at most {most}, the number of {kind}"
        )
    workers = args.parallel or most
    cores = max(1, min(args.workers, resources.most_cpus // workers))
    return Pool(workers, cores, 1 if on_gpu else 0)


def _data_sets(
    ray: Any,
    args: argparse.Namespace,
    pool: Pool,
    images: Sequence[ImageFile],
    files: Sequence[str],
) -> Iterator[Any]:
    """Yield data sets with a row for each image. Names are bytes, as not all are Unicode."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    if images:
        rows = [{"name": os.fsencode(each.name), "file": os.fsencode(each.file)} for each in images]
        size = BATCHES_AT_ONCE * args.batch_size
        blocks = [rows[first : first + size] for first in range(0, len(rows), size)]
        pyarrow = import_pyarrow(args.output)
        yield ray.data.from_arrow([pyarrow.Table.from_pylist(block) for block in blocks])
    if files:
        named = [{"file": os.fsencode(file)} for file in files]
        data = ray.data.from_items(named, override_num_blocks=len(named))
        where = {"column": args.column, "folder": os.getcwd()}
        # As many at once as there are workers, which may have all cores.
        yield data.flat_map(images_in, fn_kwargs=where, concurrency=pool.workers, num_cpus=0)


def images_in(row: Dict[str, bytes], column: str, folder: str) -> Iterator[Dict[str, bytes]]:
    """Yield a row for each image inside of a tar file or a Parquet file, one after the other."""
    os.chdir(folder)
    file = os.fsdecode(row["file"])
    read = _in_tar(file) if file.lower().endswith(TAR) else _in_parquet(file, column)
    for name, content in read:
        yield {"name": os.fsencode(name), "file": os.fsencode(name), "content": content}


def _in_tar(file: str) -> Iterator[Tuple[str, bytes]]:
    try:
        with tarfile.open(file, "r|*") as archive:
            for member in archive:
                opened = archive.extractfile(member) if member.isreg() else None
                if opened is not None and is_named_as_image(member.name):
                    yield f"{file}/{member.name}", opened.read()
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"'{file}' cannot be read as a tar file: {error}") from None


def _in_parquet(file: str, column: str) -> Iterator[Tuple[str, bytes]]:
    pyarrow = import_pyarrow(file)
    number = 0
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches(ROWS_TO_READ, columns=[column]):
        for cell in batch.column(0).to_pylist():
            number += 1
            content = cell["bytes"] if isinstance(cell, dict) else cell
            yield f"{file}#{number}", content or b""


def _columns(
    args: argparse.Namespace, open_classifier: OpenClassifier, folder: str
) -> Dict[str, str]:
    """Open the model in `folder`. Return the columns of its answers."""
    os.chdir(folder)
    classifier, _ = open_classifier(args)
    return columns(
        classifier.labels,
        classifier.multi_label,
        args.top_k,
        args.probabilities,
        classifier.certainty,
    )


class Worker:
    """An actor of Ray that holds the model, and classifies tables of images."""

    def __init__(
        self,
        args: argparse.Namespace,
        open_classifier: OpenClassifier,
        folder: str,
        kinds: Dict[str, str],
    ) -> None:
        os.chdir(folder)  # of the command, so that paths mean the same
        self._args = args
        self._classifier, _ = open_classifier(args)
        self._kinds = kinds

    def __call__(self, table: Any) -> Iterator[Any]:
        """Yield a table of answers for each batch of a table of images."""
        args = self._args
        images = [
            ImageFile(os.fsdecode(row["name"]), os.fsdecode(row["file"]), row.get("content"))
            for row in table.to_pylist()
        ]
        for records in answers(
            self._classifier, images, args.batch_size, args.workers, args.top_k, args.probabilities
        ):
            yield to_arrow(self._kinds, map(to_row, records))


def _counts(folder: Path) -> Tuple[int, int]:
    """Return the numbers of rows, and of those with an error."""
    import pyarrow.dataset as datasets

    if not folder.is_dir():
        raise InputError("the files hold no image; expected images in tar files, or in Parquet")
    written = datasets.dataset(folder, format="parquet")
    failed = written.count_rows(filter=datasets.field("error").is_valid())
    return written.count_rows(), failed

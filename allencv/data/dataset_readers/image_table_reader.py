import logging
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.common.nearest_names import not_one_of
from allencv.data import remote
from allencv.data.dataset_readers.cells import (
    WrongCell,
    chosen,
    is_empty,
    is_word_for_missing,
    parse_pattern,
    to_label,
    to_labels,
    to_path,
)
from allencv.data.dataset_readers.listing import Labels, Listing, ListingReader
from allencv.data.dataset_readers.messages import KEYS, cut, some
from allencv.data.dataset_readers.tables import Table, open_table
from allencv.runtime.path_tables import FORMATS
from allencv.runtime.plurals import numbered

logger = logging.getLogger(__name__)


MISSING_LABELS = ("fail", "skip", "keep")


@DatasetReader.register("image_table")
class ImageTableReader(ListingReader):
    """
    Reads a table with one row per image: CSV or TSV with a header, JSON lines, or Parquet (with the
    extra `parquet`). Images keep the order of the rows. The table may be compressed
    (`table.csv.gz`, `.bz2`, `.xz`). Table and images may be behind URLs that fsspec understands.

    The labels are one per image in a column (`label_column`), several in columns of 0 and 1
    (`label_columns`), or several in one column (`labels_column`); without these, images have no
    labels. Space around labels and column names is removed.

    Registered as a `DatasetReader` with name "image_table".

    # Example

    ```jsonnet
    { type: "image_table", image_column: "file", label_column: "label" }
    ```

    # Parameters

    image_column : `str`, optional (default = `None`)
        The column of image paths. Either this or `image_pattern` is required.
    image_pattern : `str`, optional (default = `None`)
        A pattern that makes a path from the columns of a row: `"{Id}.jpg"`.
    label_column : `str`, optional (default = `None`)
        The column of the label. Its cells must not be empty (see `missing_labels`).
    label_columns : `Union[str, List[str]]`, optional (default = `None`)
        The columns whose names are labels: 1 if an image has the label, 0 if not (0.0, 1.0, True
        and False also work). `"*"` takes all columns that are not used otherwise, and logs them.
    ignore_columns : `List[str]`, optional (default = `None`)
        The columns that `"*"` leaves out.
    one_hot : `bool`, optional (default = `False`)
        Whether each row of `label_columns` has exactly one 1, which is the only label of the image.
    labels_column : `str`, optional (default = `None`)
        The column of the labels of each image: text with `labels_delimiter` between the labels; a
        list in JSON lines and Parquet; or a list written as text, as pandas does: `['cat', 'dog']`.
        An empty cell is an image without labels; their number is logged.
    labels_delimiter : `str`, optional (default = `None`)
        The text between the labels of an image.
    missing_labels : `str`, optional (default = `"fail"`)
        What to do with a row whose `label_column` is empty, or whose `label_column` or
        `labels_column` holds a word for a missing value: NaN, NA, N/A, null. "fail" raises an error
        that lists such rows, "skip" leaves them out and logs their number, "keep" uses the word as
        a label.
    split_column : `str`, optional (default = `None`)
        The column with the split of each row. The data path is then a dictionary such as
        `{"path": "table.csv", "split": "val"}`: the rows with `val` in that column. A split of
        `null` means all rows.
    format : `str`, optional (default = `None`)
        "csv", "tsv", "jsonl" or "parquet"; by default determined by the suffix of the table.
    delimiter : `str`, optional (default = `None`)
        The character between cells: by default a comma in CSV and a tab in TSV.
    image_root, encoding, check_files, split
        See `ListingReader`.
    transforms, color_mode, value_range, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` with the line number (row number in Parquet) when reading, if the file or a
    column does not exist, there are no rows, a row has too few or too many cells, a cell is not as
    expected, or an image is repeated with different labels. An image repeated with the same labels
    is used once, with a warning.
    """

    def __init__(
        self,
        image_column: Optional[str] = None,
        image_pattern: Optional[str] = None,
        label_column: Optional[str] = None,
        label_columns: Optional[Union[str, List[str]]] = None,
        ignore_columns: Optional[List[str]] = None,
        labels_column: Optional[str] = None,
        labels_delimiter: Optional[str] = None,
        one_hot: bool = False,
        missing_labels: str = "fail",
        split_column: Optional[str] = None,
        format: Optional[str] = None,
        delimiter: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (image_column is None) == (image_pattern is None):
            raise ConfigurationError(
                f"dataset_reader.image_column is {image_column!r} and image_pattern is "
                f"{image_pattern!r}; expected exactly one of them"
            )
        labels = {
            "label_column": label_column,
            "label_columns": label_columns,
            "labels_column": labels_column,
        }
        given = [key for key, value in labels.items() if value is not None]
        if len(given) > 1:
            raise ConfigurationError(
                f"dataset_reader has {' and '.join(given)}; expected at most one of them"
            )
        if (isinstance(label_columns, str) and label_columns != "*") or label_columns == []:
            raise ConfigurationError(
                f'dataset_reader.label_columns is {label_columns!r}; expected a list or "*"'
            )
        for key, value, needed, is_there in (
            ("labels_delimiter", labels_delimiter, "labels_column", labels_column is not None),
            ("ignore_columns", ignore_columns, 'label_columns "*"', label_columns == "*"),
            ("one_hot", one_hot or None, "label_columns", label_columns is not None),
            (
                "missing_labels",
                None if missing_labels == "fail" else missing_labels,
                "label_column and labels_column",
                label_column is not None or labels_column is not None,
            ),
        ):
            if value is not None and not is_there:
                raise ConfigurationError(
                    f"dataset_reader.{key} is {value!r}, which only works with {needed}"
                )
        if missing_labels not in MISSING_LABELS:
            raise not_one_of("dataset_reader.missing_labels", missing_labels, MISSING_LABELS)
        if labels_delimiter == "":
            raise ConfigurationError("dataset_reader.labels_delimiter is ''; expected a character")
        if format is not None and format not in FORMATS.values():
            raise not_one_of("dataset_reader.format", format, set(FORMATS.values()))
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"'):
            raise ConfigurationError(
                f"dataset_reader.delimiter is {delimiter!r}; expected one character, such as ';'"
            )
        self.image_pattern = image_pattern
        self._image_columns, self._path = (
            parse_pattern(image_pattern) if image_pattern else ([str(image_column)], to_path)
        )
        self.image_column = image_column
        self.label_column = label_column
        self.label_columns = label_columns
        self.ignore_columns = ignore_columns or []
        self.labels_column = labels_column
        self.labels_delimiter = labels_delimiter
        self.one_hot = one_hot
        self.missing_labels = missing_labels
        self.split_column = split_column
        self.format = format
        self.delimiter = delimiter

    def read_listing(self, file_path: Any) -> Listing:
        path, split = self._path_and_split(file_path)
        table = open_table(path, self.format, self.delimiter, self.encoding)
        self._check_columns(path, table)
        label_columns = self._label_columns(path, table)
        labels_of = self._labels_of(label_columns)
        wanted = [*self._image_columns, *label_columns]
        size, in_all = len(self._image_columns), len(wanted)
        if split is not None:
            wanted.append(str(self.split_column))
        listing = Listing(path, self.image_root, table.unit)
        splits = set()
        without: List[str] = []
        number = 0
        for number, cells in table.rows(wanted):
            if split is not None:
                splits.add(str(cells[-1]).strip())
                if str(cells[-1]).strip() != split:
                    continue
            if label_columns and self._lacks_label(cells[size]):
                without.append(f"{table.unit} {number} ({cut(cells[size])})")
                continue
            try:
                key, first = self._image_key(), 0
                image = self._path(cells[:size])
                key, first = self._label_key(), size
                labels = labels_of(cells[size:in_all])
            except WrongCell as wrong:
                place = first + wrong.place
                raise ConfigurationError(
                    f"{path}, {table.unit} {number}: {wanted[place]} is {cut(cells[place])}; "
                    f"expected {wrong.expected} (dataset_reader.{key})"
                ) from None
            listing.add(number, image, *labels)
        if not number:
            raise ConfigurationError(f"{path} has no rows; expected one for each image")
        if split is not None and split not in splits:
            raise not_one_of(f"{path}: the split ({KEYS})", split, splits)
        self._report_missing(path, without, table.unit)
        self._log_labels(path, listing, label_columns)
        return listing

    def _lacks_label(self, cell: Any) -> bool:
        """Return whether a cell of `label_column` or `labels_column` has no label."""
        is_word = is_word_for_missing(cell) and self.missing_labels != "keep"
        if self.label_column is not None:
            return is_empty(cell) or is_word
        return self.labels_column is not None and is_word

    def _report_missing(self, path: str, without: List[str], unit: str) -> None:
        """Raise or log, as `missing_labels` says."""
        if not without:
            return
        column = self.label_column or self.labels_column
        rows = f"{numbered(len(without), unit)} without a label in column {column}"
        if self.missing_labels == "skip":
            logger.warning("%s: %s are left out: %s", path, rows, some(without))
            return
        raise ConfigurationError(
            f"{path}: {rows}: {some(without)}; expected a label in each, or "
            'dataset_reader.missing_labels "skip" to leave them out, or "keep" to use a word such '
            "as NaN as a label"
        )

    def _path_and_split(self, file_path: Any) -> Tuple[str, Optional[str]]:
        if self.split_column is None:
            return remote.expand(file_path), None
        if not isinstance(file_path, dict) or set(file_path) != {"path", "split"}:
            raise ConfigurationError(
                f"the path is {file_path!r} and dataset_reader.split_column is "
                f"{self.split_column!r}; expected the keys path and split, such as "
                '{"path": "table.csv", "split": "train"}, or no split_column'
            )
        split = file_path["split"]
        return remote.expand(file_path["path"]), None if split is None else str(split)

    def _image_key(self) -> str:
        return "image_pattern" if self.image_column is None else "image_column"

    def _label_key(self) -> str:
        keys = ("label_column", "label_columns", "labels_column")
        return next((key for key in keys if getattr(self, key) is not None), "")

    def _check_columns(self, path: str, table: Table) -> None:
        split = [] if self.split_column is None else [self.split_column]
        named = [*self._image_columns, *self._named_labels(), *self.ignore_columns, *split]
        _check_delimiter(path, table.columns, named, table.delimiter)
        for key, names in (
            (self._image_key(), self._image_columns),
            (self._label_key(), self._named_labels()),
            ("ignore_columns", self.ignore_columns),
            ("split_column", split),
        ):
            for name in names:
                if name not in table.columns:
                    raise not_one_of(f"{path}: dataset_reader.{key}", name, table.columns)

    def _named_labels(self) -> List[str]:
        """Return the label columns that the config names."""
        if self.label_columns is not None:
            return [] if self.label_columns == "*" else list(self.label_columns)
        return [name for name in (self.label_column, self.labels_column) if name is not None]

    def _label_columns(self, path: str, table: Table) -> List[str]:
        if self.label_columns != "*":
            return self._named_labels()
        used = {*self._image_columns, *self.ignore_columns, self.split_column}
        columns = [name for name in table.columns if name not in used]
        if not all(columns):
            raise ConfigurationError(
                f"{path}: column {table.columns.index('') + 1} has no name; expected the name of a "
                'label, or "" in dataset_reader.ignore_columns'
            )
        if not columns:
            raise ConfigurationError(
                f'{path}: dataset_reader.label_columns "*" finds no column besides '
                f"{some(table.columns)}; expected one for each label"
            )
        logger.info("%s: %d columns of labels: %s", path, len(columns), ", ".join(columns))
        return columns

    def _labels_of(self, columns: List[str]) -> Callable[[Sequence[Any]], Labels]:
        """Return a function from the cells of these columns to the label or labels of an image."""
        if self.label_column is not None:
            return lambda cells: (to_label(cells[0]), None)
        if self.labels_column is not None:
            return lambda cells: (None, to_labels(cells[0], self.labels_delimiter))
        if not columns:
            return lambda cells: (None, None)
        known: Dict[Sequence[Any], Tuple[str, ...]] = {}

        def from_flags(cells: Sequence[Any]) -> Labels:
            key = tuple(map(str, cells))
            if key not in known:
                known[key] = self._chosen(columns, key)
            return (known[key][0], None) if self.one_hot else (None, known[key])

        return from_flags

    def _chosen(self, columns: List[str], flags: Sequence[str]) -> Tuple[str, ...]:
        try:
            labels = chosen(columns, flags)
            if self.one_hot and len(labels) != 1:
                raise WrongCell(0, f"exactly one 1 in the row (one_hot is true), not {len(labels)}")
            return labels
        except WrongCell as wrong:
            if self.label_columns == "*" and wrong.expected == "0 or 1":
                wrong.expected += "; ignore_columns leaves out columns that are not labels"
            raise

    def _log_labels(self, path: str, listing: Listing, columns: List[str]) -> None:
        if (self.label_columns is None and self.labels_column is None) or self.one_hot:
            return
        labels = [sample.labels or () for sample in listing.unique.samples]
        without = sum(not each for each in labels)
        if without:
            logger.warning("%s: %d of %d images have no label", path, without, len(labels))
        found = {label for each in set(map(tuple, labels)) for label in each}
        unused = [name for name in columns if name not in found]
        if unused and self.label_columns is not None:
            logger.warning("%s: no image has the labels (%d) %s", path, len(unused), some(unused))


def _check_delimiter(
    path: str, columns: List[str], named: List[str], delimiter: Optional[str]
) -> None:
    """Raise if another delimiter would produce the named columns."""
    if delimiter is None or set(named) <= set(columns):
        return
    header = delimiter.join(columns)
    for other in ",;\t|":
        if other != delimiter and set(named) <= {name.strip() for name in header.split(other)}:
            raise ConfigurationError(
                f"{path}: the header is {header!r}, with dataset_reader.delimiter {delimiter!r} "
                f"between the columns; expected delimiter {other!r}"
            )

"""Reports of runs and pictures of batches that a notebook displays."""

import html
import io
import os
import warnings
from pathlib import Path
from typing import Union

from allennlp.common.checks import ConfigurationError
from matplotlib.figure import Figure

from allencv.catalogue import DATA_KEYS, read_config
from allencv.common.random_state import keep_random_state
from allencv.reporting.batch_picture import DPI, draw_page, image_pairs
from allencv.reporting.findings import Findings, run_findings
from allencv.reporting.run_folder import read_run
from allencv.reporting.run_html import as_html
from allencv.runtime.whole_files import whole_file, write_text

HEIGHT, MOST_HEIGHT = 480, 900
"""Pixels of a page in a notebook. It grows to its content, up to `MOST_HEIGHT`, if scripts run."""
GROW = f"this.style.height=Math.min(this.contentDocument.body.scrollHeight+4,{MOST_HEIGHT})+'px'"


class InlinePage:
    """A page of HTML. A notebook displays it in a frame, so that its style changes nothing else."""

    def __init__(self, page: str) -> None:
        self.html = page

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write the page to a file, as a whole or not at all."""
        write_text(path, self.html, errors="replace")

    def _repr_html_(self) -> str:
        # Links inside the page would otherwise lead to the notebook's address.
        page = self.html.replace("<head>", '<head><base href="about:srcdoc">', 1)
        return (
            f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-same-origin" onload="{GROW}" '
            f'style="width: 100%; height: {HEIGHT}px; border: 0" title="report"></iframe>'
        )


class RunReport(InlinePage):
    """
    The page of `allencv report` about a run, created by `report`.

    # Parameters

    findings : `Findings`
        Everything that the page says: scores, curves, mistakes.
    """

    def __init__(self, findings: Findings) -> None:
        super().__init__(as_html(findings))
        self.findings = findings

    @property
    def learning_curves(self) -> InlinePage:
        if not self.findings.curves:
            raise ConfigurationError(f"{self.findings.name} has no metrics_epoch_*.json")
        return InlinePage(as_html(self.findings, ["learning"]))

    @property
    def scores(self) -> InlinePage:
        """The scores of each label."""
        return self._of_splits("labels")

    @property
    def confusion_matrix(self) -> InlinePage:
        """With more than 20 labels, the pairs of labels that are confused most."""
        if any(split.multi_label for split in self.findings.splits):
            raise ConfigurationError(
                "an image has several labels; expected one for a confusion matrix. See scores"
            )
        return self._of_splits("confusion")

    @property
    def mistakes(self) -> InlinePage:
        """The most confident mistakes, with the areas that support the wrong label."""
        return self._of_splits("mistakes")

    def _of_splits(self, section: str) -> InlinePage:
        if not self.findings.splits:
            raise ConfigurationError(
                f"{self.findings.name} has no predictions/validation.npz; write it with "
                "'allencv report RUN --evaluate'"
            )
        return InlinePage(as_html(self.findings, [section]))

    def __repr__(self) -> str:
        return f"RunReport({self.findings.name!r})"


def report(run: Union[str, os.PathLike], similar: int = 0) -> RunReport:
    """
    Report on a finished run, as `allencv report` does.

    # Parameters

    run : `Union[str, os.PathLike]`
        The folder of the run, such as `allencv.fit(...).folder`.
    similar : `int`, optional (default = `0`)
        The number of similar training images to show below each mistake. The first time, the model
        computes all training images; their vectors are kept.

    # Returns

    A `RunReport`. A notebook displays it, and its parts `learning_curves`, `scores`,
    `confusion_matrix` and `mistakes`. `save` writes it as HTML.

    # Raises

    `ConfigurationError` if it is not the folder of a run, or if its predictions are damaged; with
    `similar`, if its model is missing or cannot be opened.
    """
    if similar < 0:
        raise ConfigurationError(f"similar is {similar}; expected at least 0")
    findings = run_findings(read_run(os.fspath(run)))
    if similar:
        from allencv.reporting.similar_images import add_similar_images

        add_similar_images(findings, run, similar)
    return RunReport(findings)


class BatchPicture:
    """
    A picture of the images of a batch, created by `show_batch`.

    # Parameters

    figure : `Figure`
        The figure of matplotlib.
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write the picture, as a whole or not at all, in the format of the suffix of `path`."""
        with whole_file(path) as temporary:
            self._write(temporary)

    def _write(self, target: Union[str, os.PathLike, io.BytesIO]) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # the font may lack letters of a name
            self.figure.savefig(target, dpi=DPI)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self._write(file)
        return file.getvalue()

    def __repr__(self) -> str:
        return "BatchPicture()"


def show_batch(
    config: Union[str, os.PathLike],
    split: str = "train",
    count: int = 8,
    epoch: int = 0,
    overrides: str = "",
) -> BatchPicture:
    """
    Draw the first images of an epoch, each as decoded and as the network sees it, as
    `allencv show-batch` does.

    # Parameters

    config : `Union[str, os.PathLike]`
        The config of a training.
    split : `str`, optional (default = `"train"`)
        "train", "validation" or "test".
    count : `int`, optional (default = `8`)
        The number of images.
    epoch : `int`, optional (default = `0`)
        The epoch, from 0, which decides the order and the random transforms.
    overrides : `str`, optional (default = `""`)
        Jsonnet that changes the config.

    # Returns

    A `BatchPicture`. A notebook displays it, and `save` writes it to a file.

    # Raises

    `ConfigurationError` for mistakes in the config, or if it has no such data.
    """
    import allencv.plugin  # noqa: F401 - the config may name any part

    for key, value, least in (("count", count, 1), ("epoch", epoch, 0)):
        if value < least:
            raise ConfigurationError(f"{key} is {value}; expected at least {least}")
    params = read_config(os.fspath(config), overrides, DATA_KEYS)
    with keep_random_state():
        shown = image_pairs(params, split, count, epoch)
    return BatchPicture(draw_page(shown, f"{Path(config).name}: {split} data, epoch {epoch}"))

import os
import shutil
import textwrap
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

from allennlp.common.checks import ConfigurationError

from allencv.runtime import Manifest, is_bundle
from allencv.runtime.bundle import MANIFEST, sha256_of
from allencv.runtime.certainty import Certainty
from allencv.runtime.certainty.files import ARRAYS_FILE, JSON, write_certainty
from allencv.runtime.certainty.promises import promises_of


def check_output(folder: Path, force: bool) -> None:
    """Raise `ConfigurationError` unless a bundle may be written to `folder`."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not is_bundle(folder) or folder.is_symlink():
        raise ConfigurationError(f"'{folder}' exists and is not a bundle; expected a new folder")
    if not force:
        raise ConfigurationError(f"'{folder}' is already a bundle; --force replaces it")


@contextmanager
def new_folder(folder: Path, force: bool) -> Iterator[Path]:
    """
    Yield a temporary folder to write to, and rename it to `folder` at the end. If anything fails,
    remove it. With `force`, replace an existing bundle. An `OSError` about a file in the folder,
    such as for a full disk, names the bundle.
    """
    check_output(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
    except OSError as error:
        raise ConfigurationError(f"'{folder}' cannot be written: {error.strerror}") from error
    replaced = Path(f"{temporary}-replaced")
    try:
        yield temporary
        check_output(folder, force)  # again, as minutes may have passed
        if folder.exists():
            os.rename(folder, replaced)
        os.rename(temporary, folder)
    except OSError as error:
        within = error.filename is None or str(temporary) in os.fsdecode(error.filename)
        if error.errno is None or not within:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(folder)) from error
    finally:
        if replaced.exists() and not folder.exists():
            os.rename(replaced, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def write_manifest(folder: Path, manifest: Manifest, certainty: Optional[Certainty]) -> None:
    """Write the manifest, the README and what a calibration found to a folder with the network."""
    (folder / "README.md").write_text(readme(manifest, certainty), encoding="utf-8")
    if certainty is not None:
        write_certainty(folder, certainty)
    for file in sorted(folder.iterdir()):
        if file.name != MANIFEST:
            manifest.files[file.name] = sha256_of(file)
    (folder / MANIFEST).write_bytes(manifest.to_bytes())


def readme(manifest: Manifest, certainty: Optional[Certainty]) -> str:
    preprocessing = manifest.preprocessing
    prepared = (
        f'{preprocessing.color_mode}, "{preprocessing.fit}" to {preprocessing.width} x '
        f"{preprocessing.height} pixels"
    )
    paragraphs = [
        f"It gives an image {'any number' if manifest.multi_label else 'one'} of "
        f"{len(manifest.labels)} labels. `{manifest.model_file}` is the network "
        f"({manifest.format}, {manifest.precision}). `{MANIFEST}` has the labels, the "
        f"preprocessing of images ({prepared}), and the checksums of the other files.",
        "It was not compared with the original model.",
    ]
    if (parity := manifest.parity) is not None:
        paragraphs[1] = (
            f"It was compared with the original model on {parity.images} images: "
            f"{parity.agreement:.2%} have the same labels; probabilities differ by at most "
            f"{parity.largest_difference:.2g}."
        )
        if parity.decisions is not None:
            paragraphs[1] += (
                f" For {parity.decisions:.2%} it also decides the same about the set of labels, "
                "and whether the image is unknown and is answered."
            )
    if manifest.quantization is not None:
        paragraphs.append(f"int8: {manifest.quantization}.")
    if certainty is not None:
        paragraphs.append(
            f"`{JSON}` and `{ARRAYS_FILE}` hold a calibration of the {certainty.precision} "
            f"network. {' '.join(promises_of(certainty))}"
        )
    text = "\n\n".join(textwrap.fill(paragraph, 100) for paragraph in paragraphs)
    return f"# An image classifier\n\n{text}\n\n{USES[manifest.format]}"


USES = {
    "onnx": """To serve it over HTTP, with a web page, run in this folder:

    allencv serve .

To classify a folder of photographs:

    allencv classify . photos/ -o predictions.csv

Neither needs torch. The packages in AllenCV's requirements-serve.txt are enough.
""",
    "torch_export": """Where torch is installed, serve it over HTTP, or classify a folder:

    allencv serve . --trust-archive
    allencv classify . photos/ -o predictions.csv --trust-archive

From Python:

    import allencv

    print(allencv.load(".", trusted=True).predict("photo.jpg"))

torch may run code in a .pt2 file, so open only files from people you trust.
""",
}

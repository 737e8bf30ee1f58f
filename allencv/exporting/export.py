import os
from typing import Any, Union

from allencv.common.archives import load_archive
from allencv.exporting.bundle_export import export_bundle
from allencv.runtime import Manifest


def export(
    archive_file: Union[str, os.PathLike],
    folder: Union[str, os.PathLike],
    overrides: str = "",
    trusted: bool = False,
    **options: Any,
) -> Manifest:
    """
    Export a trained model as a bundle, like the command `allencv export`.

    # Parameters

    archive_file : `str`, required
        A model archive (`model.tar.gz`, or a URL of one), or the folder of a run.
    folder : `str`, required
        The bundle to write.
    overrides : `str`, optional (default = `""`)
        Jsonnet that changes the archive's config.
    trusted : `bool`, optional (default = `False`)
        Whether the archive's config may name any Python code, which then runs.
    options : optional
        The arguments of `export_bundle`: `format`, `precision`, `images`, ...

    # Returns

    The bundle's manifest: its labels, its preprocessing, and its comparison with the archive.
    """
    archive = load_archive(os.fspath(archive_file), overrides=overrides, trusted=trusted)
    return export_bundle(archive, folder, **options)

"""Read what `allencv calibrate` has added to an archive."""

import os
from pathlib import Path
from typing import Optional, Union

from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import get_weights_path

from allencv.runtime.bundle import sha256_of
from allencv.runtime.certainty import Certainty
from allencv.runtime.certainty.files import FILES, read_certainty
from allencv.runtime.errors import BundleError


def archived_certainty(
    folder: Union[str, os.PathLike],
    weights: Optional[Union[str, os.PathLike]],
    labels: int,
    vector_size: int,
) -> Optional[Certainty]:
    """
    Return the `Certainty` of an archive's folder, or `None` if the model is not calibrated.

    # Parameters

    weights : the file of weights that the model has; `None` for the archive's own. For other
        weights, such as those of another epoch, the result is `None`.

    # Raises

    `ConfigurationError` if it is damaged, or if the archive's weights are not those that were
    calibrated.
    """
    own = get_weights_path(folder)
    if weights is not None and not (os.path.exists(own) and os.path.samefile(weights, own)):
        return None
    try:
        certainty = read_certainty(Path(folder), labels, vector_size)
    except BundleError as error:
        raise ConfigurationError(str(error)) from None
    if certainty is not None and certainty.model != sha256_of(Path(own)):
        raise ConfigurationError(
            f"{FILES[0]} was made for other weights than {Path(own).name}; remove "
            f"{' and '.join(FILES)}, and calibrate the model again"
        )
    return certainty

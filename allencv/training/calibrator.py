from pathlib import Path
from typing import Any, Optional, Set

from allennlp.common import Registrable
from allennlp.data import DatasetReader

from allencv.common.checks import CheckedFromParams


class Calibrator(CheckedFromParams, Registrable):
    """
    Finds out, when training is over, when the answers of the model are to be relied on, from the
    images of `calibration_data_path`.

    Subclasses define `check` and `calibrate`.
    """

    default_implementation = "default"

    def check(self, reader: DatasetReader, data: Any, labels: Optional[Set[str]]) -> None:
        """
        Check the images before training begins. Raise `ConfigurationError` if they cannot be used.

        # Parameters

        reader : `DatasetReader`
            Reads these images.
        data : `Any`
            The `calibration_data_path`.
        labels : `Set[str]`, optional
            Those of the training images, if they are known.
        """
        raise NotImplementedError

    def calibrate(self, folder: Path, data: Any) -> None:
        """Write what is found out to the folder of a run that has ended."""
        raise NotImplementedError

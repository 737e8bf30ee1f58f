from allencv.runtime.errors import AllenCVError


class TrainingError(AllenCVError, ValueError):
    """Training cannot go on. The message says why and what to try."""

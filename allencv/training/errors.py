from allencv import AllenCVError


class TrainingError(AllenCVError, ValueError):
    """Training cannot continue. The message says why and what to try."""

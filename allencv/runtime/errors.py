from allencv import AllenCVError


class ImageError(AllenCVError, ValueError):
    """An image cannot be read. The message says which one and why."""


class UnsupportedImageError(ImageError):
    """An image is intact, but of an unsupported kind."""


class InputError(AllenCVError, ValueError):
    """A command cannot use an argument."""


class BundleError(AllenCVError, ValueError):
    """A bundle cannot be opened. The message says which file and why."""

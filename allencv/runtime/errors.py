class ImageError(ValueError):
    """An image that cannot be read. The message says which one, and why, in one line."""


class UnsupportedImageError(ImageError):
    """An image that is not damaged, but of a kind that is not read."""

class ImageError(ValueError):
    """An image that cannot be read. The message says which one, and why, in one line."""

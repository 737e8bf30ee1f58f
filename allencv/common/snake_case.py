import re


def snake_case(name: str) -> str:
    """Return `im2im_encoder` for `Im2ImEncoder`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()

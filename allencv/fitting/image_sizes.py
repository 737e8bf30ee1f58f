"""Find out by trying which image sizes a network takes."""

from typing import List

import torch
from allennlp.common.checks import ConfigurationError

from allencv.modules.im2im_encoders import Im2ImEncoder

MULTIPLES = (14, 16, 32, 64)
"""Input sizes are usually multiples of one of these, in pixels."""
USUAL = (64, 128, 224, 256, 384)
SHOWN = 3


def check_size(name: str, network: Im2ImEncoder, size: int) -> None:
    """Raise `ConfigurationError`, with sizes that fit, if the network cannot take the size."""
    if takes(network, size):
        return
    fitting = sorted(sizes_near(name, network, size))
    raise ConfigurationError(
        f"--image-size is {size}, which {name} cannot take; expected a size that it can take, "
        f"such as {', '.join(map(str, fitting))}"
    )


def size_that_fits(name: str, network: Im2ImEncoder, size: int) -> int:
    """Return the size in pixels, or the nearest one that the network can take."""
    return size if takes(network, size) else sizes_near(name, network, size)[0]


def sizes_near(name: str, network: Im2ImEncoder, size: int) -> List[int]:
    """
    Return up to three sizes that a network can take, the nearest first.

    # Raises

    `ConfigurationError` if it takes none of the sizes that are tried.
    """
    candidates = {size // each * each for each in MULTIPLES}
    candidates |= {(size // each + 1) * each for each in MULTIPLES}
    candidates = {each for each in candidates | set(USUAL) if each >= 8} - {size}
    found: List[int] = []
    for candidate in sorted(candidates, key=lambda each: (abs(each - size), each)):
        if len(found) < SHOWN and takes(network, candidate):
            found.append(candidate)
    if not found:
        raise ConfigurationError(
            f"--backbone is {name!r}, which takes none of the square images that were tried (8 to "
            "384 pixels); expected another"
        )
    return found


def takes(network: Im2ImEncoder, size: int) -> bool:
    """Return whether a network takes a square image of this size."""
    network.eval()  # batch normalisation needs several images in training
    image = torch.zeros(1, network.get_input_channels(), size, size)
    try:
        with torch.no_grad():
            network(image)
    except MemoryError:
        raise
    except Exception:  # the kind depends on the network
        return False
    return True

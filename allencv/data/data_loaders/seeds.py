import hashlib


def mix(*numbers: int) -> int:
    """Return a seed that depends on all numbers, the same in every process and on every machine."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)

import numpy as np
from PIL import Image

from allencv.data.near_copies import NEAR_BITS, difference_hash, near_groups


def test_the_difference_hash_worked_out_by_hand() -> None:
    """Brighter from left to right in the first row, darker in the others."""
    pixels = np.tile(np.arange(9, dtype=np.uint8)[::-1] * 20, (8, 1))
    pixels[0] = np.arange(9) * 20
    assert difference_hash(Image.fromarray(pixels)) == 0xFF00_0000_0000_0000


def test_groups_are_those_of_all_pairs() -> None:
    """Against every pair compared with every other."""
    random = np.random.default_rng(0)
    thumbnail = bytes(range(256))
    hashes = [int(value) for value in random.integers(0, 2**63, 40)]
    for value in hashes[:20]:
        flipped = random.choice(64, random.integers(1, 8), replace=False)
        hashes.append(value ^ sum(1 << int(bit) for bit in flipped))
    expected = [
        [i, j]
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= NEAR_BITS
    ]
    assert sorted(near_groups(hashes, [thumbnail] * len(hashes))) == sorted(expected)
    assert 5 < len(expected) < 20
    assert near_groups(hashes[:1] * 2, [thumbnail, thumbnail[::-1]]) == []
    assert near_groups([], []) == []
    # More than a block of the same.
    assert near_groups(hashes[:1] * 300, [thumbnail] * 300) == [list(range(300))]

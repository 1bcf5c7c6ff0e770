"""Inputs made of others: bits, bytes, numbers at their edges, words, pieces moved or cut out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

LONGEST = 4096
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def inputs(seeds: Sequence[bytes], words: Sequence[bytes], chance: Random) -> Iterator[bytes]:
    """Yield the seeds, then their descendants without end."""
    pool = list(seeds) or [b""]
    yield from pool
    while True:
        data = bytearray(chance.choice(pool))
        for _ in range(1 << chance.randrange(5)):
            _change(data, pool, words, chance)
        made = bytes(data[:LONGEST])
        if not chance.randrange(64) and len(pool) < 1024:
            pool.append(made)
        yield made


def _change(data: bytearray, pool: Sequence[bytes], words: Sequence[bytes], chance: Random) -> None:
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + (1 << chance.randrange(8)))
    match chance.randrange(8):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.randrange(256)
        case 2:
            size = chance.choice((1, 2, 4))
            edge = chance.choice(_EDGES) & (1 << 8 * size) - 1
            data[at : at + size] = edge.to_bytes(size, chance.choice(("big", "little")))
        case 3:
            del data[at:end]
        case 4:
            data[at:at] = data[at:end]
        case 5 if words:
            word = chance.choice(words)
            data[at : at + chance.choice((0, len(word)))] = word
        case 6:
            other = chance.choice(pool)
            start = chance.randrange(len(other) + 1)
            data[at:] = other[start:]
        case _:
            del data[at:]

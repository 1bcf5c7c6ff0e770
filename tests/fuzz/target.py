"""What a fuzz target is: bytes that go in, promises that must hold, and where to begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target: inputs that once broke a promise, and must not again."""


class Target(NamedTuple):
    """`run` raises for a broken promise; `seeds` are true inputs; `words` what to put into them.

    `cost_s` is the most processor time one input may take.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    words: Sequence[bytes] = ()
    cost_s: float = 0.005


def corpus(name: str) -> list[Path]:
    """Return the inputs kept for a target."""
    return sorted((CORPUS / name).glob("*"))


def check(promise: object, what: str) -> None:
    """Raise AssertionError unless the promise holds; not an assert, which -O leaves out."""
    if not promise:
        raise AssertionError(what)

"""Reading a header field by field, where any field may be missing."""

from typing import Any

from mcastctl.model.address import packed_text

Fields = dict[str, Any]
"""What a decoder found, in the form JSON prints it."""


class Short(Exception):
    """The bytes end before what the header promised."""


class Malformed(Exception):
    """The bytes contradict themselves; the message says how."""


class Cursor:
    """A position in some bytes; every read past the end raises Short and moves nothing."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else min(end, len(data))

    @property
    def left(self) -> int:
        """Bytes still to read."""
        return self.end - self.at

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        stop = self.at + size
        if stop > self.end:
            raise Short
        found = self.data[self.at : stop]
        self.at = stop
        return found

    def skip(self, size: int) -> None:
        """Leave `size` bytes out."""
        self.take(size)

    def rest(self) -> bytes:
        """Return everything up to the end."""
        return self.take(self.left)

    def u8(self) -> int:
        """Return the next byte as a number."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the next two bytes as a number in network order."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Return the next four bytes as a number in network order."""
        return int.from_bytes(self.take(4), "big")

    def ipv4(self) -> str:
        """Return the next four bytes as an address."""
        return packed_text(self.take(4))

    def ipv6(self) -> str:
        """Return the next sixteen bytes as an address."""
        return packed_text(self.take(16))

"""One message over many datagrams: its parts' header, and the stitcher that makes it whole again.

    offset  size  field                                   (network byte order)
         0     4  magic, b"mcsm"
         4     1  version of this header, 1
         5     1  0
         6     2  bytes of the message in each part but the last
         8     8  name: the first bytes of the name's SHA-256, random without a name
        16     8  when it was sent first, nanoseconds since the epoch: a later one is newer
        24     4  number of this part, from 0
        28     4  number of parts, at least 1
        32     8  bytes of the message
        40     4  CRC-32 of the message (zlib's)
        44        the part

Nothing is acknowledged or sent again; who wants that sends the message several times.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

MAGIC, VERSION = b"mcsm", 1
HEADER = struct.Struct("!4sBBHQQIIQI")
MIN_SIZE = HEADER.size + 1
"""Bytes of the smallest datagram that carries a byte of a message."""
MOST_BYTES = 64 << 20
"""Bytes of the largest message, and of all that are kept unfinished."""
MOST_OPEN, MOST_DONE = 64, 1024
"""Messages kept unfinished, and finished ones remembered."""
_OWN_COST = 512

Source = tuple[str, str, int]
"""Sender's address, group, port."""


class Part(NamedTuple):
    """The header of one part, and the bytes it brings."""

    size: int
    name: int
    sent_ns: int
    number: int
    parts: int
    length: int
    crc: int
    data: bytes


def split(message: bytes, size: int, name: int, sent_ns: int) -> list[bytes]:
    """Return datagrams of at most `size` bytes that carry the message, `MIN_SIZE` or more."""
    room = size - HEADER.size
    count = max(-(-len(message) // room), 1)
    crc = crc32(message)
    return [
        HEADER.pack(MAGIC, VERSION, 0, room, name, sent_ns, number, count, len(message), crc)
        + message[number * room : (number + 1) * room]
        for number in range(count)
    ]


def decode(payload: bytes) -> Part | None:
    """Return a well-formed part, None for anything else. Total on any bytes."""
    if payload[:4] != MAGIC or len(payload) < HEADER.size:
        return None
    _, version, zero, size, *rest, crc = HEADER.unpack_from(payload)
    name, sent_ns, number, count, length = rest
    if version != VERSION or zero or not size or number >= count:
        return None
    if count != max(-(-length // size), 1):
        return None
    data = payload[HEADER.size :]
    if len(data) != min(size, length - number * size):
        return None
    return Part(size, name, sent_ns, number, count, length, crc, data)


class Whole(NamedTuple):
    """A finished message: how many parts, how many of them came again."""

    data: bytes
    name: int
    sent_ns: int
    parts: int
    duplicates: int


class Lost(NamedTuple):
    """A message given up, and why: 'newer' came, 'room' was needed, 'end' of the run, 'damaged'.

    `missing` are ranges of numbers, first and last, the first few of them; `absent` is how many
    parts that are in all, of `parts`.
    """

    source: Source
    name: int
    sent_ns: int
    why: str
    parts: int
    absent: int
    missing: list[tuple[int, int]]


class _Open:
    """A message of which parts are there."""

    def __init__(self, part: Part) -> None:
        self.head = part._replace(number=0, data=b"")
        self.data = bytearray(part.length)
        self.there = bytearray(part.parts)
        self.came = self.duplicates = 0

    def missing(self, most: int = 8) -> list[tuple[int, int]]:
        """Return the first ranges of parts that did not come."""
        found: list[tuple[int, int]] = []
        at = self.there.find(0)
        while at >= 0 and len(found) < most:
            end = self.there.find(1, at)
            end = len(self.there) if end < 0 else end
            found.append((at, end - 1))
            at = self.there.find(0, end)
        return found


def _cost(part: Part) -> int:
    """Return the bytes that the message of a part takes."""
    return part.length + part.parts + _OWN_COST


class Stitcher:
    """Parts to messages, of any number of senders, bounded in bytes and in messages.

    Where room is needed, what has fewest parts gives up first. Counters: `whole` and `lost`
    messages, `duplicates` and `stale` parts (of a message older than one that came), `refused`
    parts of messages larger than may be kept, `evicted` messages.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_open: int = MOST_OPEN) -> None:
        self._most_bytes, self._most_open = most_bytes, most_open
        self._open: OrderedDict[tuple[Source, int], _Open] = OrderedDict()
        self._done: OrderedDict[tuple[Source, int], int] = OrderedDict()
        self._bytes = 0
        self.whole = self.lost = self.duplicates = self.stale = self.refused = self.evicted = 0

    def take(self, source: Source, part: Part) -> Iterator[Whole | Lost]:
        """Take one part; yield what it finished and what had to make room for it."""
        key = source, part.name
        if self._known(key, part):
            return
        found = self._open.get(key)
        if found is not None and found.head != part._replace(number=0, data=b""):
            if part.sent_ns <= found.head.sent_ns:
                self.stale += 1
                return
            yield self._give_up(key, "newer")
            found = None
        if found is None:
            if _cost(part) > self._most_bytes:
                self.refused += 1
                return
            yield from self._make_room(_cost(part))
            found = self._open[key] = _Open(part)
            self._bytes += _cost(part)
        self._open.move_to_end(key)
        if found.there[part.number]:
            found.duplicates += 1
            self.duplicates += 1
            return
        found.there[part.number] = 1
        found.came += 1
        found.data[part.number * part.size : part.number * part.size + len(part.data)] = part.data
        if found.came == part.parts:
            yield self._finish(key, found)

    def _known(self, key: tuple[Source, int], part: Part) -> bool:
        """Tell whether a part is of a message that was finished, or older than one."""
        done_ns = self._done.get(key)
        if done_ns is None or part.sent_ns > done_ns:
            return False
        if part.sent_ns == done_ns:
            self.duplicates += 1
        else:
            self.stale += 1
        return True

    def _finish(self, key: tuple[Source, int], found: _Open) -> Whole | Lost:
        if crc32(found.data) != found.head.crc:
            return self._give_up(key, "damaged")
        self._remove(key)
        self._done[key] = found.head.sent_ns
        self._done.move_to_end(key)
        if len(self._done) > MOST_DONE:
            self._done.popitem(last=False)
        self.whole += 1
        head = found.head
        return Whole(bytes(found.data), head.name, head.sent_ns, head.parts, found.duplicates)

    def _make_room(self, cost: int) -> Iterator[Lost]:
        while self._open and (
            len(self._open) >= self._most_open or self._bytes + cost > self._most_bytes
        ):
            self.evicted += 1
            yield self._give_up(min(self._open, key=lambda one: self._open[one].came), "room")

    def _remove(self, key: tuple[Source, int]) -> _Open:
        gone = self._open.pop(key)
        self._bytes -= _cost(gone.head)
        return gone

    def _give_up(self, key: tuple[Source, int], why: str) -> Lost:
        gone = self._remove(key)
        self.lost += 1
        head = gone.head
        absent = head.parts - gone.came
        return Lost(key[0], head.name, head.sent_ns, why, head.parts, absent, gone.missing())

    def end(self) -> Iterator[Lost]:
        """Yield what is not whole, for nothing more will come."""
        while self._open:
            yield self._give_up(next(iter(self._open)), "end")

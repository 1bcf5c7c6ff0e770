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
from collections.abc import Generator, Iterator
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
_IDLE = 4096
"""Parts of any message after which one that got none of them is given up for another."""

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


def fits(length: int, size: int) -> bool:
    """Tell whether a message of so many bytes, in datagrams of `size`, is one that may be kept."""
    parts = -(-length // (size - HEADER.size))
    return length + parts + _OWN_COST <= MOST_BYTES


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
    """A message of which parts are there: `seen` came in all, also before there was room."""

    def __init__(self, part: Part, seen: int) -> None:
        self.head = part._replace(number=0, data=b"")
        self.data = bytearray(part.length)
        self.there = bytearray(part.parts)
        self.came = self.duplicates = self.fed = 0
        self.seen = seen

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

    Where room is needed, what has fewest parts gives up first; but one that is being fed gives up
    its bytes only for another of which twice as many came, or two large ones would put out each
    other all the time. Counters: `whole` and `lost` messages, `duplicates` and `stale` parts (of
    a message older than one that came), `refused` parts of messages larger than may be kept or for
    which there was no room, `evicted` messages.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_open: int = MOST_OPEN) -> None:
        self._most_bytes, self._most_open = most_bytes, most_open
        self._open: OrderedDict[tuple[Source, int], _Open] = OrderedDict()
        self._done: OrderedDict[tuple[Source, int], int] = OrderedDict()
        self._waiting: OrderedDict[tuple[Source, int], tuple[Part, int]] = OrderedDict()
        self._bytes = self._taken = 0
        self.whole = self.lost = self.duplicates = self.stale = self.refused = self.evicted = 0

    def take(self, source: Source, part: Part) -> Iterator[Whole | Lost]:
        """Take one part; yield what it finished and what had to make room for it."""
        self._taken += 1
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
            seen = self._seen_waiting(key, part)
            if not (yield from self._make_room(part, seen)):
                self._wait(key, part, seen)
                return
            found = self._open[key] = _Open(part, seen)
            self._bytes += _cost(part)
        found.fed = self._taken
        found.seen += 1
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

    def _make_room(self, part: Part, seen: int) -> Generator[Lost, None, bool]:
        """Give up what has to go for a new message; return whether there is room for it now."""
        fewest = sorted(self._open, key=lambda one: self._open[one].came)
        missing = self._bytes + _cost(part) - self._most_bytes
        going = []
        for other in fewest if part.parts > 1 else ():  # a single part is whole at once
            one = self._open[other]
            if missing > 0 and (2 * one.seen <= seen or self._taken - one.fed > _IDLE):
                going.append(other)
                missing -= _cost(one.head)
        if missing > 0 and part.parts > 1:
            return False
        if not going and len(self._open) >= self._most_open:
            going = fewest[:1]
        for other in going:
            self.evicted += 1
            yield self._give_up(other, "room")
        return True

    def _seen_waiting(self, key: tuple[Source, int], part: Part) -> int:
        """Return how many parts came of a message while there was no room for it."""
        head, seen = self._waiting.pop(key, (part, 0))
        return seen if head.sent_ns == part.sent_ns else 0

    def _wait(self, key: tuple[Source, int], part: Part, seen: int) -> None:
        self.refused += 1
        self._waiting[key] = part._replace(number=0, data=b""), seen + 1
        if len(self._waiting) > self._most_open:
            self._waiting.popitem(last=False)

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
        for (source, name), (head, _) in self._waiting.items():
            self.lost += 1
            gap = [(0, head.parts - 1)]
            yield Lost(source, name, head.sent_ns, "room", head.parts, head.parts, gap)
        self._waiting.clear()
        while self._open:
            yield self._give_up(next(iter(self._open)), "end")

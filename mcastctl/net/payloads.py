"""What to send: data said once or many times, numbered probes, a file, standard input.

Every kind has the same seven: `take(now_ns)` returns one payload per target, None when it has
none now; while `hungry`, wait for `descriptor` and `fill()`; `ended` tells that nothing will
ever come again, `counted` that a number of rounds was asked for, `extent` how much of how much
was taken, None where nobody knows; after the last one replies are heard for `linger_s`. What is
made here (`Repeated`, `Probes`) also comes in bursts: `claim` takes rounds, `slots` gives a
buffer for them.
"""

import os
import stat
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mcastctl.model import probe
from mcastctl.model.errors import McastError, PayloadError

if TYPE_CHECKING:
    from mcastctl.model.columns import ProbeSlots, Slots

LINGER_S = 0.5
"""Seconds to hear replies after the end of standard input, as socat does (its -t)."""
MAX_PAYLOAD = 65507
"""Bytes of the largest UDP payload over IPv4 (65535 - 20 - 8)."""


class Repeated:
    """The same bytes, `count` times (None: without end)."""

    descriptor = -1
    hungry = False
    linger_s = 0.0

    def __init__(self, payload: bytes, targets: int, count: int | None) -> None:
        self._round = [payload] * targets
        self.size = len(payload)
        self.counted = count is not None
        self._count = count
        self.left = count
        self.ended = count == 0

    def fill(self) -> None:
        """Nothing to read."""

    def take(self, now_ns: int) -> list[bytes] | None:
        """Return the bytes once more."""
        self.claim(1)
        return self._round

    @property
    def extent(self) -> tuple[int, int] | None:
        """Rounds taken of those asked for."""
        return _part(self.left, self._count)

    def slots(self, places: list[int], rounds: int) -> "Slots":
        """Return a buffer for rounds to the targets at these places."""
        from mcastctl.model.columns import Slots  # only who sends many

        return Slots(self._round[0], rounds * len(places))

    def claim(self, rounds: int) -> tuple[int, int]:
        """Take up to so many rounds; return a number without meaning and how many they are."""
        if self.left is not None:
            rounds = min(rounds, self.left)
            self.left -= rounds
            self.ended = self.left <= 0
        return 0, rounds


class Probes:
    """Numbered, time-stamped probes of `size` bytes; each target is a stream of its own."""

    descriptor = -1
    hungry = False
    linger_s = 0.0

    def __init__(self, size: int, targets: int, count: int | None, ttl: int) -> None:
        self._streams = [int.from_bytes(os.urandom(8), "big") for _ in range(targets)]
        self.size = size
        self._filling = probe.filling(size - probe.MIN_SIZE)
        self.counted = count is not None
        self._count = count
        self.left = count
        self._ttl = ttl
        self._seq = 0
        self.ended = count == 0

    def fill(self) -> None:
        """Nothing to read."""

    def take(self, now_ns: int) -> list[bytes] | None:
        """Return the next number for each target, stamped `now_ns` (since the epoch)."""
        seq, _ = self.claim(1)
        return [
            probe.encode(probe.Probe(probe.DATA, self._ttl, 0, stream, seq, now_ns)) + self._filling
            for stream in self._streams
        ]

    @property
    def extent(self) -> tuple[int, int] | None:
        """Rounds taken of those asked for."""
        return _part(self.left, self._count)

    def slots(self, places: list[int], rounds: int) -> "ProbeSlots":
        """Return a buffer for rounds to the targets at these places."""
        from mcastctl.model.columns import ProbeSlots

        streams = [self._streams[place] for place in places]
        return ProbeSlots(self.size, self._ttl, streams, rounds)

    def claim(self, rounds: int) -> tuple[int, int]:
        """Take up to so many rounds; return the number of the first and how many they are."""
        first = self._seq
        rounds = min(rounds, probe.COUNTED - first % probe.COUNTED)
        if self.left is not None:
            rounds = min(rounds, self.left)
            self.left -= rounds
            self.ended = self.left <= 0
        self._seq += rounds
        return first, rounds


def read(descriptor: int, most: int) -> bytes:
    """Read what is there; raise PayloadError."""
    try:
        return os.read(descriptor, most)
    except OSError as error:
        raise PayloadError(
            f"cannot read what to send: {(error.strerror or '').lower()}",
            hint="give DATA, --file with a readable file, or another standard input",
        ) from error


class Chunks:
    """A file in datagrams of `size` bytes, or (`whole` False) a read a datagram.

    Regular files are always ready, pipes and terminals when poll(2) says so.
    """

    def __init__(
        self, descriptor: int, size: int, targets: int, count: int | None, *, whole: bool
    ) -> None:
        self.descriptor = descriptor
        self._size = size
        self._targets = targets
        self.counted = count is not None
        self._count = self._left = count
        self._whole = whole
        self._taken = 0
        self._file_size = _file_size(descriptor) if whole else 0
        self.linger_s = 0.0 if whole else LINGER_S
        self._held = b""
        self._at_end = False
        self._ready: bytes | None = None

    @property
    def hungry(self) -> bool:
        """Whether only reading brings more."""
        return self._ready is None and not self._at_end

    @property
    def ended(self) -> bool:
        """Whether everything was taken."""
        return self._left == 0 or (self._at_end and not self._held and self._ready is None)

    @property
    def extent(self) -> tuple[int, int] | None:
        """Rounds taken of those asked for, or bytes of the file, whichever ends first."""
        rounds = _part(self._left, self._count) if self._whole else None
        if not self._file_size:
            return rounds
        whole = (min(self._taken, self._file_size), self._file_size)
        return whole if rounds is None else max(rounds, whole, key=lambda part: part[0] / part[1])

    def fill(self) -> None:
        """Read up to one datagram."""
        if self._ready is not None or self._at_end:
            return
        got = read(self.descriptor, self._size - len(self._held))
        self._at_end = not got
        self._held += got
        if self._held and (len(self._held) == self._size or self._at_end or not self._whole):
            self._ready, self._held = self._held, b""

    def take(self, now_ns: int) -> list[bytes] | None:
        """Return the datagram read last."""
        payload, self._ready = self._ready, None
        self._taken += len(payload or b"")
        if self._left is not None and payload is not None:
            self._left -= 1
        return None if payload is None else [payload] * self._targets


def _file_size(descriptor: int) -> int:
    """Return the size of a regular file, 0 for anything else."""
    status = os.fstat(descriptor)
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _part(left: int | None, count: int | None) -> tuple[int, int] | None:
    return None if left is None or not count else (count - max(left, 0), count)


def open_file(path: str) -> int:
    """Return a descriptor to read `path` from, standard input for '-'."""
    if path == "-":
        return 0
    if not path:
        raise PayloadError("'' names no file", hint="write --file FILE, or --file - for stdin")
    try:
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, 0)  # a directory opens, but refuses this
        return descriptor
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise PayloadError(
            f"cannot read {path}: {cause.lower()}", hint="name a file this user may read"
        ) from error


class Lines:
    """Standard input, a line a datagram, without its line feed; an empty line is an empty one."""

    linger_s = LINGER_S
    extent = None

    def __init__(self, descriptor: int, targets: int, count: int | None) -> None:
        self.descriptor = descriptor
        self._targets = targets
        self.counted = count is not None
        self._left = count
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._at_end = False
        self._count = 0

    @property
    def hungry(self) -> bool:
        """Whether only reading brings more."""
        return not self._lines and not self._at_end

    @property
    def ended(self) -> bool:
        """Whether every line was taken."""
        return self._left == 0 or (self._at_end and not self._lines)

    def fill(self) -> None:
        """Read what is there; raise PayloadError for a line no datagram can carry."""
        if self._lines or self._at_end:
            return
        got = read(self.descriptor, 65536)
        self._at_end = not got
        *lines, self._rest = (self._rest + got).split(b"\n")
        if self._at_end and self._rest:
            lines.append(self._rest)
            self._rest = b""
        self._lines.extend(lines)
        if not lines:
            self._require_fit(self._rest)

    def take(self, now_ns: int) -> list[bytes] | None:
        """Return the next line."""
        if not self._lines:
            return None
        self._require_fit(self._lines[0])
        self._count += 1
        if self._left is not None:
            self._left -= 1
        return [self._lines.popleft()] * self._targets

    def _require_fit(self, line: bytes) -> None:
        if len(line) > MAX_PAYLOAD:
            raise PayloadError(
                f"line {self._count + 1} of standard input is longer than {MAX_PAYLOAD} bytes",
                hint="use --raw-stdin to send it in pieces, or --file - with -s",
            )


class Recorded:
    """Payloads of a recording in its order: (time in ns, payload, whether it is whole) each.

    What a capture cut short cannot be sent again; `cut` counts it.
    """

    descriptor = -1
    hungry = False
    linger_s = 0.0

    def __init__(
        self, recorded: Iterator[tuple[int, bytes, bool]], targets: int, count: int | None
    ) -> None:
        self._recorded = recorded
        self._targets = targets
        self.counted = count is not None
        self._count = self._left = count
        self.cut = 0
        self._damage: McastError | None = None
        self._next = self._following()

    def _following(self) -> tuple[int, bytes] | None:
        try:
            for ts_ns, payload, whole in self._recorded:
                if whole:
                    return ts_ns, payload
                self.cut += 1
        except McastError as error:  # told once everything before it was sent
            self._damage = error
        return None

    @property
    def ended(self) -> bool:
        """Whether everything was taken."""
        return self._left == 0 or (self._next is None and self._damage is None)

    @property
    def extent(self) -> tuple[int, int] | None:
        """Rounds taken of those asked for."""
        return _part(self._left, self._count)

    def due_ns(self) -> int | None:
        """Return the recorded time of the next one, None after the last."""
        return self._next[0] if self._next is not None else None

    def fill(self) -> None:
        """Nothing to wait for."""

    def take(self, now_ns: int) -> list[bytes] | None:
        """Return the next payload; raise what the recording is damaged by after the last."""
        if self._next is None:
            if self._damage is not None:
                raise self._damage
            return None
        _, payload = self._next
        self._next = self._following()
        if self._left is not None:
            self._left -= 1
        return [payload] * self._targets


class Parts:
    """Datagrams made before the run, all of them `count` times (None: once)."""

    descriptor = -1
    hungry = False
    linger_s = 0.0
    counted = True

    def __init__(self, datagrams: list[bytes], targets: int, count: int | None) -> None:
        self._datagrams = datagrams
        self._targets = targets
        self._taken = 0
        self._all = len(datagrams) * (count or 1)
        self.size = len(datagrams[0])

    @property
    def ended(self) -> bool:
        """Whether everything was taken."""
        return self._taken >= self._all

    @property
    def extent(self) -> tuple[int, int] | None:
        """Datagrams taken of all."""
        return self._taken, self._all

    def fill(self) -> None:
        """Nothing to read."""

    def take(self, now_ns: int) -> list[bytes] | None:
        """Return the next one."""
        payload = self._datagrams[self._taken % len(self._datagrams)]
        self._taken += 1
        return [payload] * self._targets


Payloads = Repeated | Probes | Chunks | Lines | Recorded | Parts
"""Anything `Transmission` can send from."""

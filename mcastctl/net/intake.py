"""What a busy receiver hears, hundreds of datagrams in one call: runs where they are alike.

Whether they are is asked of whole columns, halved until the answer is yes; what is left is told
one by one. Both say the same, the runs without a Python object for each datagram.
"""

import _socket as socket
import itertools
import struct
import sys
import time
from array import array
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from mcastctl.decode.stream import HEAD, PLAIN_BYTES, recognise, undecided
from mcastctl.model import probe
from mcastctl.model.address import family
from mcastctl.model.columns import alike, big_endian, counts_up, repeats
from mcastctl.model.mark import PLAIN, PROBE, RTP, Mark
from mcastctl.model.records import Datagram
from mcastctl.model.run import Heard, Run
from mcastctl.net import ancillary
from mcastctl.net.messages import Inbox
from mcastctl.net.platforms import HERE
from mcastctl.net.sockopts import Socket

if TYPE_CHECKING:
    from mcastctl.net.receiver import Subscription

HEADS = 512
"""Datagrams taken at once when their beginnings are enough: more leave the processor's cache."""
WHOLE = 256
"""Datagrams taken at once with all of their payload."""
_LARGE = 4096
_FEW_LARGE = 16
"""After one longer than that only so many at once: their slots take real memory."""
_WHOLE_SIZE = 65536 + 320
"""Slot of a whole payload; no multiple of a page, lest all slots meet in the same cache lines."""
_FEWEST = 16
"""Fewer are quicker told one by one."""
_DETAIL_NS = 250_000_000
_KNOWN = 2048
"""Flows remembered by all together; more than that come only from forged addresses."""
_STAMP_SIZE = 32
_STAMPED = struct.pack("@Nii", _STAMP_SIZE, socket.SOL_SOCKET, HERE.so_timestampns or 0)
"""Size and head of the time stamp's message; it comes first (net/ipv4/udp.c: udp_recvmsg)."""
_NAP_RATE = 20_000
"""Datagrams per second from which on letting some gather beats waking up for each."""
_NAP_S = 0.002
_BOOKKEEPING = 1024
"""Bytes a small datagram takes of a socket buffer beside its payload; more with some drivers,
for which the kernel's doubling of the buffer makes room."""
_MARKERLESS = bytes(byte & 0x7F for byte in range(256))

Flow = tuple[str, str, int, str, int, str, int, int | None, int | None]


@cache
def _inbox(whole: bool) -> Inbox:
    """Return the one buffer of its kind: nothing of a read stays in it."""
    return Inbox(WHOLE, _WHOLE_SIZE) if whole else Inbox(HEADS, HEAD)


@cache
def _flows() -> dict[bytes, Flow | None]:
    """Return the flows of all intakes, under the number of their own."""
    return {}


_numbers = itertools.count()


class Intake:
    """Batches from one socket; `whole` asks for payloads, not only their beginnings.

    Without payloads TTL and traffic class are looked at four times a second only.
    `skipped` counts datagrams that were not meant for the subscription; `undecided` tells that
    there were some of which the beginning does not tell all.
    """

    def __init__(self, sock: Socket, subscription: "Subscription", *, whole: bool) -> None:
        self.skipped = 0
        self.undecided = False
        self.whole = whole
        self._sock = sock
        self._version = family(subscription.group)
        self._subscription = subscription
        self._inbox = _inbox(whole)
        self._room = _FEW_LARGE
        size, control = self._inbox.size, Inbox.CONTROL
        payloads, controls = self._inbox.payloads, self._inbox.controls
        self._bytes = payloads[::size]
        self._second = payloads[1::size]
        self._words = [payloads.cast("H")[place :: size // 2] for place in range(12)]
        self._halves = [payloads.cast("I")[place :: size // 4] for place in range(6)]
        self._longs = [payloads.cast("Q")[place :: size // 8] for place in range(4)]
        self._seconds = controls.cast("q")[2 :: control // 8]
        self._nanoseconds = controls.cast("q")[3 :: control // 8]
        self._flows = _flows()
        self._own = next(_numbers).to_bytes(4)
        self._base_ns = 0
        self._times = array("q")
        self._detail_ns = 0
        self._layouts: dict[int, list[memoryview]] = {}
        self._gathered = 0
        self._full = self._stamped = False
        self._detailed = True
        self._gathered_ns = time.monotonic_ns()

    def rename(self, name: str) -> None:
        """Call the interface by a new name from now on."""
        nic = self._subscription.nic._replace(name=name)
        self._subscription = self._subscription._replace(nic=nic)
        self._flows.clear()

    def read(self, most: int) -> list[Heard]:
        """Return what is there, up to `most` datagrams, in the order of arrival."""
        heard: list[Heard] = []
        most = min(most, WHOLE) if self.whole else most  # what is shown is held several times
        while most > 0:
            asked = min(most, self._room)
            count = self._receive(asked)
            if count:
                self._note_times(count)
                for one in self._split(0, count):
                    last = heard[-1] if heard else None
                    if not (isinstance(one, Run) and isinstance(last, Run) and last.absorb(one)):
                        heard.append(one)
            most -= count
            self._gathered += count
            self._full = count == asked
            if not self._full or (self.undecided and not self.whole):
                break
            large = self.whole and max(self._inbox.lengths[:count]) > _LARGE
            self._room = _FEW_LARGE if large else self._inbox.slots
        return heard

    def _receive(self, most: int) -> int:
        """Receive; with details unless so much comes that they cost more than they tell."""
        now_ns = time.monotonic_ns()
        detailed = self.whole or not self._full or now_ns >= self._detail_ns
        if detailed:
            self._detail_ns = now_ns + _DETAIL_NS
        if detailed != self._detailed:
            self._detailed = detailed
            ancillary.request_details(self._sock, self._version, wanted=detailed)
        try:
            return self._inbox.receive(self._sock.fileno(), most)
        except BlockingIOError:
            return 0

    def nap_s(self, buffer_size: int) -> float:
        """Return how long to let datagrams gather in the buffer before the next `read`.

        A wake-up costs as much as several datagrams. No nap while more may be waiting, at a low
        rate, or for longer than fills a quarter of the buffer.
        """
        if self._full or not self._gathered:
            return 0.0
        now_ns = time.monotonic_ns()
        rate = self._gathered * 1e9 / max(now_ns - self._gathered_ns, 1)
        self._gathered, self._gathered_ns = 0, now_ns
        if rate < _NAP_RATE:
            return 0.0
        taken = rate * (self._inbox.lengths[0] + _BOOKKEEPING)
        return min(_NAP_S, buffer_size / 4 / taken)

    def _note_times(self, count: int) -> None:
        """Read the arrival times."""
        seconds, nanoseconds = self._seconds[:count], self._nanoseconds[:count]
        self._stamped = self._inbox.controls[: len(_STAMPED)] == _STAMPED
        if not self._stamped:  # a kernel that only resembles Linux
            self._base_ns, self._times = time.time_ns(), array("q", bytes(8 * count))
            return
        self._base_ns = seconds[0] * 1_000_000_000
        self._times = array("q", nanoseconds.tobytes())
        if not alike(seconds):
            first = seconds[0]
            pairs = zip(seconds.tolist(), self._times, strict=True)
            self._times = array("q", [(s - first) * 1_000_000_000 + ns for s, ns in pairs])

    def _split(self, low: int, high: int) -> Iterator[Heard]:
        if high - low < _FEWEST:
            yield from self._one_by_one(low, high)
            return
        run = self._run(low, high)
        if run is not None:
            yield run
            return
        middle = (low + high) // 2
        yield from self._split(low, middle)
        yield from self._split(middle, high)

    def _run(self, low: int, high: int) -> Run | None:
        """Return all datagrams from `low` to `high` as one run, None if they differ too much."""
        rows = slice(low, high)
        if not all(alike(column[rows]) for column in self._flow_columns(low)):
            return None
        first = self._datagram(low)
        if first is None:
            return None
        stamps = self._stamps(first.mark, rows)
        if stamps is None:
            return None
        payloads = [self._payload(place) for place in range(low, high)] if self.whole else []
        return Run(first, self._base_ns, self._times[low:high], stamps, payloads)

    def _flow_columns(self, place: int) -> list[memoryview]:
        """Return the columns that are alike in a flow, laid out as at `place`.

        The kernel writes control messages in one order (net/ipv4/udp.c, net/ipv6/datagram.c):
        those of the same total length mean the same.
        """
        length = self._inbox.control_lengths[place]
        known = self._layouts.get(length)
        if known is None:
            names, controls = self._inbox.names.cast("Q"), self._inbox.controls.cast("Q")
            control = self._inbox.controls[place * Inbox.CONTROL :][:length].tobytes()
            width = 4 if self._version == 6 else 1
            known = [
                self._inbox.lengths,
                self._inbox.control_lengths,
                *(names[word :: Inbox.NAME // 8] for word in range(width)),
                *(
                    controls[word :: Inbox.CONTROL // 8]
                    for at, size in ancillary.places(control)[int(self._stamped) :]
                    for word in range(at // 8, (at + size + 7) // 8)
                ),
            ]
            self._layouts[length] = known
        return known

    def _stamps(self, mark: Mark, rows: slice) -> "array[int] | None":
        """Return the stamps of a row of one stream, None if it is not one."""
        if mark.kind == PROBE:
            words, halves, longs = self._words, self._halves, self._longs
            if (
                alike(longs[0][rows])
                and alike(longs[1][rows])
                and alike(halves[probe.SEQ_AT // 4][rows])
                and alike(words[probe.SEQ_AT // 2 + 2][rows])
                and counts_up(words[probe.SEQ_AT // 2 + 3][rows])
            ):
                return big_endian(array("Q", longs[probe.STAMP_AT // 8][rows].tobytes()))
        elif mark.kind == RTP and self._bytes[rows.start] == 0x80:  # nothing that could be invalid
            seconds = self._second[rows].tobytes().translate(_MARKERLESS)
            if (
                alike(self._bytes[rows])
                and repeats(seconds, 1)
                and counts_up(self._words[1][rows])
                and alike(self._halves[2][rows])
            ):
                return big_endian(array("I", self._halves[1][rows].tobytes()))
        elif mark.kind == PLAIN and not self._bytes[rows].tobytes().translate(None, PLAIN_BYTES):
            return array("Q")
        return None

    def _one_by_one(self, low: int, high: int) -> Iterator[Datagram]:
        for place in range(low, high):
            datagram = self._datagram(place)
            if datagram is None:
                self.skipped += 1
            else:
                yield datagram

    def _datagram(self, place: int) -> Datagram | None:
        """Return one datagram, None if it was not meant for the subscription."""
        length = self._inbox.control_lengths[place]
        name = self._inbox.names[place * Inbox.NAME :][: Inbox.NAME].tobytes()
        start = _STAMP_SIZE if self._stamped else 0
        untimed = self._inbox.controls[place * Inbox.CONTROL :][start:length].tobytes()
        key = self._own + name + untimed
        try:
            flow = self._flows[key]
        except KeyError:
            if len(self._flows) >= _KNOWN:
                self._flows.clear()
            flow = self._flows[key] = self._flow(name, untimed)
            self._detail_ns = 0  # what is new is looked at with all details
        if flow is None:
            return None
        length = self._inbox.lengths[place]
        payload = self._payload(place)
        mark = recognise(payload, length)
        self.undecided = self.undecided or undecided(payload, mark)
        return Datagram(self._base_ns + self._times[place], *flow, length, payload, mark)

    def _payload(self, place: int) -> bytes:
        at, size = place * self._inbox.size, self._inbox.size
        return self._inbox.payloads[at : at + min(self._inbox.lengths[place], size)].tobytes()

    def _flow(self, name: bytes, control: bytes) -> Flow | None:
        """Return what datagrams with these have in common, in the order of `Datagram`."""
        group, port, (iface, index), *_ = self._subscription
        arrival = ancillary.parse(ancillary.split(control))
        if arrival.dst not in (group, None) or arrival.ifindex not in (index, 0):
            return None
        if int.from_bytes(name[:2], sys.byteorder) == HERE.af_inet6:
            source = socket.inet_ntop(socket.AF_INET6, name[8:24])
        else:
            source = socket.inet_ntoa(name[4:8])
        dscp = arrival.tos >> 2 if arrival.tos is not None else None
        sport = int.from_bytes(name[2:4], "big")
        where = arrival.dst or group
        return "rx", iface, index, source, sport, where, port, arrival.ttl, dscp

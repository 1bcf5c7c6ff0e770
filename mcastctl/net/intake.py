"""What a busy receiver hears, hundreds of datagrams in one call: runs where they are alike.

Whether they are is asked of whole columns, halved until the answer is yes; what is left is told
one by one. Both say the same, the runs without a Python object for each datagram.
"""

import _socket as socket
import select
import struct
import sys
import time
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from mcastctl.decode.rows import ENOUGH, Rows
from mcastctl.decode.stream import HEAD, recognise, undecided
from mcastctl.model.address import family
from mcastctl.model.columns import alike
from mcastctl.model.records import Datagram
from mcastctl.model.run import Heard, Run, without_last
from mcastctl.net import ancillary, sockopts
from mcastctl.net.flows import Flow, Flows
from mcastctl.net.messages import Inbox
from mcastctl.net.platforms import HERE
from mcastctl.net.sockopts import Socket

if TYPE_CHECKING:
    from mcastctl.net.receiver import Subscription

HEADS = 1024
"""Datagrams taken at once when their beginnings are enough: more leave the processor's cache."""
_DETAILED = 64
"""So many of them when each brings all that the kernel can tell, as the first ones do."""
_WIDER = 4
"""How many times more come with the next call while there are more: among them may be the first
of a stream whose beginnings are not enough."""
_CALM = 8
"""Calls without a new flow after which none is expected."""
WHOLE = 256
"""Datagrams taken at once with all of their payload."""
_FEW, _WHOLE_BYTES = 4, 131_072
"""So many of them at first and at the least, and then no more than such payload: each slot takes
real memory as far as it was filled once, and what is shown of it several times that."""
_LOOSE = 256
"""Pieces after which what was heard is handed on: told one by one, datagrams take memory too."""
_WHOLE_SIZE = 65536 + 320
"""Slot of a whole payload; no multiple of a page, lest all slots meet in the same cache lines."""
_FEWEST = 16
"""Fewer are quicker told one by one."""
_DETAIL_NS = 1_000_000_000
_STAMP_SIZE = 32
_STAMPED = struct.pack("@Nii", _STAMP_SIZE, socket.SOL_SOCKET, HERE.so_timestampns or 0)
"""Size and head of the time stamp's message; it comes first (net/ipv4/udp.c: udp_recvmsg)."""
_NAP_RATE = 20_000
"""Datagrams per second from which on letting some gather beats waking up for each."""
_NAP_S = 0.004
_PAUSE_NS = 50_000_000
"""After so long without a look the burst just read says nothing of the rate to come."""
_BOOKKEEPING = 1024
"""Bytes a small datagram takes of a socket buffer beside its payload; more with some drivers,
for which the kernel's doubling of the buffer makes room."""
_SEGMENTS = 128
"""Datagrams of a super-packet at the most (UDP_MAX_SEGMENTS of <linux/udp.h>)."""
_LOOKED_AT, _AT_ONCE = 64, 16
"""So many arrivals are looked at, and at so few different times they came if the kernel has cut
super-packets: those datagrams share one time stamp."""
_TRIAL = 4096
"""Datagrams without a super-packet among them after which none are expected any more."""

_inboxes: "WeakValueDictionary[bool, Inbox]" = WeakValueDictionary()


def _inbox(whole: bool) -> Inbox:
    """Return the one buffer of its kind, which nothing of a read stays in, while anybody has it."""
    found = _inboxes.get(whole)
    if found is None:
        found = Inbox(WHOLE, _WHOLE_SIZE) if whole else Inbox(HEADS, HEAD)
        _inboxes[whole] = found
    return found


class Intake:
    """Batches from one socket; `whole` asks for payloads, not only their beginnings.

    Payloads are received in full until nothing new comes: what appears later is known by its
    beginning first. Without them TTL and traffic class are looked at once a second where much
    comes; interface and destination too where the kernel lets nothing else in (`sole`).
    `skipped` counts datagrams that were not meant for the subscription; `undecided` tells that
    there were some of which the beginning does not tell all; `supers` that super-packets, which
    another namespace or a network card hands over uncut, are taken so: all of their datagrams
    have one arrival time, as they have when the kernel cuts them.
    """

    def __init__(
        self, sock: Socket, subscription: "Subscription", *, whole: bool, sole: bool = False
    ) -> None:
        self.skipped = 0
        self.undecided = False
        self.whole = whole
        self._sock = sock
        self._sole = sole
        self._version = family(subscription.group)
        self._flows = Flows(subscription)
        self._calm = 0
        self._take(True)  # until it is known what comes
        self._base_ns = 0
        self._times = array("q")
        self._detail_ns = self._looked_ns = 0
        self._gathered = 0
        self._full = self._busy = self._stamped = False
        self._detailed = True
        self._gathered_ns = time.monotonic_ns()
        self.supers = self._tried = False
        self._trial: int | None = None  # datagrams left of it

    def _take(self, whole: bool) -> None:
        """Make ready to take whole payloads or only beginnings from now on."""
        self._inbox = _inbox(whole)
        self._roomy = whole
        self._room = _FEW if whole else _DETAILED
        self._rows = Rows(self._inbox.payloads)
        self._layouts: dict[int, list[memoryview]] = {}
        self._segment_places: dict[int, int | None] = {}
        control = Inbox.CONTROL // 8
        self._seconds = self._inbox.controls.cast("q")[2::control]
        self._nanoseconds = self._inbox.controls.cast("q")[3::control]

    def take_whole(self) -> None:
        """Hand on whole payloads from now on."""
        self.whole = True
        self._take(True)

    def rename(self, name: str) -> None:
        """Call the interface by a new name from now on."""
        self._flows.rename(name)

    def read(self, most: int) -> list[Heard]:
        """Return what is there, up to `most` datagrams, in the order of arrival."""
        heard: list[Heard] = []
        before = self._gathered
        most = min(most, WHOLE) if self.whole else most  # what is shown is held several times
        while most > 0:
            self._choose_details()
            asked = min(most, self._room)
            self._calm += 1
            if self.supers:
                asked = min(_FEW, max(most // _SEGMENTS, 1))
            count = self._receive(asked)
            skipped = self.skipped
            if count:
                self._note_times(count)
                for one in self._pieces(count):
                    most -= one.number if isinstance(one, Run) else 1
                    last = heard[-1] if heard else None
                    if not (isinstance(one, Run) and isinstance(last, Run) and last.absorb(one)):
                        heard.append(one)
            most -= self.skipped - skipped
            self._heed_news()
            self._gathered += count
            self._full = count == asked
            if self._trial is not None:
                self._trial -= count
                if self._trial < 0 and not self._full:
                    self._end_trial()
            if not self._full or len(heard) >= _LOOSE or (self.undecided and not self.whole):
                break
            if self.supers and most < _SEGMENTS:
                break  # one more may hold more than that; only who asks for few gets a part
            self._widen(count)
            self._look_for_supers(count)
        self._busy = self._gathered - before >= _DETAILED
        return without_last(heard, -most) if most < 0 else heard

    def _choose_details(self) -> None:
        """Ask for details unless so much comes that they cost more than they tell."""
        now_ns = time.monotonic_ns()
        much = self._full or (self._busy and now_ns - self._looked_ns < _PAUSE_NS)
        self._looked_ns = now_ns
        detailed = self.whole or not much or now_ns >= self._detail_ns
        if detailed:
            self._detail_ns = now_ns + _DETAIL_NS
            self._room = self._room if self._roomy else _DETAILED
        if detailed != self._detailed:
            self._detailed = detailed
            ancillary.request_details(self._sock, self._version, wanted=detailed, where=self._sole)

    def _heed_news(self) -> None:
        """Look at what is new with all details, and take only beginnings once nothing is."""
        if self._flows.news:
            self._flows.news = False
            self._calm = self._detail_ns = 0
        elif self._roomy and self._calm >= _CALM and not (self.whole or self.supers):
            self._take(False)

    def _widen(self, count: int) -> None:
        """Take more in the next call, but not before what this one brought was looked at."""
        if not self._roomy:
            self._room = min(_WIDER * self._room, HEADS) if self._calm < _CALM else HEADS
        else:
            longest = max(self._inbox.lengths[:count])
            self._room = min(max(_WHOLE_BYTES // max(longest, 1), _FEW), WHOLE)

    def _look_for_supers(self, count: int) -> None:
        """Ask for super-packets where the kernel seems to cut them, once.

        To cut them and queue each datagram costs it several times what taking them whole does.
        """
        if self._tried or not self._stamped or count < _LOOKED_AT:
            return
        if len(set(self._times[:_LOOKED_AT])) <= _AT_ONCE:
            self._tried = True
            self.supers = sockopts.set_whole_segments(self._sock, wanted=True)
            if self.supers:
                self._trial = _TRIAL
                self._take(True)

    def _end_trial(self) -> None:
        """Take datagrams as before: no super-packet came, and nothing waits that could be one.

        What was queued until it is off may be one, and its segment size is told to those only who
        ask for it when they read: where anything waits by then, it stays on until the next time.
        """
        sockopts.set_whole_segments(self._sock, wanted=False)
        if self._waiting():
            sockopts.set_whole_segments(self._sock, wanted=True)
            return
        self._trial = None
        self.supers = False
        self._take(self.whole)

    def _waiting(self) -> bool:
        """Tell whether a datagram could be read now."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def _receive(self, most: int) -> int:
        try:
            return self._inbox.receive(self._sock.fileno(), most)
        except BlockingIOError:
            return 0

    def nap_s(self, buffer_size: int) -> float:
        """Return how long to let datagrams gather in the buffer before the next `read`.

        A wake-up costs as much as several datagrams. No nap while more may be waiting, at a low
        rate, after a pause, or for longer than fills a quarter of the buffer.
        """
        if self._full or not self._gathered:
            return 0.0
        now_ns = time.monotonic_ns()
        elapsed_ns = max(now_ns - self._gathered_ns, 1)
        rate = self._gathered * 1e9 / elapsed_ns
        self._gathered, self._gathered_ns = 0, now_ns
        if rate < _NAP_RATE or elapsed_ns > _PAUSE_NS:
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
        size = self._inbox.size
        stamps = self._rows.stamps(first.mark, low * size, size, high - low)
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

    def _pieces(self, count: int) -> Iterator[Heard]:
        """Yield what the first `count` slots hold."""
        low = 0
        for place in range(count) if self.supers else ():
            size = self._segment_size(place)
            if size:
                self._trial = None
                yield from self._split(low, place)
                yield from self._cut(place, size)
                low = place + 1
        yield from self._split(low, count)

    def _segment_size(self, place: int) -> int:
        """Return the size of the datagrams in a super-packet, 0 for a datagram."""
        length = self._inbox.control_lengths[place]
        if length not in self._segment_places:
            control = self._inbox.controls[place * Inbox.CONTROL :][:length].tobytes()
            self._segment_places[length] = ancillary.segment_place(control)
        at = self._segment_places[length]
        if at is None:
            return 0
        at += place * Inbox.CONTROL
        return int.from_bytes(self._inbox.controls[at : at + 4], sys.byteorder)

    def _cut(self, place: int, size: int) -> Iterator[Heard]:
        """Yield the datagrams of a super-packet: alike as one run but for a shorter last one."""
        flow, length = self._flow_at(place), self._inbox.lengths[place]
        if flow is None:
            self.skipped += -(-length // size)
            return
        whole = length // size
        run = self._cut_alike(flow, place, size, whole) if whole >= _FEWEST else None
        if run is not None:
            yield run
            if whole * size == length:
                return
        begin, at_ns = place * self._inbox.size, self._times[place]
        for low in range(whole * size if run else 0, length, size):
            end = min(low + size, length)
            payload = self._inbox.payloads[begin + low : begin + end].tobytes()
            yield self._record(flow, at_ns, end - low, payload)

    def _cut_alike(self, flow: Flow, place: int, size: int, number: int) -> Run | None:
        """Return the datagrams of a super-packet that have its full size, None unless alike."""
        payloads, begin, at_ns = self._inbox.payloads, place * self._inbox.size, self._times[place]
        first = self._record(flow, at_ns, size, payloads[begin : begin + size].tobytes())
        starts = range(begin, begin + number * size, size)
        if size % 8:  # its columns are no columns of the buffer
            heads = bytearray(b"".join([payloads[at : at + ENOUGH] for at in starts]))
            stamps = Rows(memoryview(heads)).stamps(first.mark, 0, ENOUGH, number)
        else:
            stamps = self._rows.stamps(first.mark, begin, size, number)
        if stamps is None:
            return None
        shown = [payloads[at : at + size].tobytes() for at in starts] if self.whole else []
        return Run(first, self._base_ns, array("q", (at_ns,)) * number, stamps, shown)

    def _one_by_one(self, low: int, high: int) -> Iterator[Datagram]:
        for place in range(low, high):
            datagram = self._datagram(place)
            if datagram is None:
                self.skipped += 1
            else:
                yield datagram

    def _datagram(self, place: int) -> Datagram | None:
        """Return one datagram, None if it was not meant for the subscription."""
        flow = self._flow_at(place)
        if flow is None:
            return None
        length, payload = self._inbox.lengths[place], self._payload(place)
        return self._record(flow, self._times[place], length, payload)

    def _record(self, flow: Flow, time_ns: int, length: int, payload: bytes) -> Datagram:
        mark = recognise(payload, length)
        if not self._detailed:
            self._flows.note(flow, mark)
        self.undecided = self.undecided or undecided(payload, mark)
        kept = payload if self.whole else payload[:HEAD]
        return Datagram(self._base_ns + time_ns, *flow, length, kept, mark)

    def _flow_at(self, place: int) -> Flow | None:
        """Return the flow of one slot, None if it was not meant for the subscription."""
        length = self._inbox.control_lengths[place]
        name = self._inbox.names[place * Inbox.NAME :][: Inbox.NAME].tobytes()
        start = _STAMP_SIZE if self._stamped else 0
        untimed = self._inbox.controls[place * Inbox.CONTROL :][start:length].tobytes()
        return self._flows.find(name, untimed)

    def _payload(self, place: int) -> bytes:
        at, size = place * self._inbox.size, self._inbox.size
        return self._inbox.payloads[at : at + min(self._inbox.lengths[place], size)].tobytes()

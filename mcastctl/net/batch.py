"""What one call of recvmmsg brought, cut into runs where datagrams are alike.

Whether they are is asked of whole columns, halved until the answer is yes; what is left is told
one by one. Both say the same, the runs without a Python object for each datagram.
"""

import _socket as socket
import struct
import sys
import time
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mcastctl.decode.rows import ENOUGH, Rows
from mcastctl.decode.stream import HEAD, recognise, undecided
from mcastctl.model.address import family
from mcastctl.model.columns import alike
from mcastctl.model.records import Datagram
from mcastctl.model.run import Heard, Run
from mcastctl.net import ancillary
from mcastctl.net.flows import Flow, Flows
from mcastctl.net.messages import Inbox
from mcastctl.net.platforms import HERE

if TYPE_CHECKING:
    from mcastctl.net.receiver import Subscription

_FEWEST = 16
"""Fewer are quicker told one by one."""
_STAMP_SIZE = 32
_STAMPED = struct.pack("@Nii", _STAMP_SIZE, socket.SOL_SOCKET, HERE.so_timestampns or 0)
"""Size and head of the time stamp's message; it comes first (net/ipv4/udp.c: udp_recvmsg)."""


class Batch:
    """The slots of an inbox as one call filled them, for one subscription.

    `take` an inbox, then after each call `note_times` and `pieces`. `whole` asks for payloads, not
    only their beginnings; `times` are those of arrival, in ns after that of the first's second.
    `skipped` counts datagrams that were not meant for the subscription; `undecided` tells that
    there were some of which the beginning does not tell all, `cut` that there was a super-packet,
    `flows.news` that there was one not met lately; who reads them clears the last two. `detailed`
    is to be told: whether each brought all that the kernel can tell.
    """

    def __init__(self, subscription: "Subscription", *, whole: bool) -> None:
        self.whole = whole
        self.skipped = 0
        self.detailed = True
        self.undecided = self.cut = self.stamped = False
        self.flows = Flows(subscription)
        self.times = array("q")
        self._base_ns = 0
        self._version = family(subscription.group)

    def take(self, inbox: Inbox) -> None:
        """Read what is in this inbox from now on."""
        self._inbox = inbox
        self._rows = Rows(inbox.payloads)
        self._layouts: dict[int, list[memoryview]] = {}
        self._segment_places: dict[int, int | None] = {}
        control = Inbox.CONTROL // 8
        self._seconds = inbox.controls.cast("q")[2::control]
        self._nanoseconds = inbox.controls.cast("q")[3::control]

    def note_times(self, count: int) -> None:
        """Read the arrival times."""
        seconds, nanoseconds = self._seconds[:count], self._nanoseconds[:count]
        self.stamped = self._inbox.controls[: len(_STAMPED)] == _STAMPED
        if not self.stamped:  # a kernel that only resembles Linux
            self._base_ns, self.times = time.time_ns(), array("q", bytes(8 * count))
            return
        self._base_ns = seconds[0] * 1_000_000_000
        self.times = array("q", nanoseconds.tobytes())
        if not alike(seconds):
            first = seconds[0]
            pairs = zip(seconds.tolist(), self.times, strict=True)
            self.times = array("q", [(s - first) * 1_000_000_000 + ns for s, ns in pairs])

    def pieces(self, count: int, *, supers: bool) -> Iterator[Heard]:
        """Yield what the first `count` slots hold, super-packets too if there may be `supers`."""
        low = 0
        for place in range(count) if supers else ():
            size = self._segment_size(place)
            if size:
                self.cut = True
                yield from self._split(low, place)
                yield from self._cut(place, size)
                low = place + 1
        yield from self._split(low, count)

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
        return Run(first, self._base_ns, self.times[low:high], stamps, payloads)

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
                    for at, size in ancillary.places(control)[int(self.stamped) :]
                    for word in range(at // 8, (at + size + 7) // 8)
                ),
            ]
            self._layouts[length] = known
        return known

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
        begin, at_ns = place * self._inbox.size, self.times[place]
        for low in range(whole * size if run else 0, length, size):
            end = min(low + size, length)
            payload = self._inbox.payloads[begin + low : begin + end].tobytes()
            yield self._record(flow, at_ns, end - low, payload)

    def _cut_alike(self, flow: Flow, place: int, size: int, number: int) -> Run | None:
        """Return the datagrams of a super-packet that have its full size, None unless alike."""
        payloads, begin, at_ns = self._inbox.payloads, place * self._inbox.size, self.times[place]
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
        return self._record(flow, self.times[place], length, payload)

    def _record(self, flow: Flow, time_ns: int, length: int, payload: bytes) -> Datagram:
        mark = recognise(payload, length)
        self.flows.note(flow, mark, known=self.detailed)
        self.undecided = self.undecided or undecided(payload, mark)
        kept = payload if self.whole else payload[:HEAD]
        return Datagram(self._base_ns + time_ns, *flow, length, kept, mark)

    def _flow_at(self, place: int) -> Flow | None:
        """Return the flow of one slot, None if it was not meant for the subscription."""
        length = self._inbox.control_lengths[place]
        name = self._inbox.names[place * Inbox.NAME :][: Inbox.NAME].tobytes()
        start = _STAMP_SIZE if self.stamped else 0
        untimed = self._inbox.controls[place * Inbox.CONTROL :][start:length].tobytes()
        return self.flows.find(name, untimed)

    def _payload(self, place: int) -> bytes:
        at, size = place * self._inbox.size, self._inbox.size
        return self._inbox.payloads[at : at + min(self._inbox.lengths[place], size)].tobytes()

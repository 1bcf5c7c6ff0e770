"""Drops on one interface, for kernels that do not describe their types: two tracepoints joined.

kfree_skb tells reason, function and the address of the packet's buffer, not what was in it. The
same address a moment earlier in netif_receive_skb (net/core/dev.c) tells interface and length. So
these drops are of IPv4 or IPv6 packets that came in by an interface of that name, in whatever
network namespace; that they were the group's is likely when their length fits, never sure. Unlike
the filter in the kernel this costs the observer some 5 microseconds for each drop of the machine.
"""

import socket
import sys
from collections.abc import Collection
from contextlib import ExitStack
from typing import NamedTuple

from mcastctl.host import perf, tracefs
from mcastctl.host.dropfilter import Key

# From its arrival to a decision that a packet cannot be used: microseconds, unless the CPU was
# taken away. Later the kernel may have used the buffer again for another packet.
_JOURNEY = 50_000_000  # ns
_PENDING = 1 << 16  # buffers remembered at most


class Seen(NamedTuple):
    """What is counted apart: address in the kernel, number of the reason, length in bytes.

    The length is that of the packet from its IP header on, with padding of short frames.
    """

    location: int
    reason: int
    length: int


class Joined:
    """Counts since it was opened; `reasons` names their numbers, `lengths` narrows them."""

    def __init__(self, version: int, ifname: str, stack: ExitStack) -> None:
        """Start counting until the stack closes; raises OSError, and ValueError for odd formats."""
        with tracefs.tracefs() as root:
            self._drop = tracefs.event(root, "skb/kfree_skb")
            self._arrival = tracefs.event(root, "net/netif_receive_skb")
        for event, fields in (
            (self._drop, ("skbaddr", "location", "protocol")),
            (self._arrival, ("skbaddr", "len", "name")),
        ):
            if not event.fields.keys() >= set(fields):
                raise ValueError("the kernel's packet events lack a field")
        self.reasons = self._drop.symbols
        self.counts: dict[Seen, int] = {}
        self.lengths: Collection[int] | None = None
        self._ifindex = _index(ifname)
        self._ifname = ifname.encode("utf-8", "surrogateescape")
        self._pending: dict[int, tuple[int, int]] = {}  # buffer: time, length
        named = "" if set(ifname) & set('"\\') else f'name == "{ifname}"'
        protocol = 0x0800 if version == 4 else 0x86DD
        points = (
            perf.Tracepoint(self._arrival.number, named),
            perf.Tracepoint(self._drop.number, f"protocol == {protocol}"),
        )
        self._events = perf.Events(points, stack)

    @property
    def lost(self) -> int:
        """How many events were not seen for want of room."""
        return self._events.lost

    def read(self) -> dict[Key, int]:
        """Return the counts of packets of these lengths (None: of any); bounded."""
        self._take_in()
        counts: dict[Key, int] = {}
        for seen, count in self.counts.items():
            if self.lengths is None or seen.length in self.lengths:
                key = Key(seen.location, seen.reason, self._ifindex, 0)
                counts[key] = counts.get(key, 0) + count
        return counts

    def _take_in(self) -> None:
        for record in self._events.read():
            number = int.from_bytes(record.data[:2], sys.byteorder)
            if number == self._arrival.number:
                self._arrived(record)
            elif number == self._drop.number:
                self._dropped(record)

    def _arrived(self, record: perf.Record) -> None:
        where = _field(self._arrival, record.data, "name")  # __data_loc: length << 16 | offset
        name = record.data[where & 0xFFFF :][: where >> 16].partition(b"\0")[0]
        if name != self._ifname:
            return
        if len(self._pending) >= _PENDING:
            self._pending.clear()
        buffer = _field(self._arrival, record.data, "skbaddr")
        self._pending[buffer] = record.time, _field(self._arrival, record.data, "len")

    def _dropped(self, record: perf.Record) -> None:
        arrived = self._pending.pop(_field(self._drop, record.data, "skbaddr"), None)
        if arrived is None or record.time - arrived[0] > _JOURNEY:
            return
        location = _field(self._drop, record.data, "location")
        reason = _field(self._drop, record.data, "reason")
        seen = Seen(location, reason, arrived[1])
        self.counts[seen] = self.counts.get(seen, 0) + 1


def _index(ifname: str) -> int:
    try:
        return socket.if_nametoindex(ifname)
    except (OSError, ValueError, UnicodeError):
        return 0  # of another namespace


def _field(event: tracefs.Event, data: bytes, name: str) -> int:
    """Return a field as a number; 0 when the kernel's event has none of that name."""
    offset, size = event.fields.get(name, (0, 0))
    return int.from_bytes(data[offset : offset + size], sys.byteorder)

"""Bursts to the kernel by the fastest way it and the device allow.

Three rungs: UDP segmentation offload (one payload that the kernel or the device cuts into
datagrams, udp(7)), sendmmsg(2), and one call for each. A rung that the kernel or the device
refuses is left for good, and the same datagrams go by the next.
"""

import errno
from typing import Protocol

from mcastctl.model.address import is_multicast
from mcastctl.model.columns import ProbeSlots, Slots
from mcastctl.net import sockopts
from mcastctl.net.platforms import HERE
from mcastctl.net.sender import Sender, Target
from mcastctl.net.sockopts import SockAddr

MOST_SEGMENTS = (128, 64)
"""UDP_MAX_SEGMENTS of <linux/udp.h>, since Linux 6.9 and before."""
_MOVED = {errno.ENETUNREACH, errno.EINVAL, errno.EADDRNOTAVAIL}
"""Errors of a connected socket whose source address is gone."""
_MOST_BYTES = 65507 - 40  # of one call over IPv4, with room for IP options


class Rung(Protocol):
    """One way to hand over slots: `most` are taken or refused as one, `unfit` are the errors
    that speak against the way and not against the datagrams."""

    most: int
    unfit: frozenset[int]

    def send(self, first: int, count: int) -> int:
        """Return how many slots from `first` on were taken; OSError is about the first."""

    def leave(self) -> None:
        """Undo what the way has set on the socket."""


def together(size: int, most: int = MOST_SEGMENTS[0]) -> int:
    """Return how many datagrams of `size` bytes one payload may hold that is cut further down."""
    return min(most, _MOST_BYTES // max(size, 1))


class Segmented:
    """Up to `most` datagrams to one target as one payload that is cut further down.

    Several such payloads go in one call where all of them are full.
    """

    unfit = frozenset((errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP))

    def __init__(
        self, sender: Sender, names: list[SockAddr], slots: Slots | ProbeSlots, most: int
    ) -> None:
        from mcastctl.net.messages import Outbox  # ctypes: only who sends many pays for it

        self._sender, self._name = sender, names[0] if names else None
        self._view = memoryview(slots.buffer)
        self._size, self._stride = slots.size, slots.stride
        self.most = together(slots.size, most)
        packed = [sockopts.pack_name(name) for name in names]
        # Whole payloads only: the rest goes in parts.
        self._outbox = (
            Outbox(slots.buffer, slots.size, slots.stride, packed, self.most)
            if slots.slots >= self.most
            else None
        )
        sender.set_segment(slots.size)

    def send(self, first: int, count: int) -> int:
        """Hand over slots as payloads of up to `most`, each taken or refused as one."""
        number, early = divmod(first, self.most)
        if self._outbox is not None and not early and count >= self.most:
            sent = self._outbox.send(self._sender.fileno(), number, count // self.most)
            return sent * self.most
        count = min(count, self.most - early)
        at, size, stride = first * self._stride, self._size, self._stride
        if size == stride:
            self._sender.hand_over([self._view[at : at + count * stride]], self._name)
        else:
            starts = range(at, at + count * stride, stride)
            self._sender.hand_over([self._view[one : one + size] for one in starts], self._name)
        return count

    def leave(self) -> None:
        """Send whole datagrams again."""
        self._sender.set_segment(0)


class Batched:
    """Many datagrams in one call, each with its own destination."""

    most = 1
    unfit = frozenset[int]()

    def __init__(self, sender: Sender, names: list[SockAddr], slots: Slots | ProbeSlots) -> None:
        from mcastctl.net.messages import Outbox  # ctypes: only who sends many pays for it

        packed = [sockopts.pack_name(name) for name in names]
        self._descriptor = sender.fileno()
        self._outbox = Outbox(slots.buffer, slots.size, slots.stride, packed)

    def send(self, first: int, count: int) -> int:
        """Hand over slots in one call."""
        return self._outbox.send(self._descriptor, first, count)

    def leave(self) -> None:
        """Nothing was set."""


class Single:
    """One call for each datagram: what every system has."""

    most = 1
    unfit = frozenset[int]()

    def __init__(self, sender: Sender, names: list[SockAddr], slots: Slots | ProbeSlots) -> None:
        self._sender = sender
        self._names: list[SockAddr | None] = [*names] or [None]
        self._view = memoryview(slots.buffer)
        self._size, self._stride = slots.size, slots.stride

    def send(self, first: int, count: int) -> int:
        """Hand over one slot."""
        at = first * self._stride
        name = self._names[first % len(self._names)]
        self._sender.hand_over([self._view[at : at + self._size]], name)
        return 1

    def leave(self) -> None:
        """Nothing was set."""


class Ladder:
    """The ways left for one sender, best first. `largest` is the most datagrams of one call.

    Rungs get the names to send to in turn, none when their socket is connected.
    """

    def __init__(
        self, sender: Sender, targets: list[Target], slots: Slots | ProbeSlots, *, segment: bool
    ) -> None:
        self.sender = sender
        self.targets = targets
        self.slots = slots
        self.largest = 0
        alone = len(targets) == 1 and is_multicast(targets[0].host)
        connected = sender.connect(targets[0]) if alone else None
        self._way = connected or sender
        self._names = [] if connected else [sender.sockaddr(target) for target in targets]
        cut = segment and HERE.udp_segment is not None and len(targets) == 1
        cut = cut and 0 < slots.size <= _MOST_BYTES // 2  # one segment a call gains nothing
        out = targets[0].nic
        if cut and out is not None:
            from mcastctl.net import qdisc  # only who sends many

            cut = not qdisc.by_datagram(out.ifindex)
        self._left = list(MOST_SEGMENTS) if cut else []
        self._rung = self._next()

    def _next(self) -> Rung:
        while self._left:
            try:
                return Segmented(self._way, self._names, self.slots, self._left.pop(0))
            except OSError:
                self._left.clear()  # a kernel before 4.18
        if HERE.mmsghdr is not None:
            return Batched(self._way, self._names, self.slots)
        return Single(self._way, self._names, self.slots)

    def _disconnect(self) -> None:
        """Let the kernel choose route and source address anew for each datagram."""
        self._rung.leave()
        self._way = self.sender
        self._names = [self.sender.sockaddr(target) for target in self.targets]
        self._rung = self._next()

    def fileno(self) -> int:
        """Return the descriptor that must be writable."""
        return self._way.fileno()

    def send(self, first: int, count: int) -> tuple[int, int]:
        """Hand over slots from `first` on; return how many are done with, and the errno if refused.

        BlockingIOError means that the socket buffer is full: wait until writable, try again.
        """
        while True:
            try:
                taken = self._rung.send(first, count)
            except BlockingIOError:
                raise
            except OSError as error:
                if self._way.drain_errors():
                    continue  # it was about an earlier datagram
                number = error.errno or 0
                if self.sender.follow(number):
                    self._disconnect()
                    continue
                if number in _MOVED and self._way is not self.sender:
                    self._disconnect()
                    continue
                if number not in self._rung.unfit:
                    refused = min(count, self._rung.most)
                    self.sender.note_refused(refused, number)
                    return refused, number
                self._rung.leave()
                self._rung = self._next()
                continue
            if taken < count and isinstance(self._rung, Batched) and self._way.writable():
                # One was refused in the middle of the call. It will be tried again, and members on
                # this host may have heard it already: from now on each refusal is seen at once.
                self._rung = Single(self._way, self._names, self.slots)
            self.largest = max(self.largest, taken)
            self.sender.note_sent(taken, self.slots.size)
            return taken, 0

"""Hearing for programs: receptions, joined and left at will, and their owner, who is fair."""

import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from mcastctl.model.address import family
from mcastctl.model.configuration import ReceptionConfig
from mcastctl.model.counters import ReceiveCounters, Snapshot, total
from mcastctl.model.errors import SocketError
from mcastctl.model.records import Datagram
from mcastctl.net import handed, nic, sockopts
from mcastctl.net.context import Closing, Context
from mcastctl.net.nic import Nic
from mcastctl.net.receiver import Receiver, Subscription
from mcastctl.net.sockopts import DEFAULT_BUFFER, Socket

_MOST_WAITING = 65_536
"""Datagrams thrown away at the most when a group is left; a socket may hear unicast on."""


class Reception(Closing):
    """One group on one port and interface; hears nothing before `join`.

    `config` may be an endpoint, '[SRC[,SRC...]@]GROUP[%IFACE]:PORT'. `sock` is a UDP socket to
    use: it must be of the group's family, and unbound, or bound to the port and to the group or
    no address; it is made non-blocking and configured, and is the caller's again if that fails.
    Raises AddressError, InterfaceError, ValueRangeError or SocketError.

    An interface that is deleted takes the reception with it: make a new one.
    """

    def __init__(self, config: ReceptionConfig | str, sock: Socket | None = None) -> None:
        if isinstance(config, str):
            config = ReceptionConfig.parse(config)
        self.config = config = config.checked()
        if sock is not None:
            hosts = (config.group, "0.0.0.0", "::")  # noqa: S104
            handed.ready(sock, family(config.group), hosts, config.port)
        self.interface: Nic = nic.meant(config.group, config.interface)
        wanted = Subscription(
            config.group, config.port, self.interface, config.sources, config.exclude
        )
        size = config.buffer_size or DEFAULT_BUFFER
        self._receiver = Receiver(wanted, size, joined=False, sock=sock)
        self.joined = False
        self._open = True
        self._joins = self._leaves = self._datagrams = self._bytes = self._drops = 0

    def __str__(self) -> str:
        where = f"[{self.config.group}]" if ":" in self.config.group else self.config.group
        return f"{where}:{self.config.port} on {self.interface.name}"

    @property
    def closed(self) -> bool:
        """Whether it was closed or gave its socket away."""
        return not self._open

    def _must_be_open(self) -> None:
        if not self._open:
            raise SocketError(f"the reception of {self} is closed", hint="add a new one")

    def fileno(self) -> int:
        """Return the descriptor, for an event loop; it stays the same through joins and leaves."""
        return self._receiver.fileno()

    def join(self) -> None:
        """Join the group with its filter; what is joined stays so. Raises SocketError."""
        self._must_be_open()
        if self.joined:
            return
        try:
            self._receiver.join()
        except SocketError:
            with suppress(SocketError):  # the first of several sources was joined, perhaps
                self._receiver.leave()
            raise
        self.joined = True
        self._joins += 1

    def leave(self) -> None:
        """Leave the group; what was heard and not taken yet is thrown away. Raises SocketError."""
        self._must_be_open()
        if not self.joined:
            return
        self._receiver.leave()
        self.joined = False
        self._leaves += 1
        for _ in range(_MOST_WAITING):
            if self._receiver.catch() is None:
                break

    def receive(self) -> Datagram | None:
        """Return the next datagram, None when there is none now. Raises SocketError."""
        self._must_be_open()
        try:
            told = self._receiver.receive()
        except OSError as error:
            raise sockopts.refused("receive", f"receive from {self}", error) from error
        if told is None or not self.joined:
            return None
        self._datagrams += 1
        self._bytes += told[0].length
        return told[0]

    def counters(self) -> ReceiveCounters:
        """Return what was counted so far."""
        if self._open:
            self._drops = self._receiver.kernel_drops()
        return ReceiveCounters(
            1,
            int(not self._open),
            self._joins,
            self._leaves,
            self._datagrams,
            self._bytes,
            self._receiver.skipped,
            self._drops,
        )

    def snapshot(self) -> Snapshot[ReceiveCounters]:
        """Return the counters with the monotonic time, for `Sampler` and `delta`."""
        return Snapshot(time.monotonic_ns(), self.counters())

    def detach(self) -> socket.socket:
        """Give the socket away, still joined if it was; nothing is heard here any more.

        Raises SocketError when it is closed.
        """
        self._must_be_open()
        self.counters()
        self._open = False
        return handed.out(self._receiver.hand_out())

    def close(self) -> None:
        """Leave the group and close the socket, unless it was given away."""
        if self._open:
            self.counters()
            self._open = self.joined = False
            self._receiver.close()


class Received(NamedTuple):
    """A datagram and which reception heard it."""

    reception: Reception
    datagram: Datagram


class Subscriber(Context[Reception]):
    """Several receptions heard in turn: nobody who sends much keeps the others from being heard."""

    def __init__(self) -> None:
        super().__init__()
        self._gone = ReceiveCounters()
        self._selector = selectors.DefaultSelector()
        self._turns: deque[Reception] = deque()

    def add(self, config: ReceptionConfig | str, sock: Socket | None = None) -> Reception:
        """Return a new reception, not joined yet; see `Reception` for arguments and errors."""
        self._make_way(sock)
        one = Reception(config, sock)
        self._selector.register(one, selectors.EVENT_READ, one)
        self._members.append(one)
        return one

    def _forget(self, member: Reception) -> None:
        super()._forget(member)
        self._selector.unregister(member)
        with suppress(ValueError):
            self._turns.remove(member)

    def _keep_count(self, member: Reception) -> None:
        self._gone = total((self._gone, member.counters()), ReceiveCounters())

    def fileno(self) -> int:
        """Return one descriptor that is readable when any reception may have something.

        Raises SocketError on systems without one (no epoll, no kqueue): watch each reception.
        """
        self._must_be_open()
        ask = getattr(self._selector, "fileno", None)
        if ask is None:
            raise SocketError(
                "this system has no descriptor for several sockets", hint="watch each reception"
            )
        return int(ask())

    def receive(self) -> Received | None:
        """Return the next datagram of any reception, None when there is none now.

        Each that has some gives one before any gives its next. Raises SocketError.
        """
        self._must_be_open()
        for look in (False, True):
            if look:
                self._turns.extend(key.data for key, _ in self._selector.select(0))
            while self._turns:
                one = self._turns.popleft()
                if one.closed:
                    self.remove(one)
                    continue
                datagram = one.receive()
                if datagram is not None:
                    return Received(one, datagram)
        return None

    def receive_many(self, most: int) -> list[Received]:
        """Return what is there, up to `most` datagrams, as fairly as `receive`."""
        found: list[Received] = []
        while len(found) < most and (one := self.receive()) is not None:
            found.append(one)
        return found

    def counters(self) -> ReceiveCounters:
        """Return what was counted so far, by those removed as well."""
        return total((self._gone, *(one.counters() for one in self)), ReceiveCounters())

    def snapshot(self) -> Snapshot[ReceiveCounters]:
        """Return the counters with the monotonic time, for `Sampler` and `delta`."""
        return Snapshot(time.monotonic_ns(), self.counters())

    def close(self) -> None:
        """Leave every group and close."""
        super().close()
        self._selector.close()

"""Sending for programs: publications, each a connected socket for one group, and their owner."""

import socket
import time
from typing import NamedTuple

from mcastctl.model.address import HOST_HINT, canonical, family, keeps_zone
from mcastctl.model.configuration import PublicationConfig
from mcastctl.model.counters import SendCounters, Snapshot, total
from mcastctl.model.errors import QueueFullError, SocketError
from mcastctl.net import handed, nic, sockopts
from mcastctl.net.context import Closing, Context
from mcastctl.net.nic import Nic
from mcastctl.net.sender import Egress, Sender, Target
from mcastctl.net.sender import refused as refusal
from mcastctl.net.sockopts import SockAddr, Socket


class SendReport(NamedTuple):
    """What became of one datagram: payload `bytes` the kernel took, from where, to where.

    `destination` is a socket address, whose scope id is that of the interface for
    interface-local and link-local IPv6 groups and else 0. `error` says why nothing was sent.
    """

    bytes: int
    destination: SockAddr
    source: str
    source_port: int
    error: SocketError | None = None


class Announcement(NamedTuple):
    """What a receiver must know to join: the source, the group and the UDP port sent to."""

    source: str
    group: str
    port: int


class Publication(Closing):
    """One group sent to from one socket, connected, so that the source is settled from the start.

    `config` may be an endpoint, '[SRC@]GROUP[%IFACE]:PORT'. `sock` is a UDP socket to use: it must
    be of the group's family, unbound or bound to what is asked for, unconnected or connected to
    the group; it is made non-blocking, configured and connected, and is the caller's again if that
    fails. Raises AddressError, InterfaceError, ValueRangeError or SocketError.

    While its interface is gone the kernel refuses. One of the same name and address is sent by when
    it is there; a publication of a link-local group must be made anew.
    """

    def __init__(self, config: PublicationConfig | str, sock: Socket | None = None) -> None:
        if isinstance(config, str):
            config = PublicationConfig.parse(config)
        self.config = config = config.checked()
        out, source = _way(config)
        self._target = Target(config.group, config.port, out)
        version = family(config.group)
        if sock is not None:
            peer = (config.group, config.port)
            handed.ready(sock, version, (config.source,), config.source_port, peer)
        egress = Egress(config.ttl, config.loop, config.dscp, source, config.source_port)
        self._sender = Sender(version, out, egress, sock)
        try:
            if sock is not None:  # it may have another one
                sockopts.set_dscp(sock, version, config.dscp)
            self._sender.keep_to(self._target)
        except SocketError:
            if sock is None:
                self._sender.close()
            raise
        self.destination = self._sender.sockaddr(self._target)
        self.source, self.source_port = self._sender.local_address, self._sender.local_port
        self._full = 0
        self._open = True

    def __str__(self) -> str:
        return str(self._target)

    @property
    def interface(self) -> Nic:
        """The interface datagrams leave by: name and index."""
        return self._sender.out or Nic("", 0)

    def fileno(self) -> int:
        """Return the descriptor, for an event loop; it is writable when `send` has room."""
        return self._sender.fileno()

    @property
    def closed(self) -> bool:
        """Whether it was closed or gave its socket away."""
        return not self._open

    def _must_be_open(self) -> None:
        if not self._open:
            raise SocketError(f"the publication {self} is closed", hint="add a new one")

    def send(self, payload: bytes) -> SendReport:
        """Send one datagram, now or not at all.

        Raises QueueFullError when the socket buffer has no room, SocketError when the kernel
        refuses for good.
        """
        self._must_be_open()
        try:
            error = self._sender.send(payload, self._target)
        except BlockingIOError as full:
            self._full += 1
            raise QueueFullError(
                f"cannot send to {self._target} now: the socket buffer is full",
                hint="try again when the descriptor is writable",
                errno=full.errno,
            ) from full
        if error is not None:
            notice = refusal(self._target, error)
            raise SocketError(notice.text, hint=notice.hint, errno=error)
        return SendReport(len(payload), self.destination, self.source, self.source_port)

    def announce(self) -> Announcement:
        """Return source, group and port, as announcements (SAP, AMT, ...) carry them."""
        return Announcement(self.source, self.config.group, self.config.port)

    def counters(self) -> SendCounters:
        """Return what was counted so far."""
        one = self._sender
        refused = one.attempted - one.sent
        closed = int(not self._open)
        return SendCounters(1, closed, one.attempted, one.sent, one.sent_bytes, refused, self._full)

    def snapshot(self) -> Snapshot[SendCounters]:
        """Return the counters with the monotonic time, for `Sampler` and `delta`."""
        return Snapshot(time.monotonic_ns(), self.counters())

    def detach(self) -> socket.socket:
        """Give the socket away, still connected; nothing can be sent from here any more.

        Raises SocketError when it is closed.
        """
        self._must_be_open()
        self._open = False
        return handed.out(self._sender.hand_out())

    def close(self) -> None:
        """Close the socket, unless it was given away."""
        if self._open:
            self._open = False
            self._sender.close()


class Publisher(Context[Publication]):
    """Several publications and their totals, which outlive them."""

    def __init__(self) -> None:
        super().__init__()
        self._gone = SendCounters()

    def add(self, config: PublicationConfig | str, sock: Socket | None = None) -> Publication:
        """Return a new publication, ready to send; see `Publication` for arguments and errors."""
        self._make_way(sock)
        one = Publication(config, sock)
        self._members.append(one)
        return one

    def _keep_count(self, member: Publication) -> None:
        self._gone = total((self._gone, member.counters()), SendCounters())

    def send_all(self, payload: bytes) -> list[SendReport]:
        """Send one datagram by every publication; return a report of each, in the order added.

        One that cannot send keeps no other from it: its report has no bytes, but the error.
        """
        reports = []
        for one in self:
            try:
                reports.append(one.send(payload))
            except SocketError as error:
                reports.append(SendReport(0, one.destination, one.source, one.source_port, error))
        return reports

    def counters(self) -> SendCounters:
        """Return what was counted so far, by those removed as well."""
        return total((self._gone, *(one.counters() for one in self)), SendCounters())

    def snapshot(self) -> Snapshot[SendCounters]:
        """Return the counters with the monotonic time, for `Sampler` and `delta`."""
        return Snapshot(time.monotonic_ns(), self.counters())


def _way(config: PublicationConfig) -> tuple[Nic, str | None]:
    """Return the interface to leave by and the address to send from, None for the kernel's choice.

    A source without an interface means its own, which Linux does for IPv4 alone.
    """
    which, source = config.interface, config.source
    if which is None and source is not None and not keeps_zone(source):
        return nic.find(source), source
    out = nic.meant(config.group, which)
    if source is None and isinstance(which, str) and nic.packed(which):
        address = canonical(which.partition("%")[0], HOST_HINT)
        return out, address if family(address) == family(config.group) else None
    return out, source

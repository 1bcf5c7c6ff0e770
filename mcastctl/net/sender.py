"""One socket that sends datagrams to groups: source, port and interface each chosen apart."""

import errno
import os
import select
import time
from typing import Any, NamedTuple

from mcastctl.model import refusal, surroundings
from mcastctl.model.address import family, host_port, is_multicast, keeps_zone
from mcastctl.model.endpoint import Endpoint
from mcastctl.model.errors import AddressError, SocketError
from mcastctl.model.records import Datagram, Notice
from mcastctl.net import ancillary, nic, sockopts, whereabouts
from mcastctl.net.ifaddrs import IFF_UP
from mcastctl.net.nic import Nic
from mcastctl.net.platforms import HERE
from mcastctl.net.sockopts import SockAddr

_MOST_UNREACHABLE = 1024
"""Hosts whose ICMP errors are counted; who forges errors may name any number."""
_GONE = {errno.ENODEV, errno.ENXIO, errno.ENETUNREACH, errno.EADDRNOTAVAIL}
"""What sending by an interface that is gone is refused with."""
_LOOK_NS = 50_000_000
"""Between two looks for its successor."""


class Egress(NamedTuple):
    """How datagrams leave: `source` and `source_port` None for the kernel's choice.

    `unicast_ttl` is the TTL or hop limit towards single hosts, None for that of groups.
    """

    ttl: int = 1
    loop: bool = True
    dscp: int = 0
    source: str | None = None
    source_port: int | None = None
    unicast_ttl: int | None = None


def unicast_ttl(egress: Egress) -> int:
    """Return the TTL or hop limit towards single hosts, never 0."""
    return egress.unicast_ttl or max(egress.ttl, 1)


class Target(NamedTuple):
    """One destination, the interface it is reached by (None: the unicast route decides) and
    the source address asked for with 'SRC@GROUP'."""

    host: str
    port: int
    nic: Nic | None
    source: str | None = None

    def __str__(self) -> str:
        by = f" on {self.nic.name}" if self.nic else ""
        return f"{host_port(self.host, self.port)}{by}"


class Sender:
    """A socket for the targets of one family and interface: a new one, or `sock`.

    One handed in stays as it is bound, and stays open when it cannot be made ready.
    """

    def __init__(
        self, version: int, out: Nic | None, egress: Egress, sock: sockopts.Socket | None = None
    ) -> None:
        self.version = version
        self.out = out
        self.egress = egress
        self._sock = sockopts.open_udp(version) if sock is None else sock
        try:
            if egress.source_port is not None:
                # A pinned port is often the group's own, which a listener here may hold; and on
                # several interfaces it takes several sockets.
                sockopts.share_port(self._sock)
            self._configure(egress)
            if sock is None or not sockopts.local_port(sock):
                self._bind(egress)
        except BaseException:
            if sock is None:
                self._sock.close()
            raise
        self.errors: dict[int, int] = {}
        self.unreachable: dict[str, int] = {}  # ICMP reports by destination
        self.attempted = self.sent = self.sent_bytes = 0
        self._connected: Sender | None = None
        self._kept = False
        self._look_ns = 0

    def _configure(self, egress: Egress) -> None:
        sock, version = self._sock, self.version
        with sockopts.naming("open", "prepare the sending socket"):
            sockopts.report_errors(sock, version)
            sockopts.hear_only_own_groups(sock, version)  # only answers come back here
            sockopts.set_receive_buffer(sock, sockopts.DEFAULT_BUFFER)
            ancillary.request(sock, version)
            sockopts.set_ttl(sock, version, egress.ttl)
            sockopts.set_unicast_ttl(sock, version, unicast_ttl(egress))
            sockopts.set_loop(sock, version, egress.loop)
            if egress.dscp:
                sockopts.set_dscp(sock, version, egress.dscp)
        if self.out is not None:
            with sockopts.naming("egress", f"send by interface {self.out.name}"):
                sockopts.set_egress(sock, version, self.out.ifindex)

    def _bind(self, egress: Egress) -> None:
        source, port = egress.source, egress.source_port
        if source is None and self.out is not None and self.version == 4:
            source = nic.loopback_address(4, self.out)
        if source is None and port is None:
            return
        host = source or ("::" if self.version == 6 else "0.0.0.0")  # noqa: S104
        where = f"{host} port {port}" if port else host
        with sockopts.naming("bind", f"bind the sending socket to {where}", port):
            if self.version == 6:
                scoped = self.out is not None and keeps_zone(host)
                scope = self.out.ifindex if scoped and self.out is not None else 0
                self._sock.bind((host, port or 0, 0, scope))
            else:
                self._sock.bind((host, port or 0))

    def fileno(self) -> int:
        """Return the descriptor, for the loop."""
        return self._sock.fileno()

    def send(self, payload: bytes, target: Target) -> int | None:
        """Send one datagram; return None when the kernel took it, else the errno.

        BlockingIOError means that the socket buffer is full: wait until writable, try again.
        """
        try:
            self._send(payload, None if self._kept else self.sockaddr(target))
        except BlockingIOError:
            raise
        except OSError as error:
            number = error.errno or 0
            if self.follow(number):
                return self.send(payload, target)
            self.note_refused(1, number)
            return number
        self.note_sent(1, len(payload))
        return None

    def note_sent(self, number: int, size: int) -> None:
        """Count `number` datagrams of `size` bytes that the kernel took."""
        self.attempted += number
        self.sent += number
        self.sent_bytes += number * size

    def note_refused(self, number: int, error: int) -> None:
        """Count `number` datagrams that the kernel refused with this errno."""
        self.attempted += number
        self.errors[error] = self.errors.get(error, 0) + number

    def follow(self, error: int) -> bool:
        """Leave by the interface that bears the name of ours now, if ours is gone; tell if so.

        `error` is the errno of a refusal.
        """
        now_ns = time.monotonic_ns()
        if self.out is None or error not in _GONE or now_ns < self._look_ns:
            return False
        self._look_ns = now_ns + _LOOK_NS
        found = nic.find(self.out.name, late=True)
        if not found.ifindex or nic.name_of(self.out.ifindex):
            return False
        try:
            sockopts.set_egress(self._sock, self.version, found.ifindex)
        except OSError:
            return False  # it went again
        self.out = found
        return True

    def connect(self, target: Target) -> "Sender | None":
        """Return a sender of the same source and port for this group alone, None if refused.

        The kernel then looks the route up once instead of for each datagram. Nobody answers from
        a group's address, so it hears nothing: replies still come here.
        """
        if self._connected is not None:
            self._connected.close()
        try:
            if not self.local_port:
                self._sock.bind(("::" if self.version == 6 else "0.0.0.0", 0))  # noqa: S104
            sockopts.share_port(self._sock)
            one = Sender(self.version, self.out, self.egress._replace(source_port=self.local_port))
            self._connected = one
            one.keep_to(target)
        except (OSError, SocketError):
            return None
        return one

    def hand_over(self, parts: list[memoryview], where: SockAddr | None) -> None:
        """Send the parts as one payload, uncounted; `where` is None once connected."""
        if where is None:
            self._sock.sendmsg(parts)
        else:
            self._sock.sendmsg(parts, (), 0, where)

    def writable(self) -> bool:
        """Tell whether the socket buffer has room."""
        waiter = select.poll()
        waiter.register(self._sock, select.POLLOUT)
        return bool(waiter.poll(0))

    def set_segment(self, size: int) -> None:
        """Let the kernel cut payloads into datagrams of `size` bytes, 0 for not."""
        sockopts.set_segment(self._sock, size)

    def keep_to(self, target: Target) -> None:
        """Send to this target alone from now on, from the source the kernel settles on now."""
        with sockopts.naming("send", f"connect the sending socket to {target}"):
            self._sock.connect(self.sockaddr(target))
        self._kept = True

    def _send(self, payload: bytes, where: SockAddr | None) -> None:
        """Send, and again if what the first try reported was about an earlier datagram."""
        try:
            self._put(payload, where)
        except BlockingIOError:
            raise
        except OSError:
            if not self.drain_errors():
                raise
            self._put(payload, where)

    def _put(self, payload: bytes, where: SockAddr | None) -> None:
        if where is None:
            self._sock.send(payload)
        else:
            self._sock.sendto(payload, where)

    def sockaddr(self, target: Target) -> SockAddr:
        """Return the destination as the socket takes it."""
        if self.version == 4:
            return target.host, target.port
        by = self.out or target.nic
        return target.host, target.port, 0, by.ifindex if by and keeps_zone(target.host) else 0

    def drain_errors(self) -> bool:
        """Empty the error queue; tell whether it held an ICMP report about an earlier datagram.

        While it holds anything poll(2) calls the socket ready, and the next call fails with an
        error that is not its own (IP_RECVERR, ip(7)).
        """
        reported = False
        while HERE.ip_recverr is not None:
            try:
                _, messages, _, about = self._sock.recvmsg(512, 512, MSG_ERRQUEUE)
            except OSError:
                break  # EAGAIN: the queue is empty
            if ancillary.is_icmp_report(messages):
                reported = True
                if about[0] in self.unreachable or len(self.unreachable) < _MOST_UNREACHABLE:
                    self.unreachable[about[0]] = self.unreachable.get(about[0], 0) + 1
        return reported

    def receive(self) -> tuple[Datagram, ancillary.Arrival] | None:
        """Return one datagram that came back to this socket, None when there is none now."""
        while True:
            try:
                payload, messages, _, sender = self._sock.recvmsg(65535, ancillary.SPACE)
            except BlockingIOError:
                return None
            except OSError:
                # An ICMP error about an earlier send (IP_RECVERR, ip(7)): an event, not an end.
                self.drain_errors()
                continue
            from mcastctl.net.arrival import record  # most senders hear nothing

            arrival = ancillary.parse(messages)
            return record(payload, sender, arrival, self.local_port), arrival

    @property
    def local_address(self) -> str:
        """The bound source address; the wildcard when the kernel chooses per datagram."""
        return str(self._sock.getsockname()[0])

    @property
    def local_port(self) -> int:
        """The source port, 0 before the first datagram gave the socket one."""
        return int(self._sock.getsockname()[1])

    def source_for(self, target: Target) -> str:
        """Return the source address the kernel puts on datagrams to `target`, '' if none."""
        if self.local_address not in ("0.0.0.0", "::"):  # noqa: S104
            return self.local_address
        asker = sockopts.open_udp(self.version)
        try:
            if self.out is not None:
                sockopts.set_egress(asker, self.version, self.out.ifindex)
            asker.connect(self.sockaddr(target))
            return str(asker.getsockname()[0])
        except OSError:
            return ""
        finally:
            asker.close()

    def kernel_drops(self) -> int:
        """Return how many answers found this socket's buffer full."""
        return sockopts.kernel_drops(self._sock)

    def ttl_for(self, target: Target) -> int:
        """Return the TTL or hop limit of datagrams to `target`."""
        if is_multicast(target.host):
            return self.egress.ttl
        return unicast_ttl(self.egress)

    def hand_out(self) -> sockopts.Socket:
        """Return the socket itself; whoever has it closes it."""
        return self._sock

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
        if self._connected is not None:
            self._connected.close()


MSG_ERRQUEUE = 0x2000
"""recvmsg(2) flag of Linux that reads the error queue instead of data."""


def targets(endpoints: list[Endpoint], given: list[Nic]) -> list[Target]:
    """Return every destination of the endpoints: one per group and interface."""
    found = []
    for endpoint in endpoints:
        for one in endpoint.expand():
            if one.exclude or len(one.sources) > 1:
                raise AddressError(
                    f"{one.group} is given with a source filter, which only receivers have",
                    hint="one source address may be named to send from: SRC@GROUP or --bind SRC",
                )
            source = one.sources[0] if one.sources else None
            port = one.port or 0
            if not is_multicast(one.group):
                chosen = given[0] if given else (nic.find(one.iface) if one.iface else None)
                found.append(Target(one.group, port, chosen, source))
                continue
            for chosen in nic.for_group(one.group, one.iface, given):
                found.append(Target(one.group, port, chosen, source))
    return list(dict.fromkeys(found))


def open_all(wanted: list[Target], egress: Egress) -> list[tuple[Sender, Target]]:
    """Return each target with its sender; targets of one family and interface share one."""
    senders: dict[tuple[int, Nic | None, str | None], Sender] = {}
    keys = [(family(one.host), one.nic, egress.source or one.source) for one in wanted]
    try:
        for version, out, source in dict.fromkeys(keys):
            if source and family(source) != version:
                raise AddressError(
                    f"source address {source} is not of the family of the group",
                    hint="--bind takes an address of the group's own family",
                )
            one = Sender(version, out, egress._replace(source=source))
            senders[(version, out, source)] = one
    except BaseException:
        for sender in senders.values():
            sender.close()
        raise
    return [(senders[key], target) for key, target in zip(keys, wanted, strict=True)]


def totals(senders: list[Sender]) -> dict[str, Any]:
    """Return attempted, sent, refused, errors (by errno name) and drops of several sockets."""
    errors: dict[str, int] = {}
    for sender in senders:
        for number, count in sender.errors.items():
            errors[refusal.name(number)] = errors.get(refusal.name(number), 0) + count
    attempted = sum(sender.attempted for sender in senders)
    sent = sum(sender.sent for sender in senders)
    return {
        "attempted": attempted,
        "sent": sent,
        "refused": attempted - sent,
        "errors": errors,
        "kernel_drops": sum(sender.kernel_drops() for sender in senders),
    }


def refused(target: Target, number: int) -> Notice:
    """Return the notice for the first refusal of its kind."""
    text = f"cannot send to {target}: {refusal.cause(number, os.strerror(number))}"
    if not is_multicast(target.host) and surroundings.standard(number) in refusal.UNICAST:
        hint = refusal.remedy("unicast", number)
    else:
        named = target.nic
        if named is not None and not (nic.flags(named) or IFF_UP) & IFF_UP:
            number = errno.ENETDOWN  # whatever the kernel calls it
        name = named.name if named else "IFACE"
        found = refusal.sending(number, target.host, name, chosen=named is not None)
        peculiar = surroundings.remedy(whereabouts.surroundings(), "send", number)
        told = f"{found.title}: {found.hint}" if found else refusal.remedy("send", number)
        hint = peculiar or told
    return Notice(time.time_ns(), "error", "refused", text, hint)

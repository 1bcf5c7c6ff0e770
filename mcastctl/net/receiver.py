"""One socket that hears one group on one port and one interface.

Bound to the group where the system allows it, closed to groups that other programs joined,
and checked against the destination of each datagram: what it yields was meant for it.
"""

import _socket as socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EMFILE
from typing import TYPE_CHECKING, NamedTuple

from mcastctl.decode.stream import undecided
from mcastctl.model.address import family, keeps_zone
from mcastctl.model.endpoint import Endpoint
from mcastctl.model.errors import AddressError, SocketError
from mcastctl.model.records import Datagram, Membership
from mcastctl.model.run import Heard
from mcastctl.net import ancillary, nic, sockopts
from mcastctl.net.arrival import record
from mcastctl.net.nic import Nic
from mcastctl.net.platforms import HERE

if TYPE_CHECKING:
    from mcastctl.net.intake import Intake

_MOST_SKIPPED = 256
"""Datagrams for others that are passed over before deadlines and signals are looked at."""

_FEW = 64
"""So many at once are read one by one; a receiver that has more waiting is a busy one."""

caught_bytes = memoryview(bytearray(65536))
"""What was caught last, of any socket."""


class Caught(NamedTuple):
    """What the socket on `port` gave for one datagram; its payload is in `caught_bytes`."""

    size: int
    messages: ancillary.Messages
    sender: tuple[str, int]
    port: int

    def flow(self) -> tuple[object, ...]:
        """Return all that the kernel told but the time."""
        first = 1 if self._timed() else 0
        return (self.port, self.sender, *self.messages[first:])

    def stamp_ns(self) -> int:
        """Return when it arrived, as the kernel or else as our own clock has it."""
        return ancillary.stamp_ns(self.messages[0][2]) if self._timed() else time.time_ns()

    def _timed(self) -> bool:
        """Tell whether the time is there: it comes first (net/ipv4/udp.c: udp_recvmsg)."""
        return bool(self.messages) and self.messages[0][0] == socket.SOL_SOCKET

    def payload(self) -> bytes:
        """Return the bytes, while they are the last ones caught."""
        return caught_bytes[: self.size].tobytes()


def catch(sock: sockopts.Socket, port: int) -> Caught | None:
    """Take the next datagram of a socket, None when there is none now."""
    try:
        size, messages, _, sender = sock.recvmsg_into((caught_bytes,), ancillary.SPACE)
    except BlockingIOError:
        return None
    return Caught(size, messages, sender, port)


class Subscription(NamedTuple):
    """What one receiver is for: a group, a port, an interface and a source filter.

    `asked` is what the interface was named by (name, index or address), '' for the route's choice;
    index 0 is that of an interface that is not there yet.
    """

    group: str
    port: int
    nic: Nic
    sources: tuple[str, ...]
    exclude: bool
    asked: str = ""

    @property
    def mode(self) -> str:
        """'any', 'include' or 'exclude'."""
        if not self.sources:
            return "any"
        return "exclude" if self.exclude else "include"


class Receiver:
    """An open subscription, joined unless `joined` is False.

    `whole` says that somebody wants the payloads, not only their statistics; it becomes so when
    something is heard whose statistics need all of it. `sock` is used instead of a new socket; it
    stays as it is bound, and stays open when it cannot be made ready.
    """

    def __init__(
        self,
        subscription: Subscription,
        buffer_size: int = sockopts.DEFAULT_BUFFER,
        *,
        whole: bool = True,
        joined: bool = True,
        sock: sockopts.Socket | None = None,
    ) -> None:
        self.subscription = subscription
        self.version = family(subscription.group)
        self._whole = whole
        self._skipped = 0
        self._intake: Intake | None = None
        self._sock = sockopts.open_udp(self.version) if sock is None else sock
        try:
            self._configure(buffer_size)
            if sock is None or not sockopts.local_port(sock):
                self._bind()
            else:
                self._sole = False  # it may be bound to more than the group
            if joined:
                self.join()
        except BaseException:
            if sock is None:
                self._sock.close()
            raise

    def _configure(self, buffer_size: int) -> None:
        with sockopts.naming("open", f"prepare a socket for {self.subscription.group}"):
            sockopts.share_port(self._sock)
            sole = sockopts.hear_only_own_groups(self._sock, self.version)
            ancillary.request(self._sock, self.version)
            if self.version == 6:
                sole = sockopts.hear_only_interface(self._sock, self.subscription.nic.ifindex)
            # Bound to the group as well, the kernel itself keeps everything else out.
            self._sole = sole and HERE.binds_to_group
            self.granted_buffer = sockopts.set_receive_buffer(self._sock, buffer_size)

    def _bind(self) -> None:
        group, port, chosen, *_ = self.subscription
        where = group if HERE.binds_to_group else ("::" if self.version == 6 else "0.0.0.0")  # noqa: S104
        scope = chosen.ifindex if keeps_zone(group) and HERE.binds_to_group else 0
        with sockopts.naming("bind", f"bind UDP port {port} of {group} on {chosen.name}", port):
            self._sock.bind((where, port, 0, scope) if self.version == 6 else (where, port))

    def join(self) -> None:
        """Join the group, with the sources of the filter. Raises SocketError."""
        group, _, (name, index), sources, exclude, _ = self.subscription
        if exclude or not sources:
            with sockopts.naming("join", f"join {group} on {name}"):
                sockopts.join(self._sock, group, index)
        for source in sources:
            operation = "filter" if source != sources[0] else "join"
            with sockopts.naming(operation, f"filter source {source} of {group} on {name}"):
                (sockopts.block if exclude else sockopts.join)(self._sock, group, index, source)

    def refresh(self) -> None:
        """Leave and join again, so that switches and routers hear of it. Raises SocketError."""
        self.leave()
        self.join()

    def leave(self) -> None:
        """Leave the group, whatever the filter; the socket stays open. Raises SocketError."""
        group, _, (name, index), *_ = self.subscription
        with sockopts.naming("join", f"leave {group} on {name}"):
            sockopts.leave(self._sock, group, index)

    def rename(self, name: str) -> None:
        """Call the interface by a new name from now on."""
        self.subscription = self.subscription._replace(
            nic=self.subscription.nic._replace(name=name)
        )
        if self._intake is not None:
            self._intake.rename(name)

    def fileno(self) -> int:
        """Return the descriptor, for the loop."""
        return self._sock.fileno()

    def catch(self) -> Caught | None:
        """Take the next datagram, for whomever it is; None when there is none now."""
        return catch(self._sock, self.subscription.port)

    def told(self, caught: Caught) -> tuple[Datagram, ancillary.Arrival] | None:
        """Return what was just caught and its arrival, None if it was not meant for this."""
        arrival = ancillary.parse(caught.messages)
        group, _, (_, index), *_ = self.subscription
        if arrival.dst not in (group, None) or arrival.ifindex not in (index, 0):
            self._skipped += 1
            return None
        return self._record(caught.payload(), caught.sender, arrival), arrival

    def receive(self) -> tuple[Datagram, ancillary.Arrival] | None:
        """Return the next datagram and its arrival, None when there is none now."""
        for _ in range(_MOST_SKIPPED):
            caught = self.catch()
            if caught is None:
                return None
            told = self.told(caught)
            if told is not None:
                return told
        return None

    def read(self, most: int) -> list[Heard]:
        """Return what is there, up to `most` datagrams; none when nothing is."""
        if self._intake is None:
            heard = self._read_few(min(most, _FEW))
            if len(heard) == _FEW < most and HERE.mmsghdr is not None:
                self._take_many()
            return heard
        heard = self._intake.read(most)
        if self._intake.undecided and not self._whole:
            self._whole = True
            self._intake.take_whole()
        return heard

    def _read_few(self, most: int) -> list[Heard]:
        heard: list[Heard] = []
        while len(heard) < most and (one := self.receive()) is not None:
            heard.append(one[0])
            self._whole = self._whole or undecided(one[0].payload, one[0].mark)
        return heard

    def _take_many(self) -> None:
        from mcastctl.net.intake import Intake  # ctypes: only a busy receiver pays for it

        with suppress(OSError):  # no memory for it: as before, then
            self._intake = Intake(self._sock, self.subscription, whole=self._whole, sole=self._sole)

    @property
    def skipped(self) -> int:
        """How many datagrams were not meant for the subscription."""
        return self._skipped + (self._intake.skipped if self._intake else 0)

    @property
    def takes_supers(self) -> bool:
        """Whether super-packets come uncut."""
        return self._intake is not None and self._intake.supers

    def nap_s(self) -> float:
        """Return how long nothing need be read, in seconds: waking up less often costs less."""
        return self._intake.nap_s(self.granted_buffer) if self._intake else 0.0

    def _record(self, payload: bytes, sender: tuple[str, int], told: ancillary.Arrival) -> Datagram:
        group, port, (name, index), *_ = self.subscription
        if not told.ifindex:  # a system without packet info: the subscription knows
            told = told._replace(ifindex=index, dst=group)
        return record(payload, sender, told, port, name)

    def memberships(self, event: str) -> list[Membership]:
        """Return one record per source filter, or one for any source."""
        group, port, (name, index), sources, *_ = self.subscription
        mode, granted = self.subscription.mode, self.granted_buffer
        now_ns = time.time_ns()
        return [
            Membership(now_ns, event, group, port, source, mode, name, index, granted)
            for source in sources or (None,)
        ]

    def kernel_drops(self) -> int:
        """Return how many datagrams found this socket's buffer full."""
        return sockopts.kernel_drops(self._sock)

    def hand_out(self) -> sockopts.Socket:
        """Return the socket itself; whoever has it closes it."""
        return self._sock

    def close(self) -> None:
        """Leave the group and close."""
        self._sock.close()


def subscriptions(
    endpoints: list[Endpoint], named: Sequence[str], *, late: bool = False
) -> list[Subscription]:
    """Return one subscription per group, port and interface, with the filters merged.

    `named` are the interfaces of -i; with `late` they need not be there yet. Raises AddressError
    when two endpoints ask for the same group with different filter modes.
    """
    known = {nic.find(text, late=late): text for text in reversed(named)}
    given = list(reversed(known))
    merged: dict[tuple[str, int, Nic], Subscription] = {}
    for endpoint in endpoints:
        for one in endpoint.expand():
            for chosen in nic.for_group(one.group, one.iface, given, late=late):
                port = one.port or 0
                asked = one.iface or known.get(chosen, "")
                wanted = Subscription(one.group, port, chosen, one.sources, one.exclude, asked)
                key = (one.group, port, chosen)
                merged[key] = _merge(merged[key], wanted) if key in merged else wanted
    return list(merged.values())


def _merge(first: Subscription, second: Subscription) -> Subscription:
    if first.mode != second.mode:
        raise AddressError(
            f"{first.group}:{first.port} is asked for with filters "
            f"{first.mode.upper()} and {second.mode.upper()}",
            hint="one group has one filter mode: any source, INCLUDE (SRC) or EXCLUDE (!SRC)",
        )
    return first._replace(sources=tuple(dict.fromkeys(first.sources + second.sources)))


def open_all(
    wanted: list[Subscription],
    open_one: Callable[[Subscription], Receiver] = Receiver,
    *,
    later: int = 0,
) -> list[Receiver]:
    """Open every subscription or none; so many more are to be opened later."""
    _raise_descriptor_limit(len(wanted) + later + 32)
    opened: list[Receiver] = []
    try:
        for subscription in wanted:
            opened.append(open_one(subscription))
    except BaseException as error:
        for receiver in opened:
            receiver.close()
        if isinstance(error, SocketError) and error.errno == EMFILE:
            hint = f"{len(wanted)} sockets are needed, one for each group, port and interface"
            error.hint = f"{hint}: ulimit -n {len(wanted) + 32}"
        raise
    return opened


def _raise_descriptor_limit(needed: int) -> None:
    """Use the hard limit when many groups need more descriptors than the soft one allows."""
    if needed < 200:
        return
    import resource  # Unix only, and only for hundreds of groups

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        target = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))

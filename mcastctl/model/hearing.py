"""Whether what an interface brings can be heard, as news of it come in: deaf since when, and why.

Pure: events and times go in, notices and what is to be done come out.
"""

from collections.abc import Collection
from typing import NamedTuple

from mcastctl.model.records import Notice
from mcastctl.model.shell import setting, word

GONE, LATE, DOWN, NO_CARRIER = "gone", "late", "down", "no-carrier"
"""Why an interface is deaf; '' when it is not."""
SMALL_MTU, NO_IPV6, ENSLAVED = "small-mtu", "no-ipv6", "enslaved"
"""Why one that is up is deaf to a family of addresses, or to all."""

MIN_MTU = {4: 68, 6: 1280}
"""An interface with less is none for this family: the kernel forgets its memberships there
(net/ipv4/devinet.c: inetdev_event; net/ipv6/addrconf.c: addrconf_notify)."""
_TAKING = frozenset({"bridge", "bond", "team", "openvswitch", "hsr"})
"""Kinds of masters that take all that arrives on their ports; vrf leaves it to sockets there."""


class Moment(NamedTuple):
    """One instant on both clocks: since the epoch for people, monotonic to count from, in ns."""

    ts_ns: int
    mono_ns: int


class LinkState(NamedTuple):
    """An interface as it is now: whether it is up, and has a carrier (IFF_LOWER_UP).

    `mtu` is 0 where it is not known; `master` is the index of the interface it is a port of and
    `port_kind` that one's kind, 0 and '' for none.
    """

    ifindex: int
    name: str
    up: bool
    carrier: bool
    mtu: int = 0
    master: int = 0
    port_kind: str = ""

    @property
    def cause(self) -> str:
        """Why nothing can arrive on it, '' when something can."""
        if not self.up:
            return DOWN
        return "" if self.carrier else NO_CARRIER

    def cause_for(self, versions: Collection[int], *, without_ipv6: bool) -> str:
        """Why sockets of these IP versions hear nothing of what arrives, '' when all can."""
        if self.cause:
            return self.cause
        if self.port_kind in _TAKING:
            return ENSLAVED
        if any(0 < self.mtu < MIN_MTU[version] for version in versions):
            return SMALL_MTU
        return NO_IPV6 if without_ipv6 and 6 in versions else ""


class LinkGone(NamedTuple):
    """An interface that was deleted, or moved to another network namespace."""

    ifindex: int


class AddressNews(NamedTuple):
    """An address, 4 or 16 bytes, that came to an interface or (not `added`) left it."""

    ifindex: int
    packed: bytes
    added: bool


News = LinkState | LinkGone | AddressNews


class Unheard(NamedTuple):
    """How long something asked for could not be heard, in seconds, and whether it `still` cannot.

    Waiting for what is not there yet counts only as `still`.
    """

    seconds: float = 0.0
    still: bool = False


HEARD = Unheard()
"""Nothing was unheard."""


_PHRASES = {
    GONE: "{} is gone: deaf until it is back",
    LATE: "waiting for interface {}",
    DOWN: "{} is down: nothing can arrive there",
    NO_CARRIER: "{} has no carrier: nothing can arrive from outside",
    SMALL_MTU: "the MTU of {} is too small: IPv6 needs 1280 bytes, IPv4 68",
    NO_IPV6: "IPv6 is switched off on {}: nothing can arrive there",
    ENSLAVED: "{} is a port of {master}: what arrives goes there",
}
_HINTS = {
    DOWN: "ip link set {} up",
    NO_CARRIER: "look at the cable, or at the other end of a veth or bridge port",
    SMALL_MTU: "ip link set {} mtu 1280, or more",
    NO_IPV6: "sysctl -w {ipv6}",
    ENSLAVED: "listen on {master}",
}
_WERE = {
    GONE: "was gone",
    LATE: "was not there",
    DOWN: "was down",
    NO_CARRIER: "had no carrier",
    SMALL_MTU: "had too small an MTU",
    NO_IPV6: "had IPv6 switched off",
    ENSLAVED: "was a port of another interface",
}


class Hearing:
    """One interface through time, by whatever index and name it has just now.

    `mtu` is what it had last, 0 where it is not known.
    """

    def __init__(self, name: str, ifindex: int) -> None:
        self.name = name
        self.ifindex = ifindex
        self.mtu = 0
        self.cause = ""
        self._causes: list[str] = []
        self._lost_as = name
        self._since_ns = 0

    @property
    def waits(self) -> bool:
        """Whether it has not been heard yet, and was not there at the beginning."""
        return bool(self.cause) and self._causes[0] == LATE

    def note(self, cause: str, now: Moment, master: str = "") -> list[Notice]:
        """Take down why nothing can be heard from `now` on ('' it can); return what to tell.

        `master` is the name of the interface it is a port of.
        """
        if cause == self.cause:
            return []
        before, self.cause = self.cause, cause
        if cause and not before:
            self._since_ns, self._causes, self._lost_as = now.mono_ns, [], self.name
        if cause:
            self._causes.append(cause)
            return [self._lost(cause, now, master)]
        first = self._causes[0] == LATE
        return [self._told(now, "listening now" if first else "listening again")]

    def renamed(self, name: str, now: Moment) -> list[Notice]:
        """Take a new name; return what to tell."""
        if not name or name == self.name:
            return []
        before, self.name = self.name, name
        text = f"{before} is called {name} now (index {self.ifindex})"
        return [Notice(now.ts_ns, "warning", "renamed", text, "", self._keys())]

    def ended(self, now: Moment) -> list[Notice]:
        """Return what to tell at the end of a run: that it is deaf still."""
        return [self._told(now, "to the end")] if self.cause else []

    def _lost(self, cause: str, now: Moment, master: str) -> Notice:
        text = _PHRASES.get(cause, "").format(self.name, master=master or "another")
        hint = _HINTS.get(cause, "").format(
            word(self.name),
            master=word(master or "another"),
            ipv6=setting(6, self.name, "disable_ipv6", 0),
        )
        if cause == LATE and not self.name:
            text = "waiting for a route or an interface"
        return Notice(now.ts_ns, "warning", cause, text, hint, self._keys())

    def _told(self, now: Moment, end: str) -> Notice:
        """Return how long it was deaf, and why."""
        seconds = (now.mono_ns - self._since_ns) / 1e9
        causes = list(dict.fromkeys(self._causes))
        why = " and ".join(_WERE[one] for one in causes)
        where = self._lost_as or self.name
        other = "" if self.cause or where == self.name else f" on {self.name}"
        text = f"deaf for {seconds:.3f} s on {where}, {end}{other}: it {why}"
        more = (*self._keys(), ("deaf_s", round(seconds, 6)), ("causes", causes))
        return Notice(now.ts_ns, "warning", "deaf", text, "", more)

    def _keys(self) -> tuple[tuple[str, object], ...]:
        named: tuple[tuple[str, object], ...] = (("iface", self.name),) if self.name else ()
        return (*named, ("ifindex", self.ifindex))


class Deafness:
    """How long at least one of several interfaces was deaf."""

    def __init__(self) -> None:
        self._before_ns = 0
        self._since_ns: int | None = None

    def note(self, deaf: bool, now: Moment) -> None:
        """Take down whether one of them is, from now on."""
        if deaf and self._since_ns is None:
            self._since_ns = now.mono_ns
        elif not deaf and self._since_ns is not None:
            self._before_ns += now.mono_ns - self._since_ns
            self._since_ns = None

    def seconds(self, now: Moment) -> float:
        """Return the time until now, to the microsecond."""
        running = 0 if self._since_ns is None else now.mono_ns - self._since_ns
        return round((self._before_ns + running) / 1e9, 6)

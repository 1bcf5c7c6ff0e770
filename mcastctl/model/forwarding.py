"""What this host forwards between its interfaces, and what its bridges pass on, as records."""

from typing import NamedTuple


class Holder(NamedTuple):
    """A process with a raw socket of the routing protocol: it alone may fill the cache."""

    pid: int
    name: str
    fd: int


class Forwarding(NamedTuple):
    """Multicast routing of one family: on where a daemon holds the routing socket.

    `mc_forwarding` and `interfaces` are the kernel's switches, which only such a daemon sets;
    `holders` are the processes that may be it, as far as they are visible.
    """

    family: str
    mc_forwarding: bool | None
    interfaces: tuple[str, ...]
    holders: tuple[Holder, ...]
    entries: int
    unresolved: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = {"type": "forwarding", **self._asdict()}
        fields["holders"] = [one._asdict() for one in self.holders]
        return fields


class ForwardingInterface(NamedTuple):
    """An interface that takes part: a VIF (IPv4) or MIF (IPv6) and what passed it.

    `kind` is 'physical', 'tunnel' or 'register' (PIM's way to the rendezvous point).
    """

    family: str
    table: str
    vif: int
    iface: str
    ifindex: int | None
    kind: str
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"type": "forwarding_interface", **self._asdict()}


class Outgoing(NamedTuple):
    """An interface a datagram leaves by when its TTL exceeds `threshold`."""

    iface: str
    ifindex: int
    threshold: int


class ForwardingEntry(NamedTuple):
    """An entry of the forwarding cache, (S,G), (*,G) or (*,*) with 0.0.0.0 or :: for a star.

    `state` is 'resolved', or 'unresolved' while the daemon has not said where to; `wrong_iif`
    counts datagrams that came in by another interface; `idle_s` is the time since the last one.
    """

    family: str
    table: str
    source: str
    group: str
    iface: str | None
    ifindex: int | None
    oifs: tuple[Outgoing, ...]
    state: str
    packets: int | None
    bytes: int | None
    wrong_iif: int | None
    idle_s: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = {"type": "forwarding_entry", **self._asdict()}
        fields["oifs"] = [one._asdict() for one in self.oifs]
        return fields


class Querier(NamedTuple):
    """The querier a bridge knows for a family; `port` is None when it is the bridge itself."""

    family: str
    address: str
    port: str | None
    other_timer_s: float | None


class BridgePort(NamedTuple):
    """A port of a bridge: `router` is off, auto, always or learnt; `flood` takes the unknown."""

    iface: str
    ifindex: int
    state: str
    flood: bool | None
    router: str | None
    fast_leave: bool | None
    to_unicast: bool | None
    isolated: bool | None


class Bridge(NamedTuple):
    """A Linux bridge's dealings with multicast; times in seconds.

    Without snooping, or without any querier heard, it floods groups to every port with `flood`.
    `querier` says that it is told to ask itself; `queriers` who does.
    """

    iface: str
    ifindex: int
    snooping: bool | None
    querier: bool | None
    queriers: tuple[Querier, ...]
    igmp_version: int | None
    mld_version: int | None
    router: str | None
    query_interval_s: float | None
    membership_interval_s: float | None
    querier_interval_s: float | None
    ports: tuple[BridgePort, ...]
    router_ports: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = {"type": "bridge", **self._asdict()}
        fields["queriers"] = [one._asdict() for one in self.queriers]
        fields["ports"] = [one._asdict() for one in self.ports]
        return fields


class DatabaseEntry(NamedTuple):
    """An entry of a bridge's multicast database: `group` goes to `port`.

    `state` is 'permanent' or 'temp' (learnt); `group` may be a link-layer address. `flags` may
    hold offload, fast_leave, star_excl, blocked; `timer_s` is when a learnt entry ends.
    """

    bridge: str
    bridge_ifindex: int
    port: str
    port_ifindex: int
    group: str
    source: str | None
    vlan: int | None
    state: str
    flags: tuple[str, ...]
    mode: str | None
    sources: tuple[str, ...]
    timer_s: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"type": "mdb", **self._asdict()}

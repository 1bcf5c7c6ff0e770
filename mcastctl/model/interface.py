"""One interface as the host describes it."""

from typing import NamedTuple


class Address(NamedTuple):
    """An address of an interface: family 'ipv4' or 'ipv6', scope 'host', 'link' or 'global'.

    `zone` is what a link-local address needs behind its '%', None for others. `states` may hold
    tentative (duplicates are still looked for), dadfailed, deprecated, temporary and secondary.
    """

    family: str
    address: str
    prefixlen: int | None
    scope: str
    zone: str | None
    states: tuple[str, ...] = ()


class Interface(NamedTuple):
    """An interface; None where the host did not tell.

    `igmp_version` and `mld_version` are the versions in force, `rp_filter` the effective
    reverse-path filter: 0 off, 1 strict, 2 loose (Linux: the larger of 'all' and its own),
    `groups` what programs of this host and the kernel itself joined there. `kind` is what it is
    to a person (ethernet, wireless, bridge, veth, tunnel, vpn ...), `master` the bridge, bond or
    VRF it is in; `mc_forwarding` tells whether groups are routed from it.
    """

    name: str
    ifindex: int
    mtu: int | None
    mac: str | None
    up: bool | None
    carrier: bool | None
    multicast: bool | None
    loopback: bool | None
    point_to_point: bool | None
    addresses: tuple[Address, ...]
    igmp_version: int | None
    mld_version: int | None
    rp_filter: int | None
    groups: tuple[str, ...]
    counters: dict[str, int]
    kind: str | None = None
    master: str | None = None
    mc_forwarding: bool | None = None
    mc_forwarding6: bool | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = self._asdict()
        fields["index"] = fields.pop("ifindex")
        fields["groups"] = list(self.groups)
        fields["addresses"] = [
            one._asdict() | {"states": list(one.states)} for one in self.addresses
        ]
        six = sum(":" in group for group in self.groups)
        fields["memberships"] = {"ipv4": len(self.groups) - six, "ipv6": six}
        return {"type": "interface", "name": self.name, "index": self.ifindex} | fields

    def flags(self) -> list[str]:
        """Return the words for what is set."""
        named = {
            "up": self.up,
            "carrier": self.carrier,
            "no-carrier": self.up and self.carrier is False,
            "multicast": self.multicast,
            "loopback": self.loopback,
            "point-to-point": self.point_to_point,
        }
        found = [name for name, value in named.items() if value]
        if self.up is None:
            return ["unknown"]
        return found if self.up else ["down", *found]


class Rates(NamedTuple):
    """What passed an interface in one stretch of time, per second.

    `rx_multicast` counts datagrams to groups that the driver took in (it may count broadcast too);
    None as long as it has counted none at all.
    """

    ts_ns: int
    name: str
    ifindex: int
    elapsed_s: float
    rx_packets_per_s: float
    rx_bits_per_s: float
    rx_multicast_per_s: float | None
    rx_dropped: int
    tx_packets_per_s: float
    tx_bits_per_s: float
    tx_dropped: int

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = self._asdict()
        del fields["ts_ns"]
        return {"type": "interface_rates", "ts": round(self.ts_ns / 1e9, 6), **fields}


def rates(ts_ns: int, elapsed_s: float, before: Interface, now: Interface) -> Rates:
    """Return what passed between two looks; a counter that went back (a reset) counts as none."""

    def moved(name: str) -> int:
        return max(0, now.counters.get(name, 0) - before.counters.get(name, 0))

    def per_second(name: str, factor: int = 1) -> float:
        return round(moved(name) * factor / elapsed_s, 3)

    return Rates(
        ts_ns=ts_ns,
        name=now.name,
        ifindex=now.ifindex,
        elapsed_s=round(elapsed_s, 6),
        rx_packets_per_s=per_second("rx_packets"),
        rx_bits_per_s=per_second("rx_bytes", 8),
        # Some drivers count none, as that of lo; one that does has heard something since it is up.
        rx_multicast_per_s=per_second("rx_multicast") if now.counters.get("rx_multicast") else None,
        rx_dropped=moved("rx_dropped"),
        tx_packets_per_s=per_second("tx_packets"),
        tx_bits_per_s=per_second("tx_bytes", 8),
        tx_dropped=moved("tx_dropped"),
    )

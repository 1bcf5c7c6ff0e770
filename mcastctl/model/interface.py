"""One interface as the host describes it."""

from typing import NamedTuple


class Address(NamedTuple):
    """An address of an interface: family 'ipv4' or 'ipv6', scope 'host', 'link' or 'global'.

    `zone` is what a link-local address needs behind its '%', None for others.
    """

    family: str
    address: str
    prefixlen: int | None
    scope: str
    zone: str | None


class Interface(NamedTuple):
    """An interface; None where the host did not tell.

    `igmp_version` and `mld_version` are the versions in force, `rp_filter` the effective
    reverse-path filter: 0 off, 1 strict, 2 loose (Linux: the larger of 'all' and its own),
    `groups` what programs of this host and the kernel itself joined there.
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

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = self._asdict()
        fields["index"] = fields.pop("ifindex")
        fields["groups"] = list(self.groups)
        fields["addresses"] = [one._asdict() for one in self.addresses]
        return {"type": "interface", "name": self.name, "index": self.ifindex} | fields

    def flags(self) -> list[str]:
        """Return the words for what is set."""
        named = {
            "up": self.up,
            "carrier": self.carrier,
            "multicast": self.multicast,
            "loopback": self.loopback,
            "point-to-point": self.point_to_point,
        }
        found = [name for name, value in named.items() if value]
        if self.up is None:
            return ["unknown"]
        return found if self.up else ["down", *found]

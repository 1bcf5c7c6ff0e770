"""A network link as the kernel knows it: what kind of thing it is, and what that means."""

from typing import NamedTuple

_ETHERNET, _PPP, _LOOPBACK, _TUNNEL4, _TUNNEL6, _SIT, _GRE, _GRE6, _NONE = (
    *(1, 512, 772, 768, 769, 776, 778, 823),
    0xFFFE,
)
"""ARPHRD_* of <linux/if_arp.h>."""
_ROLES = {
    "wireguard": "vpn",
    "tun": "vpn",
    "xfrm": "vpn",
    "vti": "vpn",
    "vti6": "vpn",
    "ovpn": "vpn",
    "ipip": "tunnel",
    "ip6tnl": "tunnel",
    "sit": "tunnel",
    "gre": "tunnel",
    "gretap": "tunnel",
    "ip6gre": "tunnel",
    "ip6gretap": "tunnel",
    "vxlan": "tunnel",
    "geneve": "tunnel",
    "erspan": "tunnel",
}
_HARDWARE = {
    _ETHERNET: "ethernet",
    _PPP: "vpn",
    _LOOPBACK: "loopback",
    _TUNNEL4: "tunnel",
    _TUNNEL6: "tunnel",
    _SIT: "tunnel",
    _GRE: "tunnel",
    _GRE6: "tunnel",
    _NONE: "tunnel",
}


class LinkAddress(NamedTuple):
    """An address; `states` may hold tentative, dadfailed, deprecated, temporary, secondary."""

    address: str
    prefixlen: int
    states: tuple[str, ...]


class Link(NamedTuple):
    """A link: `kind` as the driver calls it (bridge, veth, vlan, tun ...), None for hardware.

    `hardware` is the ARPHRD number, `master` the index of the bridge, bond or VRF it is in.
    `flags` may hold up, carrier, multicast, loopback, point_to_point, all_multicast,
    promiscuous.
    """

    ifindex: int
    name: str
    kind: str | None
    hardware: int
    mtu: int | None
    master: int | None
    flags: frozenset[str]
    addresses: tuple[LinkAddress, ...]
    rx_multicast: int | None = None

    @property
    def role(self) -> str:
        """What the link is to a person: its kind, or ethernet, loopback, tunnel, vpn.

        A tun device may be anybody's; in practice it is a VPN's. With Ethernet it is a tap.
        """
        if self.kind == "tun" and self.hardware == _ETHERNET:
            return "tap"
        if self.kind in _ROLES:
            return _ROLES[self.kind]
        return self.kind or _HARDWARE.get(self.hardware, "other")

    def has_address(self, family: int) -> bool:
        """Tell whether it has a usable address of the family, 4 or 6."""
        return any(
            (":" in one.address) == (family == 6)
            and not {"tentative", "dadfailed"}.intersection(one.states)
            for one in self.addresses
        )

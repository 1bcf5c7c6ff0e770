"""Links and their addresses as rtnetlink has them: kind, state, master, flags. Linux only."""

import socket
import struct
import sys
from pathlib import Path
from typing import Any

from mcastctl.host import netlink
from mcastctl.model.link import Link, LinkAddress

_RTM_GETLINK, _RTM_GETADDR = 18, 22
_IFINFO = struct.Struct("=BBHiII")  # struct ifinfomsg, <linux/rtnetlink.h>
_IFADDR = struct.Struct("=BBBBI")  # struct ifaddrmsg, <linux/if_addr.h>
_FLAGS = {
    "up": 0x1,
    "loopback": 0x8,
    "point_to_point": 0x10,
    "multicast": 0x1000,
    "carrier": 0x10000,  # IFF_LOWER_UP
    "all_multicast": 0x200,
    "promiscuous": 0x100,
}
_STATES = {0x01: "secondary", 0x08: "dadfailed", 0x20: "deprecated", 0x40: "tentative"}
"""IFA_F_* of <linux/if_addr.h>; 0x01 means 'temporary' for IPv6 (RFC 8981)."""
_ADDRESS_FLAGS = 8  # IFA_FLAGS: 32 bits, where the header has 8


def links(connection: netlink.Netlink) -> dict[int, Link]:
    """Return every link of this network namespace by index, with its addresses."""
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    found = {}
    names = dict(socket.if_nameindex())  # as Python spells what is no UTF-8
    for _, message in connection.dump(_RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0, 0)):
        fields, attributes = netlink.decode(ifinfmsg, message)
        link = _link(fields, attributes)
        found[link.ifindex] = link._replace(name=names.get(link.ifindex, link.name))
    for index, address in _addresses(connection):
        if index in found:
            one = found[index]
            found[index] = one._replace(addresses=(*one.addresses, address))
    return found


def here() -> dict[int, Link]:
    """Return the links of this network namespace, empty where nobody can be asked."""
    if sys.platform != "linux":
        return {}
    try:
        with netlink.Netlink() as connection:
            return links(connection)
    except OSError:
        return {}


def is_wireless(link: Link) -> bool:
    """Tell whether a link is a radio's, by /sys where that shows this very interface.

    /sys shows the network namespace it was mounted in, which need not be ours.
    """
    folder = Path("/sys/class/net") / link.name
    try:
        index = (folder / "ifindex").read_text().strip()
    except (OSError, ValueError):
        return False
    return index == str(link.ifindex) and (folder / "phy80211").exists()


def _link(fields: dict[str, Any], attributes: dict[str, Any]) -> Link:
    info = dict(attributes.get("IFLA_LINKINFO", {"attrs": []})["attrs"])
    flags = fields["flags"]
    return Link(
        ifindex=fields["index"],
        name=str(attributes.get("IFLA_IFNAME", "")),
        kind=info.get("IFLA_INFO_KIND"),
        hardware=fields["ifi_type"],
        mtu=attributes.get("IFLA_MTU"),
        master=attributes.get("IFLA_MASTER"),
        flags=frozenset(name for name, bit in _FLAGS.items() if flags & bit),
        addresses=(),
        rx_multicast=(attributes.get("IFLA_STATS64") or {}).get("multicast"),
    )


def _addresses(connection: netlink.Netlink) -> list[tuple[int, LinkAddress]]:
    found = []
    for _, message in connection.dump(_RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
        if len(message) < 16 + _IFADDR.size:
            continue
        family, prefixlen, flags, _scope, index = _IFADDR.unpack_from(message, 16)
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        told = dict(netlink.attributes(message, 16 + _IFADDR.size))
        flags = netlink.number(told[_ADDRESS_FLAGS]) if _ADDRESS_FLAGS in told else flags
        raw = told.get(2) or told.get(1)  # IFA_LOCAL, IFA_ADDRESS (the peer's on a tunnel)
        if raw is None or len(raw) != (4 if family == socket.AF_INET else 16):
            continue
        states = tuple(word for bit, word in _STATES.items() if flags & bit)
        if family == socket.AF_INET6:
            states = tuple("temporary" if word == "secondary" else word for word in states)
        address = LinkAddress(socket.inet_ntop(family, raw), prefixlen, states)
        found.append((index, address))
    return found

"""What a link carries that decides about frames: XDP, macvlan mode, spanning tree, what is below.

And what it counted of others. From RTM_GETLINK (IFLA_XDP, IFLA_INFO_DATA, IFLA_LINK, IFLA_STATS64
of <linux/if_link.h>). Linux only.
"""

import struct
import sys
from typing import NamedTuple

from mcastctl.host import netlink

_RTM_GETLINK = 18
_IFINFO = struct.Struct("=BBHiII")  # struct ifinfomsg
_NAME, _LINK, _LINKINFO, _STATS64, _XDP = 3, 5, 18, 23, 43  # IFLA_*
_OTHERHOST_AT = 24 * 8  # rx_otherhost_dropped of struct rtnl_link_stats64, Linux 5.19
_INFO_KIND, _INFO_DATA, _XDP_ATTACHED, _XDP_PROGRAM, _MACVLAN_MODE = 1, 2, 2, 4, 1
_BRIDGE_STP = 5  # IFLA_BR_STP_STATE
_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}


class LinkDetails(NamedTuple):
    """`xdp` tells whether a program is attached, `mode` how macvlan siblings see each other.

    `below` is the index of the link underneath (macvlan, VLAN), 0 for none; it may be one of
    another network namespace. `program` is the id of the XDP program.
    `tree` tells whether a bridge speaks the spanning tree protocol.
    """

    xdp: bool
    mode: str | None
    below: int
    program: int = 0
    tree: bool = False


def read() -> dict[int, LinkDetails]:
    """Return the details of every link by index, empty where the kernel cannot be asked."""
    return dict(map(details, _links()))


def foreign() -> dict[str, int]:
    """Return how many frames IP threw away as somebody else's, as `dev.IF.rx_otherhost_dropped`.

    /proc/net/dev does not tell it.
    """
    found = {}
    for message in _links():
        told = dict(netlink.attributes(message, 16 + _IFINFO.size))
        name = told.get(_NAME, b"").rstrip(b"\0").decode(errors="replace")
        counted = told.get(_STATS64, b"")[_OTHERHOST_AT : _OTHERHOST_AT + 8]
        if len(counted) == 8:
            found[f"dev.{name}.rx_otherhost_dropped"] = int.from_bytes(counted, sys.byteorder)
    return found


def _links() -> list[bytes]:
    try:
        with netlink.Netlink() as connection:
            answers = connection.dump(_RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0, 0))
    except OSError:
        return []
    return [message for _, message in answers if len(message) >= 16 + _IFINFO.size]


def details(message: bytes) -> tuple[int, LinkDetails]:
    """Return index and details of one RTM_NEWLINK message."""
    index = _IFINFO.unpack_from(message, 16)[3]
    told = dict(netlink.attributes(message, 16 + _IFINFO.size))
    info = dict(netlink.attributes(told.get(_LINKINFO, b"")))
    kind = info.get(_INFO_KIND, b"").rstrip(b"\0")
    mode, data = None, dict[int, bytes]()
    if kind in (b"macvlan", b"macvtap", b"bridge"):
        data = dict(netlink.attributes(info.get(_INFO_DATA, b"")))
    if kind.startswith(b"macv"):
        mode = _MODES.get(netlink.number(data.get(_MACVLAN_MODE, b"")))
    xdp = dict(netlink.attributes(told.get(_XDP, b"")))
    program = netlink.number(xdp.get(_XDP_PROGRAM, b""))
    below = netlink.number(told.get(_LINK, b""))
    tree = kind == b"bridge" and netlink.number(data.get(_BRIDGE_STP, b"")) > 0
    return index, LinkDetails(any(xdp.get(_XDP_ATTACHED, b"\0")), mode, below, program, tree)

"""What the kernel announces about interfaces (rtnetlink(7)), as far as listening depends on it."""

import struct
from collections.abc import Iterator

from mcastctl.model.hearing import AddressNews, LinkGone, LinkState, News
from mcastctl.model.netlink import HEADER, attributes, messages, number

NEWLINK, DELLINK, GETLINK, NEWADDR, DELADDR = 16, 17, 18, 20, 21
"""RTM_ message types, <linux/rtnetlink.h>."""
IFINFO = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""
_IFADDR = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, length, flags, scope, index
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_INFO_SLAVE_KIND = 3, 4, 10, 18, 4
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000


def news(data: bytes) -> Iterator[News]:
    """Yield what one netlink datagram tells, in its order; other messages are passed over.

    A bridge tells of its ports in messages of the same types (family AF_BRIDGE): one that leaves
    the bridge is not gone.
    """
    for kind, message in messages(data):
        if kind in (NEWLINK, DELLINK) and len(message) >= HEADER.size + IFINFO.size:
            family, _, index, flags, _ = IFINFO.unpack_from(message, HEADER.size)
            if family != 0 or index <= 0:
                continue
            if kind == DELLINK:
                yield LinkGone(index)
                continue
            told = dict(attributes(message, HEADER.size + IFINFO.size))
            info = dict(attributes(told.get(_IFLA_LINKINFO, b""), 0))
            yield LinkState(
                index,
                _text(told.get(_IFLA_IFNAME, b"")),
                bool(flags & _IFF_UP),
                bool(flags & _IFF_LOWER_UP),
                number(told.get(_IFLA_MTU, b"")),
                number(told.get(_IFLA_MASTER, b"")),
                _text(info.get(_IFLA_INFO_SLAVE_KIND, b"")),
            )
        elif kind in (NEWADDR, DELADDR) and len(message) >= HEADER.size + _IFADDR.size:
            index = _IFADDR.unpack_from(message, HEADER.size)[4]
            told = dict(attributes(message, HEADER.size + _IFADDR.size))
            raw = told.get(_IFA_LOCAL, told.get(_IFA_ADDRESS, b""))
            yield AddressNews(index, raw, kind == NEWADDR)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="surrogateescape")

"""Link headers to the protocol they carry: Ethernet with tags, Linux cooked, raw IP, Wi-Fi.

Numbers are LINKTYPE_ values (https://www.tcpdump.org/linktypes.html) and EtherTypes.
"""

from collections.abc import Callable
from typing import NamedTuple

from mcastctl.decode import wifi, wrapped
from mcastctl.decode.cursor import Cursor, Fields, Malformed
from mcastctl.model import frame

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
VLAN, QINQ, OLD_QINQ = 0x8100, 0x88A8, 0x9100
PPPOE, MPLS, MPLS_MULTICAST = 0x8864, 0x8847, 0x8848
LLC = 0x0004
"""Pseudo EtherType of an 802.3 length (ETH_P_802_2 of linux/if_ether.h)."""
UNKNOWN = -1
"""No protocol can be told."""
WLAN = -2
"""A frame of Wi-Fi itself, or one that is encrypted."""

_MOST_TAGS = 8
_SNAP = b"\xaa\xaa\x03"
_ETHERTYPE_OUIS = (0x000000, 0x0000F8)
"""Organisations whose SNAP codes are EtherTypes: RFC 1042 and IEEE 802.1H."""
_MOST_WRAPS = 4
_VERSIONS = {4: IPV4, 6: IPV6}
_PPP = {0x0021: IPV4, 0x0057: IPV6}
_IPV6_FAMILIES = (10, 24, 28, 30)
"""AF_INET6 of Linux, the BSDs and macOS; a file keeps the number of the host that wrote it."""
_SLL_DIRECTIONS = {0: "in", 1: "in", 2: "in", 3: "in", 4: "out"}
_SLL_CASTS = {0: "unicast", 1: "broadcast", 2: "multicast", 3: "other host", 4: "sent by us"}


class Link(NamedTuple):
    """Where a frame's packet begins and what it is; `direction` where the header tells."""

    ethertype: int
    at: int
    direction: str = ""
    ifindex: int = 0


def mac(data: bytes) -> str:
    """Return '01:00:5e:00:00:01'."""
    return data.hex(":")


def decode(linktype: int, cursor: Cursor, fields: Fields) -> Link:
    """Return what the link header says, noting its addresses and tags in `fields`.

    Raises Short and Malformed; a link type nobody knows gives UNKNOWN.
    """
    direction, padded = "", False
    for _ in range(_MOST_WRAPS):
        unwrap = wrapped.READERS.get(linktype)
        if unwrap is None:
            break
        linktype, direction, padded = unwrap(cursor)
    if linktype == wrapped.IEEE802_11:
        clear = wifi.decode(cursor, fields, padded=padded)
        link = Link(_logical(cursor) if clear else WLAN, cursor.at)
    else:
        reader = _LINKS.get(linktype)
        link = reader(cursor, fields) if reader else Link(UNKNOWN, cursor.at)
    return link._replace(direction=direction) if direction else link


def _ethernet(cursor: Cursor, fields: Fields) -> Link:
    fields["eth_dst"] = mac(cursor.take(6))
    fields["eth_src"] = mac(cursor.take(6))
    return Link(_inside(cursor.u16(), cursor, fields), cursor.at)


def _inside(ethertype: int, cursor: Cursor, fields: Fields) -> int:
    """Return the EtherType behind tags and labels, leaving the cursor at its packet."""
    tags: list[int] = []
    while ethertype in (VLAN, QINQ, OLD_QINQ) and len(tags) < _MOST_TAGS:
        tags.append(cursor.u16() & 0x0FFF)
        fields["vlan"] = tags
        ethertype = cursor.u16()
    if ethertype == PPPOE:
        cursor.skip(6)
        return _PPP.get(cursor.u16(), PPPOE)
    if ethertype in (MPLS, MPLS_MULTICAST):
        return _labelled(cursor, fields)
    if ethertype <= 1500:
        return _logical(cursor)
    return ethertype


def _logical(cursor: Cursor) -> int:
    """Return what an 802.2 header carries; a SNAP code of an organisation has its OUI above it."""
    if cursor.data[cursor.at : cursor.at + 3] != _SNAP:
        return LLC
    cursor.skip(3)
    oui = int.from_bytes(cursor.take(3), "big")
    code = cursor.u16()
    return code if oui in _ETHERTYPE_OUIS else oui << 16 | code


def _labelled(cursor: Cursor, fields: Fields) -> int:
    """Pass MPLS labels (RFC 3032); what follows shows itself by its first nibble."""
    labels: list[int] = []
    fields["mpls"] = labels
    while len(labels) < _MOST_TAGS:
        entry = cursor.u32()
        labels.append(entry >> 12)
        if entry & 0x100:
            return _by_nibble(cursor)
    raise Malformed("MPLS labels without end")


def _by_nibble(cursor: Cursor) -> int:
    if not cursor.left:
        return UNKNOWN
    return _VERSIONS.get(cursor.data[cursor.at] >> 4, UNKNOWN)


def _raw(cursor: Cursor, fields: Fields) -> Link:
    return Link(_by_nibble(cursor), cursor.at)


def _null(cursor: Cursor, fields: Fields) -> Link:
    """Read a BSD loopback header: an address family in the byte order of whoever wrote it."""
    word = cursor.take(4)
    family = min(int.from_bytes(word, "big"), int.from_bytes(word, "little"))
    if family == 2:
        return Link(IPV4, cursor.at)
    return Link(IPV6 if family in _IPV6_FAMILIES else UNKNOWN, cursor.at)


def _ppp(cursor: Cursor, fields: Fields) -> Link:
    """Read PPP in HDLC-like framing, where address and protocol may be compressed (RFC 1662)."""
    if cursor.data[cursor.at : cursor.at + 2] == b"\xff\x03":
        cursor.skip(2)
    protocol = cursor.u8()
    if not protocol & 1:
        protocol = protocol << 8 | cursor.u8()
    return Link(_PPP.get(protocol, UNKNOWN), cursor.at)


def _directed_ppp(cursor: Cursor, fields: Fields) -> Link:
    sent = cursor.u8()
    return _ppp(cursor, fields)._replace(direction="out" if sent else "in")


def _pppoe(cursor: Cursor, fields: Fields) -> Link:
    return Link(_inside(PPPOE, cursor, fields), cursor.at)


def _c_hdlc(cursor: Cursor, fields: Fields) -> Link:
    cursor.skip(2)
    return Link(_inside(cursor.u16(), cursor, fields), cursor.at)


def _sll(cursor: Cursor, fields: Fields) -> Link:
    """Read a Linux cooked header (LINKTYPE_LINUX_SLL)."""
    kind = cursor.u16()
    cursor.skip(2)
    size = cursor.u16()
    address = cursor.take(8)[: min(size, 8)]
    ethertype = cursor.u16()
    fields["cast"] = _SLL_CASTS.get(kind)
    fields["eth_src"] = mac(address) if address else None
    return Link(_inside(ethertype, cursor, fields), cursor.at, _SLL_DIRECTIONS.get(kind, ""))


def _sll2(cursor: Cursor, fields: Fields) -> Link:
    """Read a Linux cooked header, version 2 (LINKTYPE_LINUX_SLL2)."""
    ethertype = cursor.u16()
    cursor.skip(2)
    ifindex = cursor.u32()
    cursor.skip(2)
    kind = cursor.u8()
    size = cursor.u8()
    address = cursor.take(8)[: min(size, 8)]
    fields["cast"] = _SLL_CASTS.get(kind)
    fields["eth_src"] = mac(address) if address else None
    direction = _SLL_DIRECTIONS.get(kind, "")
    return Link(_inside(ethertype, cursor, fields), cursor.at, direction, ifindex)


def _snapped(cursor: Cursor, fields: Fields) -> Link:
    return Link(_logical(cursor), cursor.at)


def _fddi(cursor: Cursor, fields: Fields) -> Link:
    cursor.skip(1)
    fields["eth_dst"], fields["eth_src"] = mac(cursor.take(6)), mac(cursor.take(6))
    return Link(_logical(cursor), cursor.at)


def _only(ethertype: int) -> Callable[[Cursor, Fields], Link]:
    return lambda cursor, fields: Link(ethertype, cursor.at)


_LINKS: dict[int, Callable[[Cursor, Fields], Link]] = {
    frame.NULL: _null,
    frame.LOOP: _null,
    frame.ETHERNET: _ethernet,
    frame.PPP: _ppp,
    10: _fddi,
    19: _snapped,  # LINKTYPE_ATM_CLIP
    100: _snapped,  # LINKTYPE_ATM_RFC1483
    50: _ppp,  # LINKTYPE_PPP_HDLC
    51: _pppoe,  # LINKTYPE_PPP_ETHER
    204: _directed_ppp,  # LINKTYPE_PPP_WITH_DIR
    frame.C_HDLC: _c_hdlc,
    frame.LINUX_SLL: _sll,
    frame.LINUX_SLL2: _sll2,
    frame.RAW: _raw,
    12: _raw,  # DLT_RAW where a writer did not map it
    14: _raw,
    frame.IPV4: _only(IPV4),
    frame.IPV6: _only(IPV6),
}

"""IPv4 and IPv6 headers with options, extension headers and fragments to addresses and payload.

RFC 791, RFC 8200; router alert: RFC 2113 and RFC 2711.
"""

from typing import NamedTuple

from mcastctl.decode import checksum
from mcastctl.decode.cursor import Cursor, Fields, Malformed, Short
from mcastctl.model.address import packed_text

HOP_BY_HOP, ICMP, IGMP, IPIP, TCP, UDP, IP6IP = 0, 1, 2, 4, 6, 17, 41
ROUTING, FRAGMENT, GRE, ESP, AH, ICMP6, NO_NEXT = 43, 44, 47, 50, 51, 58, 59
DESTINATION, EIGRP, OSPF, PIM, VRRP = 60, 88, 89, 103, 112
_EXTENSIONS = {
    HOP_BY_HOP: "hop-by-hop",
    ROUTING: "routing",
    DESTINATION: "destination",
    AH: "authentication",
    135: "mobility",
    139: "host-identity",
    140: "shim6",
}
_MOST_EXTENSIONS = 16
_OPTIONS = {0x07: "record-route", 0x44: "timestamp", 0x83: "loose-source-route", 0x86: "cipso"}
_OPTIONS |= {0x88: "stream-id", 0x89: "strict-source-route", 0x94: "router-alert"}


class Ip(NamedTuple):
    """One IP packet: packed addresses, the payload as far as it was captured.

    `length` is what the header says of the payload; `offset` is the place of this fragment in
    bytes, `more` that others follow, `ident` what ties them together.
    """

    src: bytes
    dst: bytes
    protocol: int
    ttl: int
    payload: bytes
    length: int
    ident: int = 0
    offset: int = 0
    more: bool = False

    @property
    def whole(self) -> bool:
        """Whether no part of the payload is missing."""
        return len(self.payload) >= self.length and not self.offset and not self.more


def decode(cursor: Cursor, fields: Fields) -> Ip:
    """Return the packet at the cursor, by its version. Raises Short and Malformed."""
    if not cursor.left:
        raise Short
    version = cursor.data[cursor.at] >> 4
    if version == 4:
        return decode4(cursor, fields)
    if version == 6:
        return decode6(cursor, fields)
    raise Malformed(f"IP version {version}")


def decode4(cursor: Cursor, fields: Fields) -> Ip:
    """Return the IPv4 packet at the cursor. Raises Short and Malformed."""
    start = cursor.at
    head = cursor.take(20)
    size = 4 * (head[0] & 0x0F)
    if head[0] >> 4 != 4 or size < 20:
        raise Malformed(f"IPv4 header begins with 0x{head[0]:02x}")
    total = int.from_bytes(head[2:4], "big")
    flags = int.from_bytes(head[6:8], "big")
    fields["dscp"] = head[1] >> 2
    fields["ip_id"] = ident = int.from_bytes(head[4:6], "big")
    if flags & 0x4000:
        fields["dont_fragment"] = True
    offset, more = 8 * (flags & 0x1FFF), bool(flags & 0x2000)
    if offset or more:
        fields["fragment"] = {"offset": offset, "more": more}
    if size > 20:
        _options(cursor.take(size - 20), fields)
    if not checksum.is_right(cursor.data[start : start + size]):
        fields["ip_checksum_ok"] = False
    total = total or cursor.end - start  # segmentation is left to the card: no length yet
    if total < size:
        raise Malformed(f"IPv4 length {total} is shorter than its header")
    stop = min(start + total, cursor.end)
    payload = cursor.data[cursor.at : stop]
    src, dst = head[12:16], head[16:20]
    return Ip(src, dst, head[9], head[8], payload, total - size, ident, offset, more)


def _options(data: bytes, fields: Fields) -> None:
    """Name the options of an IPv4 header."""
    names: list[str] = []
    fields["ip_options"] = names
    at = 0
    while at < len(data) and data[at] != 0:
        if data[at] == 1:
            at += 1
            continue
        names.append(_OPTIONS.get(data[at], f"option-{data[at]}"))
        size = data[at + 1] if at + 1 < len(data) else 0
        if size < 2:
            fields["malformed"] = "IPv4 option without a length"
            break
        at += size
    if "router-alert" in names:
        fields["router_alert"] = True


def decode6(cursor: Cursor, fields: Fields) -> Ip:
    """Return the IPv6 packet at the cursor. Raises Short and Malformed."""
    head = cursor.take(40)
    if head[0] >> 4 != 6:
        raise Malformed(f"IPv6 header begins with 0x{head[0]:02x}")
    length = int.from_bytes(head[4:6], "big")
    fields["dscp"] = (int.from_bytes(head[:2], "big") >> 6) & 0x3F
    flow = int.from_bytes(head[1:4], "big") & 0xFFFFF
    if flow:
        fields["flow_label"] = flow
    start = cursor.at
    length = length or cursor.left  # a jumbogram, or segmentation left to the card
    cursor.end = min(cursor.end, start + length)
    packet = Ip(head[8:24], head[24:40], head[6], head[7], b"", 0)
    packet = _extensions(packet, cursor, fields)
    return packet._replace(
        payload=cursor.data[cursor.at : cursor.end], length=length - (cursor.at - start)
    )


def _extensions(packet: Ip, cursor: Cursor, fields: Fields) -> Ip:
    """Walk the extension headers; a fragment ends the walk, for the rest is in pieces."""
    seen: list[str] = []
    for _ in range(_MOST_EXTENSIONS):
        following = packet.protocol
        if following == FRAGMENT:
            protocol = cursor.u8()
            cursor.skip(1)
            word = cursor.u16()
            ident = cursor.u32()
            offset, more = word & 0xFFF8, bool(word & 1)
            fields["fragment"] = {"offset": offset, "more": more}
            packet = packet._replace(protocol=protocol, ident=ident, offset=offset, more=more)
            if offset or more:
                return packet
        elif following in _EXTENSIONS:
            seen.append(_EXTENSIONS[following])
            fields["extension_headers"] = seen
            packet = packet._replace(protocol=_extension(following, cursor, fields))
        else:
            return packet
    raise Malformed("IPv6 extension headers without end")


def whole6(packet: Ip, fields: Fields) -> Ip:
    """Return a packet put together from fragments without its remaining extension headers."""
    cursor = Cursor(packet.payload)
    packet = _extensions(packet, cursor, fields)
    rest = cursor.rest()
    return packet._replace(payload=rest, length=len(rest))


def _extension(kind: int, cursor: Cursor, fields: Fields) -> int:
    """Pass one extension header; return what follows it."""
    following = cursor.u8()
    units = cursor.u8()
    body = cursor.take(4 * units + 2 if kind == AH else 8 * units + 6)
    at = 0
    while kind == HOP_BY_HOP and at + 1 < len(body):
        if body[at] == 0:
            at += 1
            continue
        if body[at] == 5:
            fields["router_alert"] = True
        at += 2 + body[at + 1]
    return following


def text(address: bytes) -> str:
    """Return a packed address as text."""
    return packed_text(address)

"""Frames to what a diagnosis asks of the wire: flows, control messages, copies. Pure."""

from collections import Counter
from typing import Any, NamedTuple

from mcastctl.decode import igmp, ip, link, mld
from mcastctl.decode.cursor import Cursor, Malformed, Short
from mcastctl.model.address import is_multicast
from mcastctl.model.frame import ETHERNET, RAW

_LINKTYPES = {1: ETHERNET, 772: ETHERNET, 65534: RAW, 768: RAW, 769: RAW, 776: RAW, 778: RAW}
"""What frames of these ARPHRD_ numbers begin with."""
_MOST_COPIES = 5000


class Flow(NamedTuple):
    """Datagrams alike: where seen, which way ('in', 'out'), headers.

    `cast` is 'other' for frames with somebody else's link-layer address; `fragment` is '' for
    a whole datagram, 'first' or 'later' for a part (then without ports, if later).
    """

    iface: str
    direction: str
    cast: str
    src: str
    dst: str
    sport: int | None
    dport: int | None
    ttl: int
    fragment: str


class Control(NamedTuple):
    """IGMP and MLD messages alike; `group` of one record, '' for a general query."""

    iface: str
    direction: str
    kind: str
    version: int
    src: str
    group: str


class Wire:
    """What was seen: counts of flows and control messages."""

    def __init__(self) -> None:
        self.flows: Counter[Flow] = Counter()
        self.control: Counter[Control] = Counter()
        self.copies: Counter[tuple[str, ...]] = Counter()
        """How many datagrams came in by these several interfaces."""
        self._seen: dict[bytes, set[str]] = {}

    def take(self, iface: str, cast: str, hatype: int, data: bytes) -> None:
        """Note one frame; what is damaged counts as far as it can be read."""
        linktype = _LINKTYPES.get(hatype, ETHERNET)
        fields: dict[str, Any] = {}
        try:
            cursor = Cursor(data)
            header = link.decode(linktype, cursor, fields)
            if header.ethertype == link.IPV4:
                packet = ip.decode4(cursor, fields)
            elif header.ethertype == link.IPV6:
                packet = ip.decode6(cursor, fields)
            else:
                return
            self._packet(iface, cast, packet)
        except (Short, Malformed):
            return

    def _packet(self, iface: str, cast: str, packet: ip.Ip) -> None:
        direction = "out" if cast == "out" else "in"
        src, dst = ip.text(packet.src), ip.text(packet.dst)
        if packet.protocol in (ip.IGMP, ip.ICMP6):
            self._control(iface, direction, packet, src)
        elif packet.protocol == ip.UDP and is_multicast(dst):
            fragment = "later" if packet.offset else "first" if packet.more else ""
            sport = dport = None
            if not packet.offset and len(packet.payload) >= 4:
                sport = int.from_bytes(packet.payload[:2])
                dport = int.from_bytes(packet.payload[2:4])
            odd = "other" if cast == "other" else ""
            flow = Flow(iface, direction, odd, src, dst, sport, dport, packet.ttl, fragment)
            self.flows[flow] += 1
            if direction == "in" and not packet.offset:
                self._copy(iface, packet)

    def _copy(self, iface: str, packet: ip.Ip) -> None:
        """Note that a datagram came by one more interface."""
        key = packet.src + packet.dst + packet.payload[:256] + packet.ident.to_bytes(4)
        if key in self._seen:
            self._seen[key].add(iface)
        elif len(self._seen) < _MOST_COPIES:
            self._seen[key] = {iface}

    def settle(self) -> None:
        """Count the copies, when nothing more comes."""
        places = (tuple(sorted(one)) for one in self._seen.values() if len(one) > 1)
        self.copies = Counter(places)

    def _control(self, iface: str, direction: str, packet: ip.Ip, src: str) -> None:
        fields: dict[str, Any] = {}
        try:
            if packet.protocol == ip.IGMP:
                igmp.decode(packet.payload, fields, packet.dst, packet.length, whole=False)
            else:
                mld.decode(packet.payload, fields, b"", packet.length, whole=False)
        except Short:
            pass  # what was noted before it ends counts
        kind = fields.get("type")
        if kind not in ("query", "report", "leave", "done"):
            return
        version = int(fields.get("version", 0))
        groups = [one["group"] for one in fields.get("records", ()) if one["group"]]
        named = groups or [fields.get("group") or ""]
        for group in named:
            plain = "" if group in ("0.0.0.0", "::") else group  # noqa: S104
            self.control[Control(iface, direction, kind, version, src, plain)] += 1

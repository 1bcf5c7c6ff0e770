"""The table of protocols: which decoder reads what, and which words sum it up."""

from collections.abc import Callable
from functools import partial

from mcastctl.decode import (
    announce,
    checksum,
    dns,
    gateways,
    igmp,
    ip,
    link,
    mld,
    others,
    pim,
    pim1,
    ptp,
    routers,
    stream,
    udp,
    vrrp,
)
from mcastctl.decode.cursor import Fields
from mcastctl.decode.draft import Draft
from mcastctl.decode.ip import Ip

_INFO: dict[str, Callable[[Fields], str]] = {
    "igmp": igmp.info,
    "mld": mld.info,
    "icmp6": mld.info,
    "icmp": others.icmp_info,
    "pim": pim.info,
    "vrrp": vrrp.info,
    "mdns": lambda fields: f"mdns {dns.info(fields)}",
    "llmnr": lambda fields: f"llmnr {dns.info(fields)}",
    "sap": announce.sap_info,
    "ssdp": announce.ssdp_info,
    "hsrp": partial(gateways.info, "hsrp"),
    "glbp": partial(gateways.info, "glbp"),
    "ospf": routers.ospf_info,
    "eigrp": routers.eigrp_info,
    "rip": partial(routers.rip_info, "rip"),
    "ripng": partial(routers.rip_info, "ripng"),
    "ptp": ptp.info,
}
Reader = Callable[[bytes, Fields], None]


def _deep(name: str, head: Reader) -> Reader:
    """Return a decoder of the head that leaves the rest to scapy, imported then."""

    def decode(data: bytes, fields: Fields) -> None:
        from mcastctl.decode import deep

        try:
            head(data, fields)
        finally:
            found = deep.summarise(name, data)
            if found is not None:
                fields["summary"] = found[0]
                fields |= found[1]

    return decode


_PTP = ("ptp", _deep("ptp", ptp.decode))
_HSRP = ("hsrp", _deep("hsrp", gateways.hsrp))
_APPLICATIONS: dict[int, tuple[str, Reader]] = {
    1900: ("ssdp", announce.ssdp),
    5353: ("mdns", dns.decode),
    5355: ("llmnr", dns.decode),
    9875: ("sap", announce.sap),
    319: _PTP,
    320: _PTP,
    520: ("rip", _deep("rip", routers.rip)),
    521: ("ripng", _deep("ripng", routers.ripng)),
    1985: _HSRP,
    2029: _HSRP,
    3222: ("glbp", gateways.glbp),
}
"""What speaks on a well-known UDP port: name and decoder."""
_ON_LINKS: dict[int, tuple[str, Reader]] = {0x88F7: _PTP}
"""What speaks without IP, by EtherType, and is looked into."""


_PIM_1 = bytes((igmp.PIM_V1,))
_ENOUGH = 32
"""Bytes of a payload that hold the header of any numbered stream."""


def on_link(code: int, data: bytes, draft: Draft) -> None:
    """Decode or name what rides on the link itself. Raises Short and Malformed."""
    known = _ON_LINKS.get(code)
    if known is None:
        draft.proto = others.ETHERTYPES.get(code, f"ethertype-0x{code:04x}")
        return
    draft.proto = known[0]
    known[1](data, draft.fields)


def transport(packet: Ip, draft: Draft) -> None:
    """Decode what an unfragmented IP packet carries. Raises Short and Malformed."""
    reader = _TRANSPORTS.get(packet.protocol)
    if reader is not None:
        reader(packet, draft)
        return
    draft.proto = others.IP_PROTOCOLS.get(packet.protocol, f"ip-proto-{packet.protocol}")


def fragment(packet: Ip, draft: Draft) -> None:
    """Say of one fragment what can be said without the others."""
    names = {ip.UDP: "udp", ip.IGMP: "igmp", ip.PIM: "pim", ip.OSPF: "ospf"}
    draft.proto = names.get(packet.protocol, "ip" if draft.family == 4 else "ip6")
    if packet.protocol == ip.UDP and not packet.offset and len(packet.payload) >= 8:
        draft.sport = int.from_bytes(packet.payload[:2], "big")
        draft.dport = int.from_bytes(packet.payload[2:4], "big")
    more = "+" if packet.more else ""
    draft.info = (
        f"fragment of {draft.proto} (id {packet.ident}, {packet.length}@{packet.offset}{more})"
    )


def tunnelled(packet: Ip) -> tuple[int, bytes] | None:
    """Return EtherType and bytes of an IP packet carried inside this one (RFC 2003, 2784)."""
    if packet.protocol == ip.IPIP:
        return link.IPV4, packet.payload
    if packet.protocol == ip.IP6IP:
        return link.IPV6, packet.payload
    if packet.protocol == ip.GRE and len(packet.payload) >= 4:
        flags = int.from_bytes(packet.payload[:2], "big")
        ethertype = int.from_bytes(packet.payload[2:4], "big")
        at = 4 + 4 * sum(bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000))
        if ethertype in (link.IPV4, link.IPV6) and not flags & 0x4007:
            return ethertype, packet.payload[at:]
    return None


def _pseudo(packet: Ip, length: int) -> bytes:
    return checksum.pseudo_header(packet.src, packet.dst, packet.protocol, length)


def _igmp(packet: Ip, draft: Draft) -> None:
    draft.proto = "pim" if packet.payload[:1] == _PIM_1 else "igmp"
    if draft.proto == "pim":
        pim1.decode(packet.payload, draft.fields, whole=packet.whole)
        return
    igmp.decode(packet.payload, draft.fields, packet.dst, packet.length, whole=packet.whole)


def _icmp6(packet: Ip, draft: Draft) -> None:
    code = packet.payload[0] if packet.payload else 0
    draft.proto = "mld" if mld.is_mld(code) else "icmp6"
    pseudo = _pseudo(packet, packet.length)
    mld.decode(packet.payload, draft.fields, pseudo, packet.length, whole=packet.whole)


def _pim(packet: Ip, draft: Draft) -> None:
    draft.proto = "pim"
    pseudo = _pseudo(packet, packet.length) if draft.family == 6 else b""
    pim.decode(packet.payload, draft.fields, pseudo, whole=packet.whole)


def _vrrp(packet: Ip, draft: Draft) -> None:
    draft.proto = "vrrp"
    pseudo = _pseudo(packet, packet.length)
    vrrp.decode(packet.payload, draft.fields, pseudo, whole=packet.whole)


def _ospf(packet: Ip, draft: Draft) -> None:
    draft.proto = "ospf"
    name = "ospf" if draft.family == 4 else "ospf6"
    draft.fields["checksum_ok"] = None
    if packet.whole:
        pseudo = _pseudo(packet, packet.length)
        draft.fields["checksum_ok"] = routers.ospf_checksum(packet.payload, pseudo)
    _deep(name, routers.ospf)(packet.payload, draft.fields)


def _eigrp(packet: Ip, draft: Draft) -> None:
    draft.proto = "eigrp"
    draft.fields["checksum_ok"] = checksum.is_right(packet.payload) if packet.whole else None
    _deep("eigrp", routers.eigrp)(packet.payload, draft.fields)


def _icmp(packet: Ip, draft: Draft) -> None:
    draft.proto = "icmp"
    others.icmp(packet.payload, draft.fields)


def _tcp(packet: Ip, draft: Draft) -> None:
    others.tcp(packet.payload, draft)


def _udp(packet: Ip, draft: Draft) -> None:
    draft.proto = "udp"
    claimed = int.from_bytes(packet.payload[4:6], "big")
    pseudo = _pseudo(packet, claimed or packet.length)
    found: Fields = {}
    try:
        datagram = udp.decode(packet.payload, found, pseudo, packet.length)
    finally:
        draft.sport, draft.dport = found.pop("sport", None), found.pop("dport", None)
        draft.fields |= found
    draft.payload, draft.payload_length = datagram.payload, datagram.length
    draft.fields["payload_length"] = datagram.length
    known = _APPLICATIONS.get(datagram.dport) or _APPLICATIONS.get(datagram.sport)
    if known is not None:
        draft.proto = known[0]
        known[1](datagram.payload, draft.fields)
    elif len(datagram.payload) >= min(datagram.length, _ENOUGH):
        # Cut by the snap length or not: numbers stand in front.
        draft.mark = stream.recognise(datagram.payload.ljust(datagram.length, b"\0"))


_TRANSPORTS: dict[int, Callable[[Ip, Draft], None]] = {
    ip.IGMP: _igmp,
    ip.ICMP6: _icmp6,
    ip.PIM: _pim,
    ip.VRRP: _vrrp,
    ip.OSPF: _ospf,
    ip.EIGRP: _eigrp,
    ip.ICMP: _icmp,
    ip.TCP: _tcp,
    ip.UDP: _udp,
}


def is_plain(sport: int, dport: int) -> bool:
    """Tell whether a datagram between these ports is data, not a protocol of its own."""
    return sport not in _APPLICATIONS and dport not in _APPLICATIONS


def info(draft: Draft) -> str:
    """Return what a packet says in a few words, and what is wrong with it."""
    fields = draft.fields
    said = draft.info
    if not said and draft.proto in _INFO:
        said = _INFO[draft.proto](fields)
    elif not said and "summary" in fields:
        said = f"{draft.proto} {fields['summary']}"
    elif not said and draft.payload_length == fields.get("payload_length", -1):
        said = f"UDP, length {draft.payload_length}"
    said = said or draft.proto
    if "malformed" in fields:
        return f"{said} [malformed: {fields['malformed']}]"
    return f"{said} [truncated]" if "truncated" in fields and not draft.payload else said

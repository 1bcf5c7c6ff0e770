"""What is no multicast but stands in every capture: ARP, ICMP, TCP, LLC; names, not more."""

from mcastctl.decode import ip
from mcastctl.decode.cursor import Cursor, Fields
from mcastctl.decode.draft import Draft
from mcastctl.decode.link import mac

_ICMP = {
    0: "echo reply",
    3: "unreachable",
    4: "source quench",
    5: "redirect",
    8: "echo request",
    9: "router advertisement",
    10: "router solicitation",
    11: "time exceeded",
    12: "parameter problem",
}
_TCP_FLAGS = "FSRP.UEW"
_SAPS = {0x42: "stp", 0xE0: "ipx", 0xF0: "netbeui", 0xFE: "isis"}

_CISCO = 0x0C << 16
ETHERTYPES = {
    -2: "wlan",
    0x0806: "arp",
    0x8035: "rarp",
    0x22F0: "avtp",
    0x8809: "lacp",
    0x8863: "pppoe-discovery",
    0x8864: "pppoe",
    0x888E: "eapol",
    0x88CC: "lldp",
    0x88F5: "mvrp",
    0x88F6: "mmrp",
    0x88F7: "ptp",
    0x9000: "loopback",
    _CISCO | 0x0104: "port-aggregation",
    _CISCO | 0x010B: "stp",
    _CISCO | 0x0111: "udld",
    _CISCO | 0x2000: "cdp",
    _CISCO | 0x2003: "vtp",
    _CISCO | 0x2004: "dtp",
}
"""Protocols that ride on the link itself, by what `link.decode` finds."""

IP_PROTOCOLS = {
    ip.ESP: "esp",
    ip.AH: "ah",
    ip.GRE: "gre",
    ip.NO_NEXT: "no-next-header",
    8: "egp",
    27: "rdp",
    33: "dccp",
    113: "pgm",
    115: "l2tp",
    132: "sctp",
    136: "udplite",
}
"""Names of IP protocols (assigned protocol numbers) that are named and no more."""


def arp(data: bytes, draft: Draft) -> None:
    """Note who asks for which address (RFC 826)."""
    draft.proto = "arp"
    cursor = Cursor(data)
    kinds = cursor.take(6)
    operation = cursor.u16()
    if kinds != b"\0\1\x08\0\6\4":
        draft.info = f"arp operation {operation}"
        return
    sender = mac(cursor.take(6))
    draft.src = cursor.ipv4()
    cursor.skip(6)
    draft.dst = cursor.ipv4()
    asks = operation == 1
    draft.fields["operation"] = operation
    who = f"who-has {draft.dst} tell {draft.src}"
    draft.info = who if asks else f"{draft.src} is-at {sender}"


def llc(data: bytes, draft: Draft) -> None:
    """Name what an 802.2 header carries."""
    cursor = Cursor(data)
    draft.proto = _SAPS.get(cursor.u8(), "llc")


def icmp(data: bytes, fields: Fields) -> None:
    """Note type and code (RFC 792)."""
    cursor = Cursor(data)
    code = cursor.u8()
    fields["type"] = _ICMP.get(code, f"type {code}")
    fields["type_code"] = code
    fields["code"] = cursor.u8()


def icmp_info(fields: Fields) -> str:
    """Return the type in words."""
    return f"icmp {fields.get('type', '')}"


def tcp(data: bytes, draft: Draft) -> None:
    """Note ports and flags (RFC 9293)."""
    cursor = Cursor(data)
    draft.proto = "tcp"
    draft.sport, draft.dport = cursor.u16(), cursor.u16()
    cursor.skip(8)
    size = 4 * (cursor.u8() >> 4)
    bits = cursor.u8()
    flags = "".join(name for at, name in enumerate(_TCP_FLAGS) if bits >> at & 1) or "none"
    draft.fields["flags"] = flags
    draft.info = f"Flags [{flags}], length {max(len(data) - size, 0)}"

"""What the number of a group says: scope, TTL, Ethernet address, block, name, and who is meant."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import NamedTuple

from mcastctl.model import registry
from mcastctl.model.address import family, is_ssm, scope6

_MAC4, _MAC6 = "01:00:5e", "33:33"
_HIGH_BITS = [(first << 24) | (bit << 23) for first in range(224, 240) for bit in (0, 1)]
"""The five bits of an IPv4 group that its Ethernet address leaves out (RFC 1112 section 6.4)."""


class Meaning(NamedTuple):
    """What a group's address alone tells.

    `ttl_needed` is the least TTL or hop limit that reaches the scope: 0 for interface-local
    groups, 1 on the link, 2 where a router is on the way (one more for each further one).
    `ethernet_shared` are the other IPv4 groups with the same Ethernet address, `ethernet_pattern`
    says it for IPv6, where they are 2^80.
    """

    scope: str
    ttl_needed: int
    ethernet: str
    ethernet_shared: tuple[str, ...]
    ethernet_pattern: str | None
    block: str
    reference: str
    name: str | None
    ssm: bool
    glop_as: int | None
    unicast_prefix: str | None
    rendezvous_point: str | None


def describe(group: str) -> Meaning:
    """Return what is known of a group (canonical text without a zone)."""
    return _describe6(group) if family(group) == 6 else _describe4(group)


def ethernet(group: str) -> str:
    """Return the Ethernet address of a group (RFC 1112 section 6.4, RFC 2464 section 7)."""
    if family(group) == 6:
        return f"{_MAC6}:{IPv6Address(group).packed[12:].hex(':')}"
    packed = IPv4Address(group).packed
    return f"{_MAC4}:{bytes([packed[1] & 0x7F, *packed[2:]]).hex(':')}"


def solicited_node(address: str) -> str:
    """Return the solicited-node group of an IPv6 address (RFC 4291 section 2.7.1)."""
    tail = IPv6Address(address).packed[13:]
    return str(IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + tail))


def _describe4(group: str) -> Meaning:
    value = IPv4Address(group)
    packed = value.packed
    block, reference = next(
        (name, reference)
        for network, name, reference in registry.BLOCKS4
        if value in IPv4Network(network)
    )
    scope = _scope4(packed)
    low = int(value) & 0x7FFFFF
    shared = (str(IPv4Address(high | low)) for high in _HIGH_BITS)
    glop = int.from_bytes(packed[1:3]) if packed[0] == 233 and packed[1] < 252 else None
    prefix = f"{packed[1]}.{packed[2]}.{packed[3]}.0/24" if packed[0] == 234 else None
    return Meaning(
        scope=scope,
        ttl_needed=1 if scope == "link-local" else 2,
        ethernet=ethernet(group),
        ethernet_shared=tuple(one for one in shared if one != group),
        ethernet_pattern=None,
        block=block,
        reference=reference,
        name=registry.NAMES4.get(group),
        ssm=is_ssm(group),
        glop_as=glop,
        unicast_prefix=prefix,
        rendezvous_point=None,
    )


def _scope4(packed: bytes) -> str:
    """Return the name RFC 2365 and RFC 5771 give the range."""
    if packed[:3] == bytes([224, 0, 0]):
        return "link-local"
    if packed[0] != 239:
        return "global"
    if packed[1] == 255:
        return "site-local"
    return "organization-local" if 192 <= packed[1] <= 195 else "administrative"


def _describe6(group: str) -> Meaning:
    value = IPv6Address(group)
    packed = value.packed
    number = scope6(group) or 0
    flags = packed[1] >> 4
    prefixed = flags & 0b0011 == 0b0011  # P, and with it T (RFC 3306 section 4)
    embedded = flags & 0b0111 == 0b0111  # R as well (RFC 3956 section 2)
    prefix = _prefix(packed) if prefixed and packed[3] else None
    mac = ethernet(group)
    return Meaning(
        scope=registry.SCOPES6.get(number, "unassigned"),
        ttl_needed=0 if number == 1 else 1 if number == 2 else 2,
        ethernet=mac,
        ethernet_shared=(),
        ethernet_pattern=f"every IPv6 group that ends in {packed[12:14].hex()}:{packed[14:].hex()}",
        block=_block6(group, flags, prefixed, embedded),
        reference=_reference6(group, prefixed, embedded),
        name=_name6(packed, flags),
        ssm=is_ssm(group),
        glop_as=None,
        unicast_prefix=prefix,
        rendezvous_point=_rendezvous(packed) if embedded else None,
    )


def _block6(group: str, flags: int, prefixed: bool, embedded: bool) -> str:
    if is_ssm(group):
        return "Source-Specific Multicast Block"
    if embedded:
        return "Unicast-Prefix-based IPv6 Multicast with embedded RP"
    if prefixed:
        return "Unicast-Prefix-based IPv6 Multicast"
    return "Transient groups" if flags & 1 else "Permanently assigned groups"


def _reference6(group: str, prefixed: bool, embedded: bool) -> str:
    if is_ssm(group):
        return "RFC 4607"
    return "RFC 3956" if embedded else "RFC 3306" if prefixed else "RFC 4291"


def _name6(packed: bytes, flags: int) -> str | None:
    if flags:
        return None
    if packed[1] == 0x02 and packed[2:13] == bytes(9) + b"\x01\xff":
        return f"solicited-node group of addresses that end in {packed[13:].hex()}"
    return registry.NAMES6.get(int.from_bytes(packed[2:]))


def _prefix(packed: bytes) -> str | None:
    """Return the unicast prefix in a group: length in byte 3, bits from byte 4 (RFC 3306)."""
    length = packed[3]
    if length > 64:
        return None
    bits = int.from_bytes(packed[4:12]) >> (64 - length) << (64 - length)
    return f"{IPv6Address(bits << 64)}/{length}"


def _rendezvous(packed: bytes) -> str | None:
    """Return the embedded rendezvous point: the prefix, then RIID as last nibble (RFC 3956)."""
    length, riid = packed[3], packed[2] & 0x0F
    if not 0 < length <= 64 or not riid:
        return None
    bits = int.from_bytes(packed[4:12]) >> (64 - length) << (64 - length)
    return str(IPv6Address((bits << 64) | riid))

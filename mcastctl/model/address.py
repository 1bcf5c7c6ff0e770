"""Group addresses: family, scope, and what the number alone says about a group.

Addresses travel as canonical text ('239.1.1.1', 'ff02::123') without a zone; the zone is
an interface and is kept beside the address.
"""

import re
from functools import lru_cache

from mcastctl.model.errors import AddressError

INTERFACE_LOCAL = 1
LINK_LOCAL = 2
"""IPv6 multicast scopes (RFC 4291 section 2.7, RFC 7346)."""

_KNOWN = 1024
"""Addresses whose answers are remembered: the same few are asked about for each datagram."""

GROUP_HINT = "write a group such as 239.1.1.1:5004 or [ff15::42]:5004; names are not resolved"
HOST_HINT = "write an address such as 192.0.2.7 or 2001:db8::7; names are not resolved"


_DOTTED = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}", re.ASCII)


def _packed6(address: str) -> bytes:
    from ipaddress import IPv6Address  # a millisecond that IPv4 need not spend

    return IPv6Address(address).packed


def canonical(text: str, hint: str = GROUP_HINT) -> str:
    """Return the canonical spelling of an IPv4 or IPv6 address given without a zone.

    Raises AddressError with `hint`; nothing that only inet_aton would accept passes.
    """
    if _DOTTED.fullmatch(text):
        return text
    from ipaddress import IPv6Address

    try:
        return str(IPv6Address(text))
    except ValueError:
        raise AddressError(f"'{text}' is not an IP address", hint=hint) from None


@lru_cache(maxsize=4096)
def packed_text(packed: bytes) -> str:
    """Return the text of 4 or 16 address bytes (RFC 5952; inet_ntop's form of embedded IPv4)."""
    if len(packed) == 4:
        return "{}.{}.{}.{}".format(*packed)
    if packed[:12] == b"\0" * 10 + b"\xff\xff":  # older Pythons print hexadecimal digits
        return "::ffff:{}.{}.{}.{}".format(*packed[12:])
    from ipaddress import IPv6Address

    return str(IPv6Address(packed))


def family(address: str) -> int:
    """Return 4 or 6 for a canonical address."""
    return 6 if ":" in address else 4


def host_port(host: str, port: int) -> str:
    """Return '10.0.0.1:5004' or '[ff15::42]:5004'."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(_KNOWN)
def is_multicast(address: str) -> bool:
    """Tell whether a canonical address is a group (RFC 5771, RFC 4291 section 2.7)."""
    if family(address) == 6:  # newer Pythons take ::ffff:239.1.1.1 for a group; no kernel does
        return _packed6(address)[0] == 0xFF
    return 224 <= int(address.partition(".")[0]) < 240


@lru_cache(_KNOWN)
def can_be_source(address: str) -> bool:
    """Tell whether a datagram may come from this address: one host's, not a group's."""
    nobody = ("0.0.0.0", "255.255.255.255", "::")  # noqa: S104
    return address not in nobody and not is_multicast(address)


def scope6(group: str) -> int | None:
    """Return the scope nibble of an IPv6 group, None for IPv4."""
    if family(group) == 4:
        return None
    return _packed6(group)[1] & 0x0F


@lru_cache(_KNOWN)
def keeps_zone(address: str) -> bool:
    """Tell whether a scope id belongs into the socket address of this group or host.

    Only interface-local and link-local groups and link-local hosts are ambiguous without one
    (RFC 4007); a wider group takes the zone as a choice of interface and nothing more.
    """
    if is_multicast(address):
        return scope6(address) in (INTERFACE_LOCAL, LINK_LOCAL)
    return family(address) == 6 and b"\xfe\x80" <= _packed6(address)[:2] < b"\xfe\xc0"


def is_ssm(group: str) -> bool:
    """Tell whether the group lies in a source-specific range.

    232/8 (RFC 4607 section 1) and ff3x::/32 (section 1; the P and T flags of RFC 3306 with
    prefix length and prefix zero). ff12:: has only T set and is an ordinary transient group.
    """
    if family(group) == 4:
        return group.startswith("232.")
    packed = _packed6(group)
    return packed[0] == 0xFF and packed[1] >> 4 == 3 and packed[2:4] == b"\0\0"


def advance(group: str, by: int) -> str | None:
    """Return the address `by` places after `group`, None when it is no group any more."""
    from ipaddress import AddressValueError, ip_address

    try:
        moved = str(ip_address(group) + by)
    except AddressValueError:
        return None
    return moved if is_multicast(moved) else None


def block(group: str, length: int) -> tuple[str, int]:
    """Return first address and size of the block of prefix `length` that holds `group`."""
    from ipaddress import ip_network

    network = ip_network(f"{group}/{length}", strict=False)
    return str(network.network_address), network.num_addresses


def remarks(group: str, *, with_sources: bool) -> list[tuple[str, str, str]]:
    """Return (code, text, hint) for each trap the group's number alone reveals.

    The kernel joins all of these without a word; receivers then wait in vain.
    """
    found = []
    if is_ssm(group) and not with_sources:
        found.append(
            (
                "ssm-without-source",
                f"{group} is source-specific: routers forward it only to hosts that name a source",
                f"name the sender: SRC@{group}",
            )
        )
    if group == "224.0.0.0" or scope6(group) in (0, 0xF):
        found.append(
            (
                "reserved-group",
                f"{group} is reserved and must not carry traffic",
                "choose a group from 239.0.0.0/8 or ff15::/16",
            )
        )
    return found

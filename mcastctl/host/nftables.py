"""Messages that make tables, chains and rules of nf_tables: what nft(8) would send.

Netlink attributes of <linux/netfilter/nf_tables.h>, their numbers in network byte order. Only what
a trace needs: matching an address and ports, a limit, and the meta expression that marks packets.
"""

import struct
from collections.abc import Iterable
from ipaddress import ip_address

from mcastctl.host.netlink import attribute

SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES, the upper byte of a message's type."""
NEW_TABLE, NEW_CHAIN, NEW_RULE, TRACE = 0, 3, 6, 17
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""NFPROTO_ numbers and the words of nft(8)."""
INET = 1
PREROUTING, OUTPUT, INGRESS = 0, 3, 5
"""Hooks of the family inet."""
FIRST = -(1 << 31)
"""The priority before all others."""

_NESTED = 0x8000
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_REQUEST, _ACK, _CREATE_APPEND = 0x1, 0x4, 0xC00
_TABLE_OWNER = 2  # NFT_TABLE_F_OWNER: the table ends with the socket that made it (Linux 5.12)
_NETWORK, _TRANSPORT = 1, 2
_REGISTER = 1
_L4PROTO, _NFPROTO, _NFTRACE = 16, 15, 12
_HEADER = struct.Struct("=IHHII")


def _number(kind: int, value: int, size: int = 4) -> bytes:
    return attribute(kind, value.to_bytes(size, "big", signed=value < 0))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def table(name: str) -> bytes:
    """Return the attributes of a table that the kernel removes with our socket."""
    return _text(1, name) + _number(2, _TABLE_OWNER)


def chain(of: str, name: str, hook: int, device: str = "") -> bytes:
    """Return the attributes of a chain at a hook, before all other chains there."""
    place = [_number(1, hook), _number(2, FIRST)]
    place += [_text(3, device)] if device else []
    return _text(1, of) + _text(3, name) + _nested(4, *place) + _text(7, "filter")


def rule(of: str, name: str, expressions: Iterable[bytes]) -> bytes:
    """Return the attributes of a rule of a chain."""
    return _text(1, of) + _text(2, name) + _nested(4, *(_nested(1, one) for one in expressions))


def _expression(name: str, *parts: bytes) -> bytes:
    return _text(1, name) + _nested(2, *parts)


def _equals(value: bytes) -> bytes:
    data = _nested(3, attribute(1, value))
    return _expression("cmp", _number(1, _REGISTER), _number(2, 0), data)


def _payload(base: int, offset: int, value: bytes) -> Iterable[bytes]:
    place = (_number(2, base), _number(3, offset), _number(4, len(value)))
    yield _expression("payload", _number(1, _REGISTER), *place)
    yield _equals(value)


def _meta(key: int, value: int) -> Iterable[bytes]:
    yield _expression("meta", _number(1, _REGISTER), _number(2, key))
    yield _equals(bytes((value,)))


def udp_to(
    group: str, port: int, *, sport: int | None = None, source: str | None = None
) -> Iterable[bytes]:
    """Yield the expressions that match UDP to a group and port, from a port and source or any."""
    six = ":" in group
    yield from _meta(_NFPROTO, 10 if six else 2)
    yield from _meta(_L4PROTO, 17)
    yield from _payload(_NETWORK, 24 if six else 16, ip_address(group).packed)
    if source is not None:
        yield from _payload(_NETWORK, 8 if six else 12, ip_address(source).packed)
    if sport is not None:
        yield from _payload(_TRANSPORT, 0, sport.to_bytes(2))
    yield from _payload(_TRANSPORT, 2, port.to_bytes(2))


def limit(each_second: int) -> bytes:
    """Return the expression that lets so many packets a second go on."""
    rate = (_number(1, each_second, 8), _number(2, 1, 8), _number(3, each_second))
    return _expression("limit", *rate)


def marked() -> Iterable[bytes]:
    """Yield `meta nftrace set 1`."""
    value = _nested(2, attribute(1, b"\1"))
    yield _expression("immediate", _number(1, _REGISTER), value)
    yield _expression("meta", _number(2, _NFTRACE), _number(3, _REGISTER))


def batch(messages: Iterable[tuple[int, bytes]], first: int) -> bytes:
    """Return one transaction of (message, attributes) for the family inet.

    All of them or none come to be; each is acknowledged under the numbers from `first` on.
    """
    parts = [_message(_BATCH_BEGIN, 0, 0, 0, b"", SUBSYSTEM)]
    for number, (kind, body) in enumerate(messages, first):
        flags = _ACK | _CREATE_APPEND
        parts.append(_message(SUBSYSTEM << 8 | kind, flags, number, INET, body))
    parts.append(_message(_BATCH_END, 0, 0, 0, b"", SUBSYSTEM))
    return b"".join(parts)


def _message(  # noqa: PLR0917 - the fields of two headers
    kind: int, flags: int, sequence: int, family: int, body: bytes, resource: int = 0
) -> bytes:
    head = struct.pack("!BBH", family, 0, resource)  # struct nfgenmsg
    length = _HEADER.size + len(head) + len(body)
    return _HEADER.pack(length, kind, _REQUEST | flags, sequence, 0) + head + body

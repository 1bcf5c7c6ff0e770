"""Control messages of a received datagram: where, when, with which TTL it arrived.

Sources: ip(7), ipv6(7), socket(7), RFC 3542 section 6.
"""

import _socket as socket
import struct
from contextlib import suppress
from typing import NamedTuple

from mcastctl.model.address import keeps_zone
from mcastctl.net.platforms import HERE
from mcastctl.net.sockopts import Socket

_EE_ORIGIN = 4
_FROM_ICMP = (2, 3)
"""Place of ee_origin, and SO_EE_ORIGIN_ICMP and _ICMP6 (<linux/errqueue.h>)."""

Messages = list[tuple[int, int, bytes]]
"""Control messages as the socket module has them: level, type, data."""

SPACE = 256
"""Bytes of control buffer that hold everything `request` asks for."""

_HEADER = struct.Struct("@Nii")
_INT = struct.Struct("@i")
_TIMESPEC = {16: struct.Struct("@qq"), 8: struct.Struct("@ii")}
"""struct timespec by its size: 64-bit and 32-bit userland."""
_PKTINFO4 = struct.Struct("@I4s4s")
_PKTINFO6 = struct.Struct("@16sI")


class Arrival(NamedTuple):
    """What the kernel told about one datagram; None (0 for the index) where it did not.

    `local` is the address of this host the kernel would answer from (IPv4 ipi_spec_dst).
    """

    dst: str | None = None
    ifindex: int = 0
    ttl: int | None = None
    tos: int | None = None
    ts_ns: int | None = None
    local: str | None = None


def request(sock: Socket, version: int) -> None:
    """Ask the kernel for all of `Arrival` with each datagram."""
    ip4 = (HERE.ip_pktinfo, HERE.ip_recvttl, HERE.ip_recvtos)
    ip6 = (HERE.ipv6_recvpktinfo, HERE.ipv6_recvhoplimit, HERE.ipv6_recvtclass)
    level = socket.IPPROTO_IPV6 if version == 6 else socket.IPPROTO_IP
    for option in ip6 if version == 6 else ip4:
        if option is not None:
            sock.setsockopt(level, option, 1)
    if HERE.so_timestampns is not None:
        with suppress(OSError):  # a kernel that only resembles Linux: our own clock then
            sock.setsockopt(socket.SOL_SOCKET, HERE.so_timestampns, 1)


def places(control: bytes) -> list[tuple[int, int]]:
    """Return where the data of each message of a control buffer begins, and its size (cmsg(3))."""
    found, at, head = [], 0, _HEADER.size
    while at + head <= len(control):
        length = _HEADER.unpack_from(control, at)[0]
        if length < head or at + length > len(control):
            break
        found.append((at + head, length - head))
        at += length + -length % struct.calcsize("@P")
    return found


def split(control: bytes) -> Messages:
    """Return the (level, type, data) messages of a control buffer."""
    head = _HEADER.size
    return [
        (*_HEADER.unpack_from(control, at - head)[1:], control[at : at + size])
        for at, size in places(control)
    ]


def segment_place(control: bytes) -> int | None:
    """Return where the size of a super-packet's datagrams stands, None where none is told."""
    for at, size in places(control):
        level, kind = _HEADER.unpack_from(control, at - _HEADER.size)[1:]
        if (level, kind, size) == (socket.IPPROTO_UDP, HERE.udp_gro, _INT.size):
            return at
    return None


def request_details(sock: Socket, version: int, *, wanted: bool, where: bool) -> None:
    """Ask for TTL and traffic class or not, with `where` also for interface and destination.

    Each message costs a tenth of receiving.
    """
    ip4 = (HERE.ip_recvttl, HERE.ip_recvtos, HERE.ip_pktinfo if where else None)
    ip6 = (HERE.ipv6_recvhoplimit, HERE.ipv6_recvtclass, HERE.ipv6_recvpktinfo if where else None)
    level = socket.IPPROTO_IPV6 if version == 6 else socket.IPPROTO_IP
    for option in ip6 if version == 6 else ip4:
        if option is not None:
            sock.setsockopt(level, option, int(wanted))


def stamp_ns(data: bytes) -> int:
    """Return nanoseconds since the epoch from a struct timespec of either size."""
    whole, rest = _TIMESPEC[len(data)].unpack(data)
    return int(whole * 1_000_000_000 + rest)


def parse(messages: Messages) -> Arrival:
    """Return what (level, type, data) control messages say; unknown ones are passed over."""
    dst = ttl = tos = ts_ns = local = None
    ifindex = 0
    for level, kind, data in messages:
        if level == socket.SOL_SOCKET:
            if kind == HERE.so_timestampns and len(data) in _TIMESPEC:
                ts_ns = stamp_ns(data)
        elif level == socket.IPPROTO_IP:
            if kind == HERE.ip_pktinfo:
                ifindex, spec, raw = _PKTINFO4.unpack_from(data)
                dst = socket.inet_ntoa(raw)
                local = socket.inet_ntoa(spec)
            elif kind in HERE.ip_ttl_messages:
                ttl = _INT.unpack_from(data)[0] if len(data) >= 4 else data[0]
            elif kind in HERE.ip_tos_messages:
                tos = data[0]
        elif level == socket.IPPROTO_IPV6:
            if kind == HERE.ipv6_pktinfo:
                raw, ifindex = _PKTINFO6.unpack_from(data)
                dst = socket.inet_ntop(socket.AF_INET6, raw)
            elif kind == HERE.ipv6_hoplimit:
                ttl = _INT.unpack_from(data)[0]
            elif kind == HERE.ipv6_tclass:
                tos = _INT.unpack_from(data)[0]
    return Arrival(dst, ifindex, ttl, tos, ts_ns, local)


def is_icmp_report(messages: Messages) -> bool:
    """Tell whether an error-queue entry came from the network (struct sock_extended_err, ip(7))."""
    kinds = {
        (socket.IPPROTO_IP, HERE.ip_recverr),
        (socket.IPPROTO_IPV6, HERE.ipv6_recverr),
    }
    return any(
        (level, kind) in kinds and len(data) > _EE_ORIGIN and data[_EE_ORIGIN] in _FROM_ICMP
        for level, kind, data in messages
    )


def answer_from(arrival: Arrival, version: int) -> Messages:
    """Return the control message that makes an answer leave from the address that was asked.

    IPv4 takes the address the kernel found for the asker; IPv6 the unicast destination.
    After a multicast request over IPv6 the kernel chooses.
    """
    if version == 4 and arrival.local and HERE.ip_pktinfo is not None:
        info = _PKTINFO4.pack(0, socket.inet_aton(arrival.local), b"")
        return [(socket.IPPROTO_IP, HERE.ip_pktinfo, info)]
    if version == 6 and arrival.dst and HERE.ipv6_pktinfo and not arrival.dst.startswith("ff"):
        raw = socket.inet_pton(socket.AF_INET6, arrival.dst)
        scoped = arrival.ifindex if keeps_zone(arrival.dst) else 0
        info = _PKTINFO6.pack(raw, scoped)
        return [(socket.IPPROTO_IPV6, HERE.ipv6_pktinfo, info)]
    return []

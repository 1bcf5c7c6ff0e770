"""The sockets of programs that a diagnosis is about: what sock_diag and the sockets themselves say.

A socket that may be duplicated (`borrowed`) tells its memberships, filters and options; of the
others only what anybody may see is known. Linux only; changes nothing.
"""

import ctypes
import socket
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mcastctl.host import owners, sockets
from mcastctl.host.borrowed import Borrowed, Filter
from mcastctl.host.sockets import BoundSocket

_SO_REUSEPORT, _SO_GET_FILTER = 15, 26  # <asm-generic/socket.h>
_IP_MTU_DISCOVER, _IP_MULTICAST_IF, _IP_MULTICAST_TTL, _IP_MULTICAST_ALL = 10, 32, 33, 49
_IP_MULTICAST_LOOP = 34
_IPV6_MULTICAST_IF, _IPV6_MULTICAST_HOPS, _IPV6_MULTICAST_LOOP, _IPV6_MULTICAST_ALL = 17, 18, 19, 29
_IPV6_MTU_DISCOVER, _IPV6_V6ONLY = 23, 26


class Options(NamedTuple):
    """What a duplicated socket says of itself; None where the kernel does not know the option.

    `filters` are its memberships, `program` the length of its socket filter (-1: one that
    cannot be read), `ttl`, `loop` and `ifindex` those of multicast, `discover` IP_MTU_DISCOVER.
    """

    filters: tuple[Filter, ...]
    reuse_address: bool
    reuse_port: bool
    buffer: int
    program: int
    ttl: int | None
    loop: bool | None
    ifindex: int | None
    discover: int | None
    multicast_all: bool | None
    v6only: bool | None


class Application(NamedTuple):
    """A UDP socket: `holders` are (pid, name, descriptor) of the processes that have it open.

    `options` is None where we may not ask it.
    """

    bound: BoundSocket
    holders: tuple[tuple[int, str, int], ...]
    options: Options | None


def find(
    wanted: Callable[[BoundSocket], bool], joined: Iterable[tuple[int, str]]
) -> tuple[Application, ...]:
    """Return the UDP sockets that `wanted` picks, asked about these (interface index, group)s."""
    chosen = {
        inode: one
        for inode, one in sockets.bound().items()
        if one.protocol.startswith("udp") and wanted(one)
    }
    holders: dict[int, list[tuple[int, str, int]]] = {inode: [] for inode in chosen}
    for inode, pid, name, descriptor in owners.holding(set(chosen)):
        holders[inode].append((pid, name, descriptor))
    groups = list(joined)
    return tuple(
        Application(one, tuple(holders[inode]), _options(holders[inode], groups))
        for inode, one in chosen.items()
    )


def _options(holders: list[tuple[int, str, int]], joined: list[tuple[int, str]]) -> Options | None:
    for pid, _name, descriptor in holders:
        try:
            with Borrowed(pid, descriptor) as copy:
                return _ask(copy, joined)
        except OSError:
            continue  # gone, or not ours to ask
    return None


def _ask(copy: Borrowed, joined: list[tuple[int, str]]) -> Options:
    sock, six = copy.socket, copy.family == 6
    possible = [one for one in joined if six or ":" not in one[1]]
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP

    def asked(option4: int, option6: int) -> int | None:
        return _number(sock, level, option6 if six else option4)

    loop = asked(_IP_MULTICAST_LOOP, _IPV6_MULTICAST_LOOP)
    every = asked(_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL)
    only = _number(sock, level, _IPV6_V6ONLY) if six else None
    return Options(
        filters=tuple(copy.filters(possible)) if copy.may_have_joined() else (),
        reuse_address=bool(_number(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR)),
        reuse_port=bool(_number(sock, socket.SOL_SOCKET, _SO_REUSEPORT)),
        buffer=_number(sock, socket.SOL_SOCKET, socket.SO_RCVBUF) or 0,
        program=_program(sock),
        ttl=asked(_IP_MULTICAST_TTL, _IPV6_MULTICAST_HOPS),
        loop=None if loop is None else bool(loop),
        ifindex=_number(sock, level, _IPV6_MULTICAST_IF) if six else _index4(sock),
        discover=asked(_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER),
        multicast_all=None if every is None else bool(every),
        v6only=None if only is None else bool(only),
    )


def _number(sock: socket.socket, level: int, option: int) -> int | None:
    try:
        return sock.getsockopt(level, option)
    except OSError:
        return None


def _index4(sock: socket.socket) -> int | None:
    """Return the interface index of IP_MULTICAST_IF (struct ip_mreqn, Linux 6.6), else None."""
    try:
        answer = sock.getsockopt(socket.IPPROTO_IP, _IP_MULTICAST_IF, 12)
    except OSError:
        return None
    return int(struct.unpack_from("@i", answer, 8)[0]) if len(answer) == 12 else None


def _program(sock: socket.socket) -> int:
    """Return how many instructions the socket filter has: asked with no room, it only counts."""
    length = ctypes.c_uint(0)
    library = ctypes.CDLL(None, use_errno=True)
    number = sock.fileno()
    failed = library.getsockopt(
        number, socket.SOL_SOCKET, _SO_GET_FILTER, None, ctypes.byref(length)
    )
    return -1 if failed else int(length.value)

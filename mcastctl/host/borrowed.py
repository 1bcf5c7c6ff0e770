"""Another process's socket, duplicated to be asked: which groups it joined, with which filter.

pidfd_getfd(2) needs the right to trace that process: root, or the same user where Yama does not
forbid it (ptrace(2)). Asking changes nothing: the process keeps its socket and never notices.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from mcastctl.model.address import family

_PIDFD_GETFD = 438  # the same number on every architecture but alpha
_SO_DOMAIN, _SO_MEMINFO, _SO_NETNS_COOKIE = 39, 55, 71  # <asm-generic/socket.h>
_MCAST_MSFILTER = 48
_LEVEL = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
_STORAGE = 128  # sizeof(struct sockaddr_storage)
_HEAD = struct.Struct("@I4x") if struct.calcsize("@P") == 8 else struct.Struct("@I")
_COUNTS = struct.Struct("@II")  # gf_fmode, gf_numsrc of struct group_filter, <linux/in.h>
_MODES = {0: "exclude", 1: "include"}
_SOURCES = 64
"""Sources asked for at first; net.ipv4.igmp_max_msf is 10, net.ipv6.mld_max_msf 64."""


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class Filter(NamedTuple):
    """What one socket joined on one interface: 'exclude' of nothing is an ordinary join."""

    ifindex: int
    group: str
    mode: str
    sources: tuple[str, ...]


class Borrowed:
    """A duplicate of a socket of another process; use as a context manager.

    Raises PermissionError without the right to trace, ProcessLookupError when it is gone, and
    OSError for what is no socket (any more).
    """

    def __init__(self, pid: int, descriptor: int) -> None:
        pidfd = os.pidfd_open(pid)
        try:
            copy = _libc().syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
            if copy < 0:
                raise _error()
        finally:
            os.close(pidfd)
        os.set_inheritable(copy, False)
        try:
            # Family and type are asked below; named here, Python asks for none of them.
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 0, fileno=copy)
        except OSError:
            os.close(copy)
            raise

    def __enter__(self) -> "Borrowed":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    @property
    def family(self) -> int | None:
        """4 or 6, None for a socket of another kind."""
        domain = self._option(_SO_DOMAIN)
        return {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}.get(domain or 0)

    @property
    def namespace(self) -> bytes | None:
        """The cookie of its network namespace, None before Linux 5.14."""
        return cookie(self.socket)

    def may_have_joined(self) -> bool:
        """Tell whether it has any memory for options; a membership takes some (sock_kmalloc)."""
        try:
            info = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
        except OSError:
            return True
        return len(info) < 28 or struct.unpack_from("=I", info, 24)[0] > 0

    def local(self) -> tuple[str | None, int]:
        """Return address and port it is bound to, (None, 0) for an unbound socket."""
        length = ctypes.c_uint(_STORAGE)
        buffer = ctypes.create_string_buffer(_STORAGE)
        if _libc().getsockname(self.socket.fileno(), buffer, ctypes.byref(length)) < 0:
            return None, 0
        address = _address(buffer.raw)
        port = int.from_bytes(buffer.raw[2:4])
        unbound = port == 0 and address in ("0.0.0.0", "::")  # noqa: S104
        return (None if unbound else address), port

    def protocol(self) -> str:
        """Return udp, raw or what else the socket calls itself."""
        kind = self._option(socket.SO_TYPE)
        name = {int(socket.SOCK_DGRAM): "udp", int(socket.SOCK_RAW): "raw"}.get(kind or 0, "other")
        return f"{name}6" if self.family == 6 else name

    def filters(self, memberships: Iterable[tuple[int, str]]) -> list[Filter]:
        """Return what it joined of these (interface index, group)s."""
        found = []
        for ifindex, group in memberships:
            one = self._filter(ifindex, group)
            if one is not None:
                found.append(one)
        return found

    def _filter(self, ifindex: int, group: str) -> Filter | None:
        room = _SOURCES
        while True:
            answer = self._ask(ifindex, group, room)
            if answer is None:
                return None
            mode, number = _COUNTS.unpack_from(answer, _HEAD.size + _STORAGE)
            if number <= room:
                break
            room = number
        at = _HEAD.size + _STORAGE + _COUNTS.size
        sources = (_address(answer[at + _STORAGE * one :]) for one in range(number))
        known = tuple(source for source in sources if source is not None)
        return Filter(ifindex, group, _MODES.get(mode, "exclude"), known)

    def _ask(self, ifindex: int, group: str, room: int) -> bytes | None:
        """Return struct group_filter (RFC 3678 section 5.2.2), None for no member."""
        request = _HEAD.pack(ifindex) + _sockaddr(group) + _COUNTS.pack(0, room)
        size = len(request) + _STORAGE * room
        buffer = ctypes.create_string_buffer(request, size)
        length = ctypes.c_uint(size)
        number, level = self.socket.fileno(), _LEVEL[family(group)]
        if _libc().getsockopt(number, level, _MCAST_MSFILTER, buffer, ctypes.byref(length)) < 0:
            return None  # EADDRNOTAVAIL: this socket is no member there
        return buffer.raw

    def _option(self, option: int) -> int | None:
        try:
            return self.socket.getsockopt(socket.SOL_SOCKET, option)
        except OSError as error:
            if error.errno == errno.ENOTSOCK:
                raise
            return None


def cookie(sock: socket.socket) -> bytes | None:
    """Return the cookie of a socket's network namespace (SO_NETNS_COOKIE, Linux 5.14)."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    except OSError:
        return None


def own_cookie() -> bytes | None:
    """Return the cookie of this network namespace."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            return cookie(sock)
    except OSError:
        return None


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _sockaddr(group: str) -> bytes:
    if family(group) == 6:
        raw = socket.inet_pton(socket.AF_INET6, group)
        return struct.pack("@HHI16s", socket.AF_INET6, 0, 0, raw).ljust(_STORAGE, b"\0")
    raw = socket.inet_pton(socket.AF_INET, group)
    return struct.pack("@HH4s", socket.AF_INET, 0, raw).ljust(_STORAGE, b"\0")


def _address(raw: bytes) -> str | None:
    (number,) = struct.unpack_from("@H", raw)
    if number == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[4:8])
    if number == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, raw[8:24])
    return None

"""UDP and raw sockets of this network namespace: who bound what, as /proc/net and sock_diag tell.

Unbound UDP sockets are in neither list, although they can join groups; `owners` finds those by
the processes that have them open. Linux only; needs no privilege.
"""

import re
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from mcastctl.host import netlink, procnet

_FILES = ("udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6")
_OTHERS = {"tcp": 9, "tcp6": 9, "unix": 6, "netlink": 9, "packet": 8}
"""Files of other sockets, and the column of the inode in them."""
_LINE = re.compile(
    r"\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) "
    r"([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) [0-9A-F]{2} "
    r"([0-9A-F]{8,16}):([0-9A-F]{8,16}) \S+ \S+\s+(\d+)\s+\d+ (\d+) \d+ \S+ (\d+)\s*"
)
_DIAG_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY, <linux/sock_diag.h>
_REQUEST = struct.Struct("=BBBBI48s")  # struct inet_diag_req_v2, <linux/inet_diag.h>
_INODE_AT, _ANSWER = 68, 72  # in and of struct inet_diag_msg
_INTERFACE_AT = 16 + 40  # idiag_if, in the id that follows four bytes
_SKMEMINFO, _SKV6ONLY, _SOCKOPT = 7, 11, 22  # INET_DIAG_*
_OPTMEM_AT = 24  # SK_MEMINFO_OPTMEM, the seventh of nine numbers
_PROTOCOLS = (17, 136, 255)  # UDP, UDP-Lite, raw


class BoundSocket(NamedTuple):
    """A socket with a local address; `port` is the protocol number of a raw socket.

    `option_bytes` is the kernel memory its options take: 0 means that it joined nothing, None
    that the kernel did not tell. `ifindex` is the interface it is bound to, 0 for all; `remote`
    the peer it is connected to, the unspecified address for none. `multicast_all` and
    `multicast_loop` are IP_MULTICAST_ALL and _LOOP of IPv4 sockets (ip(7)), `v6only` IPV6_V6ONLY.
    """

    inode: int
    protocol: str
    local: str
    port: int
    remote: str
    remote_port: int
    uid: int
    receive_queue: int
    drops: int
    ifindex: int = 0
    option_bytes: int | None = None
    multicast_all: bool | None = None
    multicast_loop: bool | None = None
    v6only: bool | None = None

    @property
    def wildcard(self) -> bool:
        """Tell whether it takes every local address."""
        return self.local in ("0.0.0.0", "::")  # noqa: S104


def bound() -> dict[int, BoundSocket]:
    """Return the sockets by inode, with what sock_diag adds where the kernel has it."""
    found = {one.inode: one for name in _FILES for one in parse(name, procnet.read(name))}
    for inode, told in _details():
        if inode in found:
            found[inode] = found[inode]._replace(**told)
    return found


def of_other_kinds() -> set[int]:
    """Return the inodes of sockets that cannot join IP groups: TCP, Unix, netlink, packet."""
    found = set()
    for name, column in _OTHERS.items():
        for line in procnet.read(name).split("\n"):
            words = line.split()
            word = words[column] if len(words) > column else ""
            if word.isascii() and word.isdigit() and len(word) < 20:
                found.add(int(word))
    return found


def parse(name: str, text: str) -> list[BoundSocket]:
    """Return the sockets of one file of /proc/net; other lines are passed over."""
    found = []
    for line in filter(None, map(_LINE.fullmatch, text.split("\n"))):
        local, port, remote, remote_port, _, queue, uid, inode, drops = line.groups()
        if int(inode) and len(inode) < 20:
            found.append(
                BoundSocket(
                    int(inode),
                    name,
                    _address(local),
                    int(port, 16),
                    _address(remote),
                    int(remote_port, 16),
                    int(uid),
                    int(queue, 16),
                    int(drops),
                )
            )
    return found


def _address(digits: str) -> str:
    """Return an address that was printed as 32-bit numbers in host byte order."""
    words = (int(digits[at : at + 8], 16) for at in range(0, len(digits), 8))
    raw = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return str(IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw))


def _details() -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the inode, and what sock_diag adds, of every socket that it lists."""
    try:
        connection = netlink.Netlink(netlink.SOCK_DIAG)
    except OSError:
        return
    with connection:
        for family in (socket.AF_INET, socket.AF_INET6):
            for protocol in _PROTOCOLS:
                body = _REQUEST.pack(family, protocol, 1 << (_SKMEMINFO - 1), 0, 0xFFFFFFFF, b"")
                try:
                    answers = connection.dump(_DIAG_BY_FAMILY, body)
                except OSError:
                    continue  # a kernel without that module
                yield from (detail(one) for _, one in answers if len(one) >= 16 + _ANSWER)


def detail(message: bytes) -> tuple[int, dict[str, Any]]:
    """Return the inode and the fields of `BoundSocket` that struct inet_diag_msg adds."""
    inode = netlink.number(message[16 + _INODE_AT : 16 + _ANSWER])
    told = dict(netlink.attributes(message, 16 + _ANSWER))
    found: dict[str, Any] = {"ifindex": netlink.number(message[_INTERFACE_AT : _INTERFACE_AT + 4])}
    memory, options, v6only = (told.get(kind, b"") for kind in (_SKMEMINFO, _SOCKOPT, _SKV6ONLY))
    if len(memory) >= _OPTMEM_AT + 4:
        found["option_bytes"] = netlink.number(memory[_OPTMEM_AT : _OPTMEM_AT + 4])
    if options and message[16] == socket.AF_INET:  # for IPv6 the kernel shows IPv4's bits
        found["multicast_loop"] = bool(options[0] & _bit(4))
        found["multicast_all"] = bool(options[0] & _bit(6))
    if v6only:
        found["v6only"] = bool(v6only[0])
    return inode, found


def _bit(number: int) -> int:
    """Return the mask of a C bit field: the compiler counts from the other end on big-endian."""
    return 1 << (number if sys.byteorder == "little" else 7 - number)

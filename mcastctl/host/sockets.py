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
from typing import NamedTuple

from mcastctl.host import netlink, procnet

_FILES = ("udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6")
_LINE = re.compile(
    r"\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) [0-9A-F]{2} "
    r"([0-9A-F]{8,16}):([0-9A-F]{8,16}) \S+ \S+\s+(\d+)\s+\d+ (\d+) \d+ \S+ (\d+)\s*"
)
_DIAG_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY, <linux/sock_diag.h>
_REQUEST = struct.Struct("=BBBBI48s")  # struct inet_diag_req_v2, <linux/inet_diag.h>
_INODE_AT, _ANSWER = 68, 72  # in and of struct inet_diag_msg
_INTERFACE_AT = 44
_SKMEMINFO, _OPTMEM_AT = 7, 24  # INET_DIAG_SKMEMINFO, SK_MEMINFO_OPTMEM
_PROTOCOLS = {"udp": 17, "udplite": 136, "raw": 255}


class BoundSocket(NamedTuple):
    """A socket with a local address; `port` is the protocol number of a raw socket.

    `option_bytes` is the kernel memory its options take: 0 means that it joined nothing, None
    that the kernel did not tell. `ifindex` is the interface it is bound to, 0 for all.
    """

    inode: int
    protocol: str
    local: str
    port: int
    remote_port: int
    uid: int
    receive_queue: int
    drops: int
    ifindex: int = 0
    option_bytes: int | None = None

    @property
    def wildcard(self) -> bool:
        """Tell whether it takes every local address."""
        return self.local in ("0.0.0.0", "::")  # noqa: S104


def bound() -> dict[int, BoundSocket]:
    """Return the sockets by inode, with what sock_diag adds where the kernel has it."""
    found = {one.inode: one for name in _FILES for one in parse(name, procnet.read(name))}
    for inode, ifindex, option_bytes in _details():
        if inode in found:
            found[inode] = found[inode]._replace(ifindex=ifindex, option_bytes=option_bytes)
    return found


def parse(name: str, text: str) -> list[BoundSocket]:
    """Return the sockets of one file of /proc/net; other lines are passed over."""
    found = []
    for line in filter(None, map(_LINE.fullmatch, text.split("\n"))):
        local, port, _, remote_port, _, queue, uid, inode, drops = line.groups()
        if int(inode) and len(inode) < 20:
            found.append(
                BoundSocket(
                    int(inode),
                    name,
                    _address(local),
                    int(port, 16),
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


def _details() -> Iterator[tuple[int, int, int | None]]:
    """Yield (inode, bound interface, option memory) of every socket that sock_diag lists."""
    try:
        connection = netlink.Netlink(netlink.SOCK_DIAG)
    except OSError:
        return
    with connection:
        for family in (socket.AF_INET, socket.AF_INET6):
            for protocol in _PROTOCOLS.values():
                body = _REQUEST.pack(family, protocol, 1 << (_SKMEMINFO - 1), 0, 0xFFFFFFFF, b"")
                try:
                    answers = connection.dump(_DIAG_BY_FAMILY, body)
                except OSError:
                    continue  # a kernel without that module
                yield from (_detail(message) for _, message in answers if len(message) >= 16 + 72)


def _detail(message: bytes) -> tuple[int, int, int | None]:
    inode = netlink.number(message[16 + _INODE_AT : 16 + _ANSWER])
    ifindex = netlink.number(message[16 + _INTERFACE_AT : 16 + _INTERFACE_AT + 4])
    memory = dict(netlink.attributes(message, 16 + _ANSWER)).get(_SKMEMINFO, b"")
    told = len(memory) >= _OPTMEM_AT + 4
    option_bytes = netlink.number(memory[_OPTMEM_AT : _OPTMEM_AT + 4]) if told else None
    return inode, ifindex, option_bytes

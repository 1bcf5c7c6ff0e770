"""The kernel's own answer to 'which interface does this group leave by', over rtnetlink(7).

One question, one answer, 0.2 ms: the sender asks it at every start, where a netlink library
costs more to import than the whole program.
"""

import _socket as socket
import errno
import os
import struct
import sys

from mcastctl.model.address import family
from mcastctl.net.platforms import HERE

_FORBIDDEN = (errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)
"""What routes of type unreachable, prohibit and blackhole answer (net/ipv4/fib_semantics.c)."""
_RTM_GETROUTE, _NLMSG_ERROR = 26, 2
_NLM_F_REQUEST = 1
_RTA_DST, _RTA_OIF = 1, 4
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr, <linux/netlink.h>
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg, <linux/rtnetlink.h>
_ATTRIBUTE = struct.Struct("=HH")


def egress(group: str) -> int | None:
    """Return the interface index the routing table sends `group` to, None without a route.

    Raises OSError where a route forbids the group (unreachable, prohibit, blackhole).
    """
    if HERE.name != "linux":
        return None
    number = socket.AF_INET6 if family(group) == 6 else socket.AF_INET
    raw = socket.inet_pton(number, group)
    body = _ROUTE.pack(number, 8 * len(raw), 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(4 + len(raw), _RTA_DST) + raw
    request = _HEADER.pack(16 + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:
        return None  # a sandbox without netlink: -i is needed then
    try:
        sock.send(request)
        return parse_egress(sock.recv(8192))
    finally:
        sock.close()


def parse_egress(answer: bytes) -> int | None:
    """Return RTA_OIF of an RTM_NEWROUTE answer, None for anything else.

    Raises OSError with the kernel's errno unless that says there is no route.
    """
    if len(answer) < 16 + _ROUTE.size:
        return None
    length, kind, *_ = _HEADER.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        number = -int.from_bytes(answer[16:20], sys.byteorder, signed=True)
        if number in _FORBIDDEN:
            raise OSError(number, os.strerror(number))
        return None
    if length > len(answer):
        return None
    at = 16 + _ROUTE.size
    while at + 4 <= length:
        size, what = _ATTRIBUTE.unpack_from(answer, at)
        if size < 4:
            return None
        if what == _RTA_OIF and size >= 8:
            return int.from_bytes(answer[at + 4 : at + 8], sys.byteorder)
        at += (size + 3) & ~3
    return None

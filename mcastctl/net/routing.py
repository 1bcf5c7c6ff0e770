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
_RTM_GETROUTE, NLMSG_ERROR = 26, 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_ECHO = 1, 4, 8
_RTA_DST, _RTA_OIF = 1, 4
HEADER = struct.Struct("=IHHII")  # struct nlmsghdr, <linux/netlink.h>
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
    answer = ask(_RTM_GETROUTE, body)
    return None if answer is None else parse_egress(answer)  # without netlink -i is needed then


def ask(kind: int, body: bytes) -> bytes | None:
    """Return the kernel's answer to one rtnetlink request, None in a sandbox without netlink.

    The flags make sure that there is one: some requests are answered to who wants an echo only
    (net/sched/sch_api.c: qdisc_get_notify), and none says nothing at all to who wants to know.
    """
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_ECHO
    request = HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:
        return None
    try:
        sock.send(request)
        return sock.recv(8192)
    finally:
        sock.close()


def parse_egress(answer: bytes) -> int | None:
    """Return RTA_OIF of an RTM_NEWROUTE answer, None for anything else.

    Raises OSError with the kernel's errno unless that says there is no route.
    """
    if len(answer) < HEADER.size + _ROUTE.size:
        return None
    if HEADER.unpack_from(answer)[1] == NLMSG_ERROR:
        number = -int.from_bytes(answer[16:20], sys.byteorder, signed=True)
        if number in _FORBIDDEN:
            raise OSError(number, os.strerror(number))
        return None
    index = attribute(answer, HEADER.size + _ROUTE.size, _RTA_OIF)
    return int.from_bytes(index[:4], sys.byteorder) if index and len(index) >= 4 else None


def attribute(answer: bytes, at: int, wanted: int) -> bytes | None:
    """Return the first attribute of a kind in an answer whose attributes begin at `at`."""
    length = HEADER.unpack_from(answer)[0]
    if length > len(answer):
        return None
    while at + _ATTRIBUTE.size <= length:
        size, kind = _ATTRIBUTE.unpack_from(answer, at)
        if size < _ATTRIBUTE.size:
            return None
        if kind == wanted:
            return answer[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return None

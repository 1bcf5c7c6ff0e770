"""News of interfaces as the kernel tells it, without asking it all the time (rtnetlink(7)).

One socket, no privilege, no library. Where there is no netlink the list of interfaces is compared
once a second: what came and went is seen then, whether a cable is plugged in is not.
"""

import _socket as socket
import errno
import time

from mcastctl.model import linknews
from mcastctl.model.hearing import LinkGone, LinkState, Moment, News
from mcastctl.model.netlink import HEADER
from mcastctl.net import nic
from mcastctl.net.ifaddrs import IFF_UP
from mcastctl.net.nic import Nic
from mcastctl.net.platforms import HERE

LOOK_S = 1.0
"""How often to look where nothing is told."""
_LINK, _IPV4_IFADDR, _IPV6_IFADDR = 0x1, 0x10, 0x100
"""RTMGRP_ bits, <linux/rtnetlink.h>."""
_NLM_F_REQUEST = 1
_ENOUGH = 64 << 10
_MOST = 1024
"""Datagrams read before signals and deadlines are looked at."""
_PATIENCE_S = 2.0


def moment() -> Moment:
    """Return this instant on both clocks."""
    return Moment(time.time_ns(), time.monotonic_ns())


class LinkWatch:
    """What happens to interfaces from now on; `told` says whether the kernel tells it."""

    def __init__(self) -> None:
        self._sock = _open(_LINK | _IPV4_IFADDR | _IPV6_IFADDR)
        self._known = dict(socket.if_nameindex()) if self._sock is None else {}

    @property
    def told(self) -> bool:
        """Whether there is a descriptor to wait for."""
        return self._sock is not None

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is news, -1 without one."""
        return -1 if self._sock is None else self._sock.fileno()

    def read(self) -> list[News] | None:
        """Return the news since the last call; None when some was lost: anything may have been."""
        if self._sock is None:
            return self._compare()
        found: list[News] = []
        lost = False
        for _ in range(_MOST):
            try:
                found += linknews.news(self._sock.recv(_ENOUGH))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
        return None if lost else found

    def _compare(self) -> list[News]:
        now = dict(socket.if_nameindex())
        found: list[News] = [LinkGone(index) for index in self._known if index not in now]
        found += [
            LinkState(index, name, up=True, carrier=True)
            for index, name in now.items()
            if self._known.get(index) != name
        ]
        self._known = now
        return found

    def close(self) -> None:
        """Hear no more of it."""
        if self._sock is not None:
            self._sock.close()


def _open(groups: int) -> socket.socket | None:
    """Return a netlink socket in these groups, None where there is none."""
    if HERE.name != "linux":
        return None
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:
        return None  # a sandbox without netlink
    try:
        sock.bind((0, groups))
        sock.setblocking(False)
    except OSError:
        sock.close()
        return None
    return sock


def state(one: Nic) -> LinkState | None:
    """Return how an interface is now, None when no interface has this index."""
    sock = _open(0)
    if sock is None:
        try:
            name = socket.if_indextoname(one.ifindex)
        except OSError as error:
            # Without a descriptor to ask with: what is not known to be gone is taken to be there.
            name = one.name if error.errno in (errno.EMFILE, errno.ENFILE) else ""
        flags = nic.flags(Nic(name, one.ifindex))
        up = flags is None or bool(flags & IFF_UP)
        return LinkState(one.ifindex, name, up, carrier=True) if name else None
    body = linknews.IFINFO.pack(0, 0, one.ifindex, 0, 0)
    head = HEADER.pack(HEADER.size + len(body), linknews.GETLINK, _NLM_F_REQUEST, 1, 0)
    try:
        sock.settimeout(_PATIENCE_S)
        sock.send(head + body)
        told = list(linknews.news(sock.recv(_ENOUGH)))
    except OSError:  # netlink of a kind: what is not known to be wrong is taken to be well
        return LinkState(one.ifindex, one.name, up=True, carrier=True)
    finally:
        sock.close()
    return next((news for news in told if isinstance(news, LinkState)), None)

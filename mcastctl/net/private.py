"""A private network namespace for this process: its own loopback, able to carry IPv6 multicast.

The loopback interface of a Linux host has no route for ff00::/8, and none is added to a host
by a test. A namespace of our own may have one (user_namespaces(7), netdevice(7)). Linux only.
"""

import os
import struct
from contextlib import closing
from pathlib import Path

from mcastctl.model import refusal
from mcastctl.model.errors import SocketError
from mcastctl.net import sockopts
from mcastctl.net.ifaddrs import IFF_MULTICAST, IFF_UP

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCADDRT = 0x8913, 0x8914, 0x890B
_RTF_UP, _RTF_LOCAL = 0x1, 0x80000000
_LOOPBACK_INDEX = 1  # LOOPBACK_IFINDEX, include/net/flow.h


def enter() -> None:
    """Move this process into a new namespace whose lo is up and routes IPv6 multicast.

    The process must have one thread. Raises SocketError where the system does not allow it.
    """
    try:
        _unshare()
        _raise_loopback()
        _route_groups()
    except (OSError, AttributeError) as error:
        number = getattr(error, "errno", None)
        cause = refusal.cause(number, os.strerror(number)) if number else str(error)
        raise SocketError(
            f"cannot make a private network namespace: {cause}",
            hint="user namespaces are switched off here; run as root, or test a real "
            "interface with -i IFACE",
        ) from error


def _unshare() -> None:
    import ctypes  # os.unshare exists from Python 3.12 on

    user, group = os.getuid(), os.getgid()
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"0 {user} 1")
    (own / "gid_map").write_text(f"0 {group} 1")


def _raise_loopback() -> None:
    """Set UP and MULTICAST on lo (struct ifreq: 16 bytes of name, then the flags)."""
    import fcntl

    with closing(sockopts.open_udp(4)) as sock:
        request = struct.pack("16sh22x", b"lo", 0)
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, request)
        flags = struct.unpack_from("16sh", answer)[1] | IFF_UP | IFF_MULTICAST
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags))


def _route_groups() -> None:
    """Route ff00::/8 by lo (struct in6_rtmsg, <linux/ipv6_route.h>)."""
    import fcntl

    groups = b"\xff" + bytes(15)
    request = struct.pack(
        "@16s16s16sIHHILIi", groups, b"", b"", 0, 8, 0, 0, 0, _RTF_UP | _RTF_LOCAL, _LOOPBACK_INDEX
    )
    with closing(sockopts.open_udp(6)) as sock:
        fcntl.ioctl(sock.fileno(), _SIOCADDRT, request)

"""Option numbers and struct layouts of multicast sockets, one row per operating system.

The socket module lacks most of these names before Python 3.12 and some still in 3.13.
Sources: Linux <linux/in.h>, <linux/in6.h>, <linux/udp.h>, <asm-generic/socket.h>; macOS
<netinet/in.h>, <netinet6/in6.h>, <sys/socket.h>; Windows <ws2ipdef.h>.
"""

import struct
import sys
from typing import NamedTuple


class Platform(NamedTuple):
    """Numbers of one system; None where it has no such option.

    `group_offset` is where the address begins in struct group_req (its alignment differs),
    `sockaddr_has_length` whether a sockaddr begins with a length byte (BSD),
    `binds_to_group` whether bind(2) takes a group address. Linux shares a port for SO_REUSEADDR
    alone; with SO_REUSEPORT it hands datagrams to sockets that joined on another interface.
    `mmsghdr` is the layout of struct mmsghdr where sendmmsg(2) and recvmmsg(2) exist.
    """

    name: str
    af_inet6: int
    sockaddr_has_length: bool
    group_offset: int
    binds_to_group: bool
    join_group: int
    leave_group: int
    block_source: int
    join_source: int
    ip_multicast_all: int | None
    ipv6_multicast_all: int | None
    ip_recverr: int | None
    ipv6_recverr: int | None
    ip_pktinfo: int | None
    ipv6_recvpktinfo: int | None
    ipv6_pktinfo: int | None
    ip_recvttl: int | None
    ip_recvtos: int | None
    ipv6_recvhoplimit: int | None
    ipv6_recvtclass: int | None
    ip_ttl_messages: tuple[int, ...]
    ip_tos_messages: tuple[int, ...]
    ipv6_hoplimit: int | None
    ipv6_tclass: int | None
    so_timestampns: int | None
    so_rcvbufforce: int | None
    so_meminfo: int | None
    so_reuseport: int | None
    so_bindtoifindex: int | None
    udp_segment: int | None
    mmsghdr: str | None


LINUX = Platform(
    name="linux",
    af_inet6=10,
    sockaddr_has_length=False,
    group_offset=struct.calcsize("@P"),
    binds_to_group=True,
    join_group=42,
    leave_group=45,
    block_source=43,
    join_source=46,
    ip_multicast_all=49,
    ipv6_multicast_all=29,
    ip_recverr=11,
    ipv6_recverr=25,
    ip_pktinfo=8,
    ipv6_recvpktinfo=49,
    ipv6_pktinfo=50,
    ip_recvttl=12,
    ip_recvtos=13,
    ipv6_recvhoplimit=51,
    ipv6_recvtclass=66,
    ip_ttl_messages=(2,),
    ip_tos_messages=(1,),
    ipv6_hoplimit=52,
    ipv6_tclass=67,
    so_timestampns=35,
    so_rcvbufforce=33,
    so_meminfo=55,
    so_reuseport=None,
    so_bindtoifindex=62,
    udp_segment=103,
    # name, namelen, iov, iovlen, control, controllen, flags, msg_len
    mmsghdr="@PI4xPNPNi4xI4x" if struct.calcsize("@P") == 8 else None,
)

DARWIN = LINUX._replace(
    name="darwin",
    af_inet6=30,
    sockaddr_has_length=True,
    group_offset=4,
    join_group=80,
    leave_group=81,
    block_source=84,
    join_source=82,
    ip_multicast_all=None,
    ipv6_multicast_all=None,
    ip_recverr=None,
    ipv6_recverr=None,
    ip_pktinfo=26,
    ipv6_recvpktinfo=61,
    ipv6_pktinfo=46,
    ip_recvttl=24,
    ip_recvtos=27,
    ipv6_recvhoplimit=37,
    ipv6_recvtclass=35,
    ip_ttl_messages=(24,),
    ip_tos_messages=(27,),
    ipv6_hoplimit=47,
    ipv6_tclass=36,
    so_timestampns=None,
    so_rcvbufforce=None,
    so_meminfo=None,
    so_reuseport=0x0200,
    so_bindtoifindex=None,
    udp_segment=None,
    mmsghdr=None,
)

WINDOWS = DARWIN._replace(
    name="win32",
    af_inet6=23,
    sockaddr_has_length=False,
    group_offset=8,
    binds_to_group=False,
    join_group=41,
    leave_group=42,
    block_source=43,
    join_source=45,
    # Python's socket has no recvmsg on Windows: nothing ancillary can be read there.
    ip_pktinfo=None,
    ipv6_recvpktinfo=None,
    ipv6_pktinfo=None,
    ip_recvttl=None,
    ip_recvtos=None,
    ipv6_recvhoplimit=None,
    ipv6_recvtclass=None,
    so_reuseport=None,
)

HERE = {"darwin": DARWIN, "win32": WINDOWS}.get(sys.platform, LINUX)
"""The row of the running system; systems not listed are taken for Linux."""

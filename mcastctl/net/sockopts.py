"""Intentions to socket options: join, filter, egress, TTL, buffers, on every system.

Groups and interfaces are named the protocol-independent way (RFC 3678 section 5), by
interface index, for IPv4 and IPv6 alike.
"""

# The C module: its constants are plain integers, while `import socket` spends a tenth of our
# start-up turning them into enumerations.
import _socket as socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mcastctl.model import refusal
from mcastctl.model.address import family
from mcastctl.model.errors import SocketError
from mcastctl.net import whereabouts
from mcastctl.net.platforms import HERE, Platform

Socket = socket.socket
SockAddr = tuple[str, int] | tuple[str, int, int, int]
_LEVEL = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
_STORAGE = 128
"""sizeof(struct sockaddr_storage) on all three systems."""
DEFAULT_BUFFER = 4 * 1024 * 1024
"""Bytes of receive buffer asked for: absorbs 0.1 s at 160,000 small datagrams a second."""
_LARGEST_BUFFER = 2**30 - 1
"""Bytes that still fit an int when the kernel doubles them."""


@contextmanager
def naming(operation: str, what: str, port: int | None = None) -> Iterator[None]:
    """Turn an OSError of the body into a SocketError that names operation, object and port."""
    try:
        yield
    except OSError as error:
        raise refused(operation, what, error, port) from error


def refused(operation: str, what: str, error: OSError, port: int | None = None) -> SocketError:
    """Return the error for a refused `operation`; `what` reads on from 'cannot'."""
    return SocketError(
        f"cannot {what}: {refusal.cause(error.errno, error.strerror)}",
        hint=refusal.remedy(operation, error.errno, whereabouts.surroundings()),
        errno=error.errno,
        port=port,
    )


def open_udp(version: int) -> Socket:
    """Return a non-blocking UDP socket for IPv4 (4) or IPv6 (6, and nothing else)."""
    with naming("open", f"open an IPv{version} socket"):
        sock = Socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def local_port(sock: Socket) -> int:
    """Return the port a socket is bound to, 0 for none."""
    try:
        return int(sock.getsockname()[1])
    except OSError:
        return 0  # Windows has no name for an unbound socket


def pack_sockaddr(address: str, platform: Platform = HERE) -> bytes:
    """Return a struct sockaddr_storage for an address, port 0 (ip(7), ipv6(7))."""
    if family(address) == 6:
        length, number = 28, platform.af_inet6
        body = struct.pack("=HI16sI", 0, 0, socket.inet_pton(socket.AF_INET6, address), 0)
    else:
        length, number = 16, socket.AF_INET
        body = struct.pack("=H4s", 0, socket.inet_pton(socket.AF_INET, address))
    if platform.sockaddr_has_length:
        head = struct.pack("=BB", length, number)
    else:
        head = struct.pack("=H", number)
    return (head + body).ljust(_STORAGE, b"\0")


def pack_name(where: SockAddr, platform: Platform = HERE) -> bytes:
    """Return struct sockaddr_in or sockaddr_in6 for what the socket module takes as address."""
    name = bytearray(pack_sockaddr(where[0], platform))
    struct.pack_into("!H", name, 2, where[1])
    if len(where) == 2:
        return bytes(name[:16])
    struct.pack_into("=I", name, 24, where[3])
    return bytes(name[:28])


def pack_group_req(
    ifindex: int, group: str, source: str | None = None, platform: Platform = HERE
) -> bytes:
    """Return struct group_req, or group_source_req with a source (RFC 3678 section 5.1)."""
    head = struct.pack("=I", ifindex).ljust(platform.group_offset, b"\0")
    request = head + pack_sockaddr(group, platform)
    return request + pack_sockaddr(source, platform) if source else request


def join(sock: Socket, group: str, ifindex: int, source: str | None = None) -> None:
    """Join a group on one interface, from any source or from one (call again for more)."""
    option = HERE.join_source if source else HERE.join_group
    sock.setsockopt(_LEVEL[family(group)], option, pack_group_req(ifindex, group, source))


def leave(sock: Socket, group: str, ifindex: int) -> None:
    """Leave a group on one interface, whatever filter it was joined with."""
    sock.setsockopt(_LEVEL[family(group)], HERE.leave_group, pack_group_req(ifindex, group))


def block(sock: Socket, group: str, ifindex: int, source: str) -> None:
    """Stop hearing one source of a group joined from any source (filter mode EXCLUDE)."""
    request = pack_group_req(ifindex, group, source)
    sock.setsockopt(_LEVEL[family(group)], HERE.block_source, request)


def share_port(sock: Socket) -> None:
    """Let several programs bind the same group and port; each gets every datagram."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if HERE.so_reuseport is not None:
        sock.setsockopt(socket.SOL_SOCKET, HERE.so_reuseport, 1)


def hear_only_interface(sock: Socket, ifindex: int) -> bool:
    """Keep what arrives on other interfaces out; tell whether the kernel lets this user.

    IPv6 delivers a group to every socket that joined it on any interface (net/ipv6/mcast.c:
    inet6_mc_check); without this a flood next door fills the buffer.
    """
    if HERE.so_bindtoifindex is not None:
        with suppress(OSError):  # before Linux 5.7 root only; the destination check remains
            sock.setsockopt(socket.SOL_SOCKET, HERE.so_bindtoifindex, ifindex)
            return True
    return False


def hear_only_own_groups(sock: Socket, version: int) -> bool:
    """Keep groups joined by other programs out (IP_MULTICAST_ALL, ip(7); Linux only).

    Tells whether that is done. IPv4 looks at the interface of the membership as well
    (net/ipv4/igmp.c: ip_mc_sf_allow), IPv6 does not.
    """
    option = HERE.ipv6_multicast_all if version == 6 else HERE.ip_multicast_all
    if option is not None:
        with suppress(OSError):  # IPv6: since Linux 4.20; the destination check remains
            sock.setsockopt(_LEVEL[version], option, 0)
            return True
    return False


def report_errors(sock: Socket, version: int) -> None:
    """Let an over-full queue refuse a send: without this a dropped datagram counts as sent."""
    option = HERE.ipv6_recverr if version == 6 else HERE.ip_recverr
    if option is not None:
        sock.setsockopt(_LEVEL[version], option, 1)


def set_egress(sock: Socket, version: int, ifindex: int) -> None:
    """Choose the interface multicast leaves by; it is not tied to the source address."""
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, ifindex)
    elif HERE.name == "win32":  # 0.x.x.x is an index there (IP_MULTICAST_IF, Winsock)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("!I", ifindex))
    else:
        request = struct.pack("@4s4si", b"", b"", ifindex)  # struct ip_mreqn, ip(7)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)


def set_ttl(sock: Socket, version: int, ttl: int) -> None:
    """Set the TTL or hop limit of what goes to groups, 0 (stays on this host) to 255."""
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)


def set_unicast_ttl(sock: Socket, version: int, ttl: int) -> None:
    """Set the TTL or hop limit of what goes to single hosts, 1 to 255."""
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)


def set_loop(sock: Socket, version: int, enabled: bool) -> None:
    """Choose whether members on this host hear what is sent."""
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, int(enabled))
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, int(enabled))


def set_dscp(sock: Socket, version: int, dscp: int) -> None:
    """Set the DSCP, 0 to 63 (upper six bits of TOS and traffic class, RFC 2474)."""
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)


def set_segment(sock: Socket, size: int) -> None:
    """Let the kernel cut payloads into datagrams of `size` bytes, 0 for not (udp(7))."""
    if HERE.udp_segment is not None:
        sock.setsockopt(socket.IPPROTO_UDP, HERE.udp_segment, size)


def set_whole_segments(sock: Socket, *, wanted: bool) -> bool:
    """Ask for super-packets as they are instead of cut; tell whether the kernel knows how (udp(7)).

    What waits in the buffer is not cut afterwards: switched off again, it would come in one piece.
    """
    if HERE.udp_gro is None:
        return False
    try:
        sock.setsockopt(socket.IPPROTO_UDP, HERE.udp_gro, int(wanted))
    except OSError:  # Linux before 5.0
        return False
    return True


def set_receive_buffer(sock: Socket, size: int) -> int:
    """Ask for `size` bytes of receive buffer; return the bytes granted.

    Root may exceed net.core.rmem_max. Linux doubles the figure to pay for its own
    bookkeeping (socket(7)); the doubling is taken off again.
    """
    size = min(size, _LARGEST_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    if _granted(sock) < size and HERE.so_rcvbufforce is not None:
        with suppress(PermissionError):  # needs CAP_NET_ADMIN; the caller reports the grant
            sock.setsockopt(socket.SOL_SOCKET, HERE.so_rcvbufforce, size)
    return _granted(sock)


def _granted(sock: Socket) -> int:
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return granted // 2 if HERE.name == "linux" else granted


def kernel_drops(sock: Socket) -> int:
    """Return how many datagrams the kernel dropped because this socket's buffer was full.

    The figure SO_RXQ_OVFL attaches to datagrams, asked for when it is wanted (sk->sk_drops).
    """
    if HERE.so_meminfo is None:
        return 0
    try:
        info = sock.getsockopt(socket.SOL_SOCKET, HERE.so_meminfo, 36)  # SK_MEMINFO_VARS u32
    except OSError:
        return 0  # Linux before 4.12, or a kernel that only resembles it
    return int(struct.unpack_from("=I", info, 32)[0])  # SK_MEMINFO_DROPS

"""Packet sockets: what packet(7) and <linux/if_packet.h> offer, one function per option."""

# The C module: its constants are plain integers (see net.sockopts).
import _socket as socket
import os
import struct
from array import array
from contextlib import suppress
from typing import NamedTuple

from mcastctl.capture.program import REJECT, Program, pack
from mcastctl.model import refusal
from mcastctl.model.errors import InterfaceError, SocketError

Socket = socket.socket

_SOL_PACKET = 263
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _VNET_HDR, _IGNORE_OUTGOING = 1, 5, 6, 10, 15, 23
_MR_PROMISC, _MR_ALLMULTI = 1, 2
_TPACKET_V3 = 2
_SO_ATTACH_FILTER = 26
_ETH_P_ALL = 3
_SIOCGIFHWADDR, _SIOCGIFFLAGS = 0x8927, 0x8913
_IFF_LOOPBACK, _IFF_MULTICAST = 0x8, 0x1000

_GSO_UDP_SINCE = (6, 2)
"""Linux before drops a UDP super-packet for want of a virtio_net_hdr type to call it by."""


class Drops(NamedTuple):
    """struct tpacket_stats_v3: frames the filter passed, how many of them found no room."""

    passed: int
    dropped: int


def open_socket(*, every: bool) -> Socket:
    """Return a packet socket that takes nothing in yet; with `every` it hears all interfaces.

    bind(2) as Python has it cannot name all of them: such a socket hears from the beginning,
    and a filter keeps everything out until `attach`.

    SocketError with the choices of an ordinary user when the kernel refuses.
    """
    protocol = socket.htons(_ETH_P_ALL) if every else 0
    try:
        sock = Socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
    except PermissionError as error:
        raise SocketError(
            "cannot capture: raw sockets need CAP_NET_RAW (EPERM)",
            hint="run it as 'sudo mcastctl sniff ...', under 'setpriv' or a systemd unit with "
            "ambient CAP_NET_RAW, in a container with --cap-add NET_RAW, or try in a namespace: "
            "'unshare -rn'; -r FILE needs nothing",
            errno=error.errno,
        ) from error
    attach(sock, REJECT)
    return sock


def hatype(name: str) -> int:
    """Return the ARPHRD_ number of an interface (netdevice(7))."""
    return _ask(name, _SIOCGIFHWADDR)


def is_loopback(name: str) -> bool:
    """Tell whether what leaves by this interface comes in again."""
    return bool(_flags(name) & _IFF_LOOPBACK)


def hears_groups(name: str) -> bool:
    """Tell whether all-multicast mode means anything on this interface."""
    return _flags(name) & (_IFF_LOOPBACK | _IFF_MULTICAST) == _IFF_MULTICAST


def _flags(name: str) -> int:
    """Return the flags of an interface, 0 when it is gone meanwhile."""
    with suppress(InterfaceError):
        return _ask(name, _SIOCGIFFLAGS)
    return 0


def _ask(name: str, request: int) -> int:
    import fcntl

    sock = Socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        answer = fcntl.ioctl(sock.fileno(), request, os.fsencode(name)[:15].ljust(40, b"\0"))
    except OSError as error:
        raise InterfaceError(
            f"cannot ask about interface {name}: {refusal.cause(error.errno, error.strerror)}",
            hint="see 'mcastctl ifaces'",
        ) from error
    finally:
        sock.close()
    return int(struct.unpack_from("=H", answer, 16)[0])


def attach(sock: Socket, program: Program) -> None:
    """Let only frames through that the program accepts (SO_ATTACH_FILTER, socket(7))."""
    code = array("B", pack(program))
    address, _ = code.buffer_info()  # the kernel copies it before the call returns
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), address))


def hear_groups(sock: Socket, ifindex: int, *, promisc: bool) -> None:
    """Let the interface pass groups nobody on this host has joined, or with promisc anything.

    All-multicast mode ends with the socket. Without it a network card filters what this host
    did not ask for, and a capture shows only that.
    """
    kind = _MR_PROMISC if promisc else _MR_ALLMULTI
    request = struct.pack("@iHH8s", ifindex, kind, 0, b"")  # struct packet_mreq
    sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)


def ignore_outgoing(sock: Socket) -> bool:
    """Leave out what this host sends (Linux 4.20); tell whether the kernel can."""
    try:
        sock.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    except OSError:
        return False
    return True


def tell_gso(sock: Socket) -> bool:
    """Put a struct virtio_net_hdr before each frame; tell whether the kernel can and should."""
    release = os.uname().release.split(".")
    if tuple(int(part) if part.isdigit() else 0 for part in release[:2]) < _GSO_UDP_SINCE:
        return False
    with suppress(OSError):
        sock.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        return True
    return False


def make_ring(sock: Socket, block: int, blocks: int, retire_ms: int) -> None:
    """Ask for a TPACKET_V3 receive ring (Documentation/networking/packet_mmap.rst)."""
    frame = 2048
    sock.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
    frames = block // frame * blocks
    sock.setsockopt(
        _SOL_PACKET, _RX_RING, struct.pack("@7I", block, blocks, frame, frames, retire_ms, 0, 0)
    )


def listen(sock: Socket, name: str) -> None:
    """Begin to hear one interface."""
    sock.bind((name, _ETH_P_ALL))


def statistics(sock: Socket) -> Drops:
    """Return what was counted since the last call (PACKET_STATISTICS sets it back to zero)."""
    told = sock.getsockopt(_SOL_PACKET, _STATISTICS, 12)  # without a TPACKET_V3 ring: 8 bytes
    packets, drops = struct.unpack_from("@II", told)
    return Drops(packets, drops)

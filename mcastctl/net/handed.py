"""Sockets that change hands: whether one made elsewhere can serve, and ours for somebody else."""

import socket

from mcastctl.model.address import is_multicast
from mcastctl.model.errors import SocketError
from mcastctl.net.sockopts import SockAddr, Socket, local_port, naming

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def ready(
    sock: Socket,
    version: int,
    hosts: tuple[str | None, ...],
    port: int | None,
    peer: SockAddr | None = None,
) -> None:
    """See to it that a socket can serve, and make it non-blocking.

    It is UDP of this IP version; unbound, or bound to one of `hosts` (None: to any address of a
    host) and to `port` (None: to any); and with `peer` unconnected, or connected to that. Raises
    SocketError, and changes nothing, for any other.
    """
    if sock.fileno() < 0:
        raise SocketError("the socket handed in is closed", hint="hand in an open UDP socket")
    if sock.family != _FAMILY[version]:
        raise SocketError(
            f"the socket handed in is not of the group's family, IPv{version}",
            hint=f"make it with socket.{_FAMILY[version].name}",
        )
    if sock.type != socket.SOCK_DGRAM or sock.proto not in (0, socket.IPPROTO_UDP):
        raise SocketError(
            "the socket handed in is no UDP socket", hint="make it with socket.SOCK_DGRAM"
        )
    if local_port(sock):
        _well_bound(sock, hosts, port)
    if peer is not None:
        _not_taken(sock, peer)
    sock.setblocking(False)


def _well_bound(sock: Socket, hosts: tuple[str | None, ...], port: int | None) -> None:
    host, its_port, *_ = sock.getsockname()
    if (None not in hosts and host not in hosts) or port not in (None, its_port):
        wanted = " or ".join(one for one in hosts if one is not None) or host
        raise SocketError(
            f"the socket handed in is bound to {host} port {its_port}, "
            f"not to {wanted} port {port or its_port}",
            hint="hand it in unbound, or ask for what it is bound to",
        )
    if None in hosts and is_multicast(host):
        raise SocketError(
            f"the socket handed in is bound to {host}, which no datagram can come from",
            hint="hand it in unbound, or bound to an address of this host",
        )


def _not_taken(sock: Socket, peer: SockAddr) -> None:
    try:
        its_peer = sock.getpeername()
    except OSError:
        return  # unconnected
    if its_peer[:2] != peer[:2]:
        raise SocketError(
            f"the socket handed in is connected to {its_peer[0]} port {its_peer[1]}",
            hint=f"hand it in unconnected, or connected to {peer[0]} port {peer[1]}",
        )


def out(sock: Socket) -> socket.socket:
    """Return a socket as callers know them: the very one that was handed in, or ours."""
    if isinstance(sock, socket.socket):
        return sock
    with naming("open", "hand the socket out"):
        return socket.socket(fileno=sock.detach())

"""All addresses of all interfaces, by getifaddrs(3) of the C library."""

import _socket as socket
import sys
from collections.abc import Iterator
from typing import Any

from mcastctl.model.errors import InterfaceError
from mcastctl.net.platforms import HERE

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
IFF_MULTICAST = 0x8000 if HERE.name == "darwin" else 0x1000


def addresses() -> Iterator[tuple[str, int, str | None]]:
    """Yield (name, flags, address) for each address; None for link-layer entries."""
    import ctypes  # 4 ms that only ambiguous and address-named interfaces cost

    class Ifaddrs(ctypes.Structure):
        """struct ifaddrs; the addresses are struct sockaddr."""

    Ifaddrs._fields_ = [
        ("next", ctypes.POINTER(Ifaddrs)),
        ("name", ctypes.c_char_p),
        ("flags", ctypes.c_uint),
        ("address", ctypes.c_void_p),
        ("netmask", ctypes.c_void_p),
        ("other", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
    ]
    library = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(Ifaddrs)()
    if library.getifaddrs(ctypes.byref(first)) != 0:
        raise InterfaceError(
            "cannot list the interfaces of this host", hint="name one by its index: -i 2"
        )
    try:
        entry = first
        while entry:
            item = entry.contents
            yield item.name.decode(errors="replace"), item.flags, _text(ctypes, item.address)
            entry = item.next
    finally:
        library.freeifaddrs(first)


def _text(ctypes: Any, address: int | None) -> str | None:
    if not address:
        return None
    head = ctypes.string_at(address, 2)
    number = head[1] if HERE.sockaddr_has_length else int.from_bytes(head, sys.byteorder)
    if number == socket.AF_INET:
        return socket.inet_ntoa(ctypes.string_at(address + 4, 4))
    if number == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, ctypes.string_at(address + 8, 16))
    return None

"""Interfaces as sockets need them: a name with its index, found by name, index or address.

psutil knows no index and costs more than the start of `send` may; `mcastctl ifaces` has the
full picture (`host.interfaces`).
"""

import _socket as socket
import os
import re
import struct
from contextlib import suppress
from typing import NamedTuple

from mcastctl.model.address import family, keeps_zone
from mcastctl.model.errors import AddressError, InterfaceError, McastError, SocketError
from mcastctl.net import routing, sockopts
from mcastctl.net.ifaddrs import IFF_LOOPBACK, IFF_MULTICAST, IFF_UP, addresses
from mcastctl.net.platforms import HERE

_SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFMTU = 0x8913, 0x8915, 0x8921


class Nic(NamedTuple):
    """An interface: its name and interface index."""

    name: str
    ifindex: int


def names() -> list[str]:
    """Return the names of all interfaces."""
    return [name for _, name in socket.if_nameindex()]


def find(text: str, *, late: bool = False) -> Nic:
    """Return the interface with this name, decimal index or address.

    With `late` one that is not there (yet) is returned with index 0, else it is an InterfaceError.
    """
    try:
        index = socket.if_nametoindex(text)
        return Nic(name_of(index) or text, index)  # `text` may be an alternative name
    except (OSError, ValueError, UnicodeError):
        pass  # no such name (the kernel gives no errno for it), or no name at all
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        name = name_of(int(text))
        if name:
            return Nic(name, int(text))
    bare = text.partition("%")[0]
    for name, _flags, address in addresses() if re.search(r"[.:]", text) else ():
        if address == bare:
            return Nic(name, socket.if_nametoindex(name))
    if late:
        return Nic(text, 0)
    raise InterfaceError(
        f"no interface has the name, index or address '{text}'",
        hint=f"this host has: {', '.join(names())}",
    )


def find_again(asked: str, name: str) -> Nic | None:
    """Return the interface that was once named by `asked` and last called `name`, None for none.

    What was named by its address comes back with the address; by name or index, under either of
    the names or with the index.
    """
    index = re.fullmatch(r"[0-9]{1,9}", asked, re.ASCII)
    for text in (asked, name) if index else (name, asked):
        if text == asked or not packed(asked):
            found = find(text, late=True) if text else Nic("", 0)
            if found.ifindex:
                return found
    return None


def routed_again(group: str, home: str) -> Nic | None:
    """Return the interface a group is routed to now, else the one it was on, None for neither.

    `home` is that one's name, '' where there was none yet.
    """
    try:
        index = routing.egress(group)
        if index:
            return Nic(name_of(index), index)
        return find_again("", home) if home else for_group(group, None, [], late=True)[0]
    except (McastError, OSError):
        return None


def packed(text: str) -> bytes:
    """Return the 4 or 16 bytes of an address (with or without a zone), none for anything else."""
    bare = text.partition("%")[0]
    for version in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, UnicodeError):
            return socket.inet_pton(version, bare)
    return b""


def name_of(index: int) -> str:
    """Return the name of an index, empty when there is none (any more)."""
    try:
        return socket.if_indextoname(index)
    except (OSError, OverflowError):
        return ""


def flags(nic: Nic) -> int | None:
    """Return the flags of an interface, None where the system does not say."""
    answer = _ask(nic, _SIOCGIFFLAGS)
    return None if answer is None else int(struct.unpack_from("16sH", answer)[1])


def mtu(nic: Nic) -> int | None:
    """Return the MTU in bytes, None where the system does not say."""
    answer = _ask(nic, _SIOCGIFMTU)
    return None if answer is None else int(struct.unpack_from("16si", answer)[1])


def has_address4(nic: Nic) -> bool:
    """Tell whether an interface has an IPv4 address; yes where the system does not say."""
    return HERE.name != "linux" or _ask(nic, _SIOCGIFADDR) is not None


def without_ipv6(nic: Nic) -> bool:
    """Tell whether IPv6 is switched off on an interface; no where the system does not say."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{nic.name}/disable_ipv6") as file:  # noqa: PTH123
            return file.read().strip() == "1"  # (pathlib: 3 ms)
    except OSError:
        return False


def _ask(nic: Nic, question: int) -> bytes | None:
    """Return the struct ifreq of an answered question, None for no answer (netdevice(7))."""
    if HERE.name != "linux":
        return None
    import fcntl

    try:
        sock = sockopts.open_udp(4)
    except SocketError:  # no descriptor to spare
        return None
    try:
        request = struct.pack("16s24x", os.fsencode(nic.name)[:15])
        return fcntl.ioctl(sock.fileno(), question, request)
    except OSError:
        return None
    finally:
        sock.close()


def own_addresses(version: int, nic: Nic) -> list[str]:
    """Return the IPv4 or IPv6 addresses of one interface."""
    return [
        address
        for name, _, address in addresses()
        if name == nic.name and address and family(address) == version
    ]


def loopback_address(version: int, nic: Nic) -> str | None:
    """Return the address to send from when `nic` is loopback, None for any other interface.

    Left alone, the kernel puts another interface's address (or none) on what leaves by lo.
    """
    if not nic.name.startswith("lo"):
        return None
    if version == 4 and HERE.name == "linux":  # without the library that `addresses` needs
        flags, address = _ask(nic, _SIOCGIFFLAGS), _ask(nic, _SIOCGIFADDR)
        if flags is None or address is None:
            return None
        loopback = struct.unpack_from("16sh", flags)[1] & IFF_LOOPBACK
        return socket.inet_ntoa(address[20:24]) if loopback else None
    loopback = any(name == nic.name and flags & IFF_LOOPBACK for name, flags, _ in addresses())
    return next(iter(own_addresses(version, nic)), None) if loopback else None


def candidates() -> list[Nic]:
    """Return the interfaces that are up and do multicast, without loopback."""
    wanted = IFF_UP | IFF_MULTICAST
    found = {
        name
        for name, flags, _ in addresses()
        if flags & wanted == wanted and not flags & IFF_LOOPBACK
    }
    return [Nic(name, index) for index, name in socket.if_nameindex() if name in found]


def for_group(group: str, zone: str | None, given: list[Nic], *, late: bool = False) -> list[Nic]:
    """Return the interfaces a group is meant on: its zone, else -i, else the one that fits.

    Without either the kernel's route decides; where it decides nothing, a single candidate
    does. A link-local group on several candidates is ambiguous and so an error (RFC 4007).
    With `late` what is not there or has no route (yet) is an interface of index 0.
    """
    if zone:
        chosen = find(zone, late=late)
        if given and chosen not in given:
            raise AddressError(
                f"{group} names interface {chosen.name}, but -i names {given[0].name}",
                hint="keep one of the two",
            )
        return [chosen]
    if given:
        return given
    if not keeps_zone(group):
        with sockopts.naming("send", f"choose an interface for {group}"):
            index = routing.egress(group)
        if index:
            return [Nic(name_of(index), index)]
    possible = candidates()
    if len(possible) == 1:
        return possible
    if late and not possible:
        return [Nic("", 0)]
    listed = ", ".join(nic.name for nic in possible) or "none but loopback"
    if keeps_zone(group):
        raise AddressError(
            f"{group} is link-local and names no interface",
            hint=f"write [{group}%IFACE]:PORT or -i IFACE; candidates: {listed}",
        )
    raise SocketError(
        f"cannot choose an interface for {group}: no route leads to it",
        hint=f"name one with -i IFACE; candidates: {listed}",
    )


def meant(group: str, which: str | int | None) -> Nic:
    """Return the interface a program means for a group: `which`, or where the route leads.

    `which` is an index (int), a name or an address.
    """
    if isinstance(which, int):
        name = name_of(which)
        return Nic(name, which) if name else find(str(which))
    if which is not None:
        return find(which)
    try:
        return for_group(group, None, [])[0]
    except McastError as error:  # its hint is for who types
        listed = ", ".join(one.name for one in candidates()) or "none but loopback"
        error.hint = f"name the interface to use; candidates: {listed}"
        raise

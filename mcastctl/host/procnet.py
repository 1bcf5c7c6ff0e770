"""The text files of /proc/net on multicast (proc(5)), as records. Linux only.

Every parser takes what it is given: lines it does not understand are passed over, and interface
names are never trusted (they may hold anything but blanks, and some files cut them): the index is.
"""

import os
import re
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

from mcastctl.model.errors import McastError

ROOT = Path("/proc/net")
_IGMP_HEAD = re.compile(r"(\d+)\t(.*?) *: +\d+ +V([123])\s*")
_IGMP_ENTRY = re.compile(
    r"\s+([0-9A-F]{8})\s+(\d+)\s+([01]):([0-9A-F]{8,16})\s+(\d+)\s*", re.IGNORECASE
)
_IGMP6 = re.compile(
    r"(\d+)\s+(.*?)\s+([0-9a-f]{32})\s+(\d+)\s+([0-9A-F]{8})\s+(-?\d+)\s*", re.IGNORECASE
)
_FILTER4 = re.compile(
    r"\s*(\d+) .*? 0x([0-9A-F]{8}) 0x([0-9A-F]{8})\s+(\d+)\s+(\d+)\s*", re.IGNORECASE
)
_FILTER6 = re.compile(
    r"\s*(\d+) .*? ([0-9a-f]{32}) ([0-9a-f]{32})\s+(\d+)\s+(\d+)\s*", re.IGNORECASE
)
_DEVICE = re.compile(r"(\d+)\s+(.*?)\s+(\d+)\s+(\d+)\s+((?:[0-9a-f]{2})+)\s*", re.IGNORECASE)
_MLD_TIMER = 0x01  # MAF_TIMER_RUNNING, <net/if_inet6.h>
_LARGEST = 2**31 - 1
"""Greatest index, count or timer a kernel writes; what is above it is no kernel's text."""


class ProcError(McastError):
    """A host whose /proc cannot be read."""


class Joined(NamedTuple):
    """A group an interface has joined; `timer_s` until its report is due, None when none is."""

    ifindex: int
    group: str
    users: int
    timer_s: float | None


class Filtered(NamedTuple):
    """A source in an interface's filter: how many sockets include, how many exclude it."""

    ifindex: int
    group: str
    source: str
    including: int
    excluding: int


class LinkLayer(NamedTuple):
    """A link-layer address an interface takes in, and how many asked for it."""

    ifindex: int
    address: str
    users: int
    global_users: int


def read(name: str) -> str:
    """Return the text of a file of /proc/net, empty where there is none to read."""
    try:
        return (ROOT / name).read_text(errors="replace")
    except OSError:
        return ""


def present() -> bool:
    """Tell whether /proc/net is there."""
    return any((ROOT / name).exists() for name in ("igmp", "igmp6"))


def require() -> None:
    """Raise ProcError without /proc/net: what nobody tells would look like nobody joined."""
    if not present():
        raise ProcError(
            f"cannot read the memberships of this host: there is no {ROOT}/igmp",
            hint="mount /proc ('mount -t proc proc /proc'); a chroot or container may lack it",
        )


def igmp_versions(text: str) -> dict[int, int]:
    """Return {interface index: IGMP version in force} of /proc/net/igmp (net/ipv4/igmp.c).

    It falls to 2 or 1 while an older querier is heard (RFC 3376 section 7.2.1).
    """
    heads = filter(None, map(_IGMP_HEAD.fullmatch, text.split("\n")))
    return {int(head[1]): int(head[3]) for head in heads if _sane(head[1])}


def igmp(text: str) -> list[Joined]:
    """Return the groups of /proc/net/igmp; the hex is the number in host byte order."""
    found = []
    index = None
    for line in text.split("\n"):
        head = _IGMP_HEAD.fullmatch(line)
        entry = _IGMP_ENTRY.fullmatch(line)
        if head:
            index = int(head[1]) if _sane(head[1]) else None
        elif not line[:1].isspace():
            index = None  # a line that is no interface's: what follows belongs to nobody we know
        elif entry and index is not None and _sane(entry[2]):
            group = str(IPv4Address(int(entry[1], 16).to_bytes(4, sys.byteorder)))
            timer = _seconds(int(entry[4], 16)) if entry[3] == "1" else None
            found.append(Joined(index, group, int(entry[2]), timer))
    return found


def igmp6(text: str) -> list[Joined]:
    """Return the groups of /proc/net/igmp6: index, name, group, users, flags, timer."""
    found = []
    for matched in filter(None, map(_IGMP6.fullmatch, text.split("\n"))):
        if _sane(matched[1], matched[4], matched[6].lstrip("-")):
            running = int(matched[5], 16) & _MLD_TIMER
            timer = _seconds(int(matched[6])) if running else None
            group = str(IPv6Address(bytes.fromhex(matched[3])))
            found.append(Joined(int(matched[1]), group, int(matched[4]), timer))
    return found


def mcfilter(text: str) -> list[Filtered]:
    """Return the sources of /proc/net/mcfilter; here the hex reads in network order."""
    return [
        Filtered(int(index), _address4(group), _address4(source), int(including), int(excluding))
        for index, group, source, including, excluding in _fields(_FILTER4, text)
        if _sane(index, including, excluding)
    ]


def mcfilter6(text: str) -> list[Filtered]:
    """Return the sources of /proc/net/mcfilter6."""
    return [
        Filtered(int(index), _address6(group), _address6(source), int(including), int(excluding))
        for index, group, source, including, excluding in _fields(_FILTER6, text)
        if _sane(index, including, excluding)
    ]


def dev_mcast(text: str) -> list[LinkLayer]:
    """Return the link-layer addresses of /proc/net/dev_mcast."""
    return [
        LinkLayer(int(index), bytes.fromhex(address).hex(":"), int(users), int(global_users))
        for index, _name, users, global_users, address in _fields(_DEVICE, text)
        if _sane(index, users, global_users)
    ]


def _fields(pattern: re.Pattern[str], text: str) -> list[tuple[str, ...]]:
    return [found.groups() for found in map(pattern.fullmatch, text.split("\n")) if found]


def _sane(*digits: str) -> bool:
    """Tell whether these are ASCII numbers in a kernel's range; int() takes other digits too."""
    return all(one.isascii() and len(one) < 11 and int(one) <= _LARGEST for one in digits)


def _address4(digits: str) -> str:
    return str(IPv4Address(int(digits, 16)))


def _address6(digits: str) -> str:
    return str(IPv6Address(bytes.fromhex(digits)))


def _seconds(ticks: int) -> float:
    """Return USER_HZ ticks as seconds, never negative (time(7))."""
    return max(0, ticks) / os.sysconf("SC_CLK_TCK")

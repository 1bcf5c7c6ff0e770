"""Which groups this host has joined on which interface, from /proc/net/igmp and igmp6."""

import struct
import sys
from contextlib import suppress
from pathlib import Path

from mcastctl.model.address import packed_text

_IGMP, _IGMP6 = Path("/proc/net/igmp"), Path("/proc/net/igmp6")


def pairs() -> frozenset[tuple[str, str]] | None:
    """Return (interface, group) of every membership; None where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    found = set[tuple[str, str]]()
    for path, parse in ((_IGMP, igmp), (_IGMP6, igmp6)):
        with suppress(OSError):  # a kernel without that family
            found |= parse(path.read_text())
    return frozenset(found)


def igmp(text: str) -> set[tuple[str, str]]:
    """Read /proc/net/igmp (net/ipv4/igmp.c): a line an interface, then one for each group."""
    found, name = set(), ""
    for line in text.splitlines()[1:]:
        words = line.split()
        with suppress(IndexError, ValueError, struct.error):
            if not line.startswith("\t"):
                name = words[1].rstrip(":")
            else:  # the number as this host has it in memory
                found.add((name, packed_text(struct.pack("=I", int(words[0], 16)))))
    return found


def igmp6(text: str) -> set[tuple[str, str]]:
    """Read /proc/net/igmp6 (net/ipv6/mcast.c): index, interface, group, and more."""
    found = set()
    for line in text.splitlines():
        words = line.split()
        with suppress(IndexError, ValueError):
            packed = bytes.fromhex(words[2])
            if len(packed) == 16:
                found.add((words[1], packed_text(packed)))
    return found

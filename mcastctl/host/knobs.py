"""Kernel settings and state per interface, from /proc (proc(5), ip-sysctl.rst). Linux only.

Everything here answers None or empty where /proc does not tell.
"""

import re
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

_SYSCTL = Path("/proc/sys/net")
_IGMP = Path("/proc/net/igmp")
_IGMP6 = Path("/proc/net/igmp6")
_IGMP_GROUP = re.compile(r"^\s+([0-9A-Fa-f]{8})\s")
_IGMP6_LINE = re.compile(r"^\d+\s+(\S+)\s+([0-9A-Fa-f]{32})\s")
_IGMP_LINE = re.compile(r"^\d+\s+(\S+)\s*:\s*\d+\s+V([123])\s*$")


def igmp_versions() -> dict[str, int]:
    """Return the IGMP version in force on each interface (net/ipv4/igmp.c: igmp_mc_seq_show).

    It falls to 2 or 1 while an older querier is heard (RFC 3376 section 7.2.1).
    """
    return parse_igmp(_read(_IGMP) or "")


def parse_igmp(text: str) -> dict[str, int]:
    """Return {interface: version} from the text of /proc/net/igmp; other lines are passed over."""
    found = {}
    for line in text.splitlines():
        matched = _IGMP_LINE.match(line)
        if matched:
            found[matched[1]] = int(matched[2])
    return found


def memberships() -> dict[str, list[str]]:
    """Return the groups each interface has joined, IPv4 before IPv6 (net/igmp, net/igmp6)."""
    found = parse_igmp_groups(_read(_IGMP) or "")
    for name, groups in parse_igmp6_groups(_read(_IGMP6) or "").items():
        found.setdefault(name, []).extend(groups)
    return found


def parse_igmp_groups(text: str) -> dict[str, list[str]]:
    """Return {interface: groups} of /proc/net/igmp; the hex is the number in host byte order."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        head = _IGMP_LINE.match(line)
        group = _IGMP_GROUP.match(line)
        if head:
            name = head[1]
        elif group and name:
            raw = int(group[1], 16).to_bytes(4, sys.byteorder)
            found.setdefault(name, []).append(str(IPv4Address(raw)))
    return found


def parse_igmp6_groups(text: str) -> dict[str, list[str]]:
    """Return {interface: groups} of /proc/net/igmp6: index, interface, group, users, ..."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        matched = _IGMP6_LINE.match(line)
        if matched:
            group = str(IPv6Address(bytes.fromhex(matched[2])))
            found.setdefault(matched[1], []).append(group)
    return found


def mld_version(name: str) -> int | None:
    """Return the MLD version an interface is set to use, None without IPv6.

    Linux shows only a forced version here; whether an MLDv1 querier was heard it does not tell.
    """
    forced = _number("ipv6", name, "force_mld_version")
    if forced is None:
        return None
    return 1 if forced == 1 else 2


def rp_filter(name: str) -> int | None:
    """Return the effective reverse-path filter: the larger of 'all' and the interface's own."""
    values = [_number("ipv4", one, "rp_filter") for one in ("all", name)]
    known = [value for value in values if value is not None]
    return max(known, default=None) if values[1] is not None else None


def _number(family: str, name: str, key: str) -> int | None:
    if "/" in name or name in ("", ".", ".."):
        return None  # no interface name, and no way out of the directory
    text = (_read(_SYSCTL / family / "conf" / name / key) or "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None

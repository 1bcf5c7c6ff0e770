"""Kernel settings per interface, from /proc/sys/net (ip-sysctl.rst). Linux only.

Everything here answers None where /proc does not tell.
"""

import re
from pathlib import Path

_SYSCTL = Path("/proc/sys/net")


def forced_igmp_version(name: str) -> int | None:
    """Return the IGMP version an interface is forced to, 0 for none."""
    return _number("ipv4", name, "force_igmp_version")


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


def mc_forwarding(name: str, version: int = 4) -> bool | None:
    """Tell whether an interface ('all': any) takes part in multicast forwarding, by a daemon."""
    value = _number(f"ipv{version}", name, "mc_forwarding")
    return None if value is None else value > 0


def ipv6_disabled(name: str) -> bool | None:
    """Tell whether an interface is to do without IPv6 (disable_ipv6)."""
    value = _number("ipv6", name, "disable_ipv6")
    return None if value is None else value > 0


def limit(key: str) -> int | None:
    """Return a limit of net/ipv4 or net/ipv6, e.g. 'ipv4/igmp_max_memberships'."""
    family, _, name = key.partition("/")
    return _parse(_SYSCTL / family / name)


def _number(family: str, name: str, key: str) -> int | None:
    if "/" in name or name in ("", ".", ".."):
        return None  # no interface name, and no way out of the directory
    return _parse(_SYSCTL / family / "conf" / name / key)


def _parse(path: Path) -> int | None:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return None
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else None

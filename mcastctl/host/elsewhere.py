"""Routes and memberships on macOS, the BSDs and Windows, by the system's own commands.

The records are those of Linux; what a system does not tell is None, and said in `notes` or in the
reason. Every parser passes over lines it does not understand.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from mcastctl.model.address import family, is_multicast
from mcastctl.model.errors import McastError, SocketError
from mcastctl.model.membership import GroupMembership, bare
from mcastctl.model.route import Reverse, Route, unanswered

Run = Callable[[list[str]], str]
_PATIENCE_S = 20
_BSD = ("freebsd", "netbsd", "openbsd", "dragonfly")
_UNTOLD = "this system tells neither filters, timers nor processes of a membership"
_MAC_HEADING = re.compile(r"(?:(IPv[46])|Link-layer) Multicast Group Memberships")
_BSD_IFACE = re.compile(r"(\S+):\s*")
_BSD_PROTOCOL = re.compile(r"\s+(igmp|mld)v([123])\b.*")
_BSD_GROUP = re.compile(r"\s+group (\S+)(?: mode (include|exclude|undefined))?\b.*")
_WINDOWS_HEAD = re.compile(r"\S.*?(\d+): (\S.*)")
_WINDOWS_ROW = re.compile(r"\s*(\d+)\s+(\d+)\s+\S+\s+(\S+)\s*")
_FIND_ROUTE = (
    "Find-NetRoute -RemoteIPAddress {} -ErrorAction Stop | Select-Object IPAddress,"
    "InterfaceIndex,InterfaceAlias,NextHop,DestinationPrefix | ConvertTo-Json"
)


def run(command: list[str]) -> str:
    """Return what a command of the system prints, in its plain language.

    Raises McastError where it is not there, and OSError where it says no.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_PATIENCE_S,
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired) as error:
        raise McastError(
            f"cannot run '{command[0]}', which tells this on {sys.platform}",
            hint="is it installed, and on PATH?",
        ) from error
    if done.returncode != 0:
        raise OSError(done.stderr.decode(errors="replace").strip() or "refused")
    return done.stdout.decode(errors="replace")


def refuse(what: str, platform: str | None = None) -> SocketError:
    """Return the error for what only Linux tells."""
    platform = platform or sys.platform
    others = {"darwin": "netstat -g", "win32": "netsh interface ipv4 show", "linux": ""}
    own = others.get(platform, "netstat -g, ifmcstat")
    return SocketError(f"cannot {what} on {platform}: only Linux tells", hint=f"look with: {own}")


# --- memberships


def memberships(platform: str | None = None, ask: Run = run) -> list[GroupMembership]:
    """Return the groups joined, as far as the system tells."""
    platform = platform or sys.platform
    if platform == "darwin":
        return macos_memberships(ask(["netstat", "-gn"]))
    if platform == "win32":
        texts = [ask(["netsh", "interface", f"ipv{one}", "show", "joins"]) for one in (4, 6)]
        return [one for text in texts for one in windows_memberships(text)]
    if platform.startswith(_BSD):
        return bsd_memberships(ask(["ifmcstat"]))
    raise refuse("list the groups joined", platform)


def macos_memberships(text: str) -> list[GroupMembership]:
    """Return the memberships of `netstat -gn` (macOS)."""
    found: list[GroupMembership] = []
    within = False
    for line in text.splitlines():
        heading = _MAC_HEADING.match(line)
        words = line.split()
        if heading:
            within = heading[1] is not None
        elif within and len(words) == 3:
            found += _membership(words[2], _index(words[2]), words[0])
    return found


def bsd_memberships(text: str) -> list[GroupMembership]:
    """Return the memberships of `ifmcstat`, with filter mode and version in force (FreeBSD)."""
    found: list[GroupMembership] = []
    iface = ""
    protocol: dict[str, str] = {}
    for line in text.splitlines():
        head, version = _BSD_IFACE.fullmatch(line), _BSD_PROTOCOL.fullmatch(line)
        group = _BSD_GROUP.fullmatch(line)
        if head:
            iface, protocol = head[1], {}
        elif version:
            kind = "ipv4" if version[1] == "igmp" else "ipv6"
            protocol[kind] = f"{version[1].upper()}v{version[2]}"
        elif group and iface:
            for one in _membership(iface, _index(iface), group[1]):
                told = protocol.get(one.family)
                mode = group[2] if group[2] in ("include", "exclude") else one.mode
                certain = group[2] == "exclude"  # of 'include' the sources are not told
                found.append(one._replace(protocol=told, mode=mode, mode_certain=certain))
    return found


def windows_memberships(text: str) -> list[GroupMembership]:
    """Return the memberships of `netsh interface ipv4|ipv6 show joins`, in any language."""
    found = []
    iface, index = "", 0
    for line in text.splitlines():
        head, entry = _WINDOWS_HEAD.fullmatch(line.rstrip()), _WINDOWS_ROW.fullmatch(line)
        if entry and iface:
            for one in _membership(iface, index, entry[3]):
                found.append(one._replace(users=int(entry[2][:9])))
        elif head and len(head[1]) < 10:
            iface, index = head[2], int(head[1])
    return found


def _membership(iface: str, index: int, text: str) -> Iterator[GroupMembership]:
    """Yield the one membership a line tells, or none."""
    try:
        group = str(ip_address(text.partition("%")[0]))
    except ValueError:
        return
    if index and is_multicast(group):
        row = bare(iface, index, group, f"ipv{family(group)}")
        yield row._replace(notes=(_UNTOLD,))


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except (OSError, ValueError):
        return 0


# --- routes


class Routing:
    """The system's answer to where a group leaves; the interface is `host.routes.Routing`'s."""

    def __init__(self, platform: str | None = None, ask: Run = run) -> None:
        self._platform = platform or sys.platform
        self._ask = ask

    def __enter__(self) -> "Routing":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def route(self, group: str, ifindex: int | None = None, source: str | None = None) -> Route:
        """Return where `group` leaves; an interface or a source decides by itself here."""
        if source is not None:
            raise refuse("ask for a route from a source", self._platform)
        if ifindex is not None:
            name = socket.if_indextoname(ifindex)
            reason = f"{name} decides: this system asks no routing table"
            route = unanswered(group, name, None)
            return route._replace(iface=name, ifindex=ifindex, error=None, reason=reason)
        told = self._lookup(group)
        if not told.get("iface"):
            return unanswered(group, None, None)._replace(reason="no route leads to the group")
        return unanswered(group, None, None)._replace(
            iface=told["iface"],
            ifindex=told["ifindex"],
            source=told.get("source"),
            gateway=told.get("gateway"),
            prefix=told.get("prefix"),
            error=None,
            reason=f"the routing table of {self._platform} decides",
        )

    def reverse(self, source: str) -> Reverse:
        """Return the route back to a sender."""
        told = self._lookup(source)
        index = told.get("ifindex")
        return Reverse(source, told.get("iface"), index, told.get("gateway"), local=False)

    def _lookup(self, address: str) -> dict[str, Any]:
        if self._platform == "win32":
            question = _FIND_ROUTE.format(address)
            command = ["powershell", "-NoProfile", "-NonInteractive", "-Command", question]
        else:
            kind = "-inet6" if family(address) == 6 else "-inet"
            command = ["route", "-n", "get", kind, address]
        try:
            text = self._ask(command)
        except OSError:
            return {}
        return windows_route(text) if self._platform == "win32" else bsd_route(text)


def bsd_route(text: str) -> dict[str, Any]:
    """Return interface, gateway, source and prefix of `route -n get` (macOS, BSD)."""
    fields = dict(re.findall(r"^\s*([a-z][a-z ]*[a-z]): (\S+)\s*$", text, re.MULTILINE))
    iface = fields.get("interface")
    everything = "::/0" if ":" in fields.get("route to", "") else "0.0.0.0/0"
    return {
        "iface": iface,
        "ifindex": (_index(iface) if iface else 0) or None,
        "gateway": _address(fields.get("gateway")),
        "source": _address(fields.get("local addr") or fields.get("if address")),
        "prefix": everything if fields.get("destination") == "default" else None,
    }


def _address(text: str | None) -> str | None:
    """Return an address without its zone, None for a link ('link#4') or a name."""
    try:
        return str(ip_address((text or "").partition("%")[0]))
    except ValueError:
        return None


def windows_route(text: str) -> dict[str, Any]:
    """Return interface, next hop, source and prefix of `Find-NetRoute ... | ConvertTo-Json`."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    objects = told if isinstance(told, list) else [told]
    merged: dict[str, Any] = {}
    for one in objects:
        if isinstance(one, dict):
            merged |= {key: value for key, value in one.items() if value is not None}
    hop = merged.get("NextHop")
    return {
        "iface": merged.get("InterfaceAlias"),
        "ifindex": merged.get("InterfaceIndex"),
        "gateway": hop if hop not in ("0.0.0.0", "::") else None,  # noqa: S104
        "source": merged.get("IPAddress"),
        "prefix": merged.get("DestinationPrefix"),
    }

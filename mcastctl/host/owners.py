"""The processes behind memberships: their sockets are asked where we may, matched where not.

A socket that may be duplicated tells its own groups and filters (`borrowed`). For the others only
the address they are bound to speaks: the group itself, or every address. Linux only.
"""

import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from mcastctl.host import borrowed, sockets
from mcastctl.host.borrowed import Borrowed, Filter
from mcastctl.host.sockets import BoundSocket
from mcastctl.model.address import family
from mcastctl.model.membership import GroupMembership, Owner, socket_filters

_PROC = Path("/proc")
_SOCKET = re.compile(r"socket:\[([0-9]+)\]", re.ASCII)
_MOST_NAMED = 3


class Holding(NamedTuple):
    """A socket that could be asked: what it joined, and where it is bound."""

    protocol: str
    local: str | None
    port: int
    filters: tuple[Filter, ...]


class OpenSocket(NamedTuple):
    """A descriptor of a process that is a socket."""

    pid: int
    fd: int
    inode: int


class Census(NamedTuple):
    """Everything known about the sockets of this host, as far as we may look.

    `held` has None for a socket that could not be asked; `complete` is False where a process
    did not even let its descriptors be listed.
    """

    open: list[OpenSocket]
    held: dict[int, Holding | None]
    bound: dict[int, BoundSocket]
    complete: bool


def find(memberships: list[GroupMembership]) -> list[GroupMembership]:
    """Return the memberships with their owners, and what could not be read said in notes."""
    if sys.platform != "linux":
        return memberships  # their notes say what the system does not tell
    joined = [(one.ifindex, one.group) for one in memberships if one.family != "link"]
    census = take_census(joined)
    names: dict[int, str] = {}
    asked = _asked(census, names)
    return [
        _explained(one, asked.get((one.ifindex, one.group), ()), census, names)
        for one in memberships
    ]


def take_census(joined: list[tuple[int, str]]) -> Census:
    """Look at every process's sockets and ask each about the (interface, group)s joined."""
    seen, complete = _open_sockets()
    bound, others = sockets.bound(), sockets.of_other_kinds()
    here = borrowed.own_cookie()
    held: dict[int, Holding | None] = {}
    for one in seen:
        known = bound.get(one.inode)
        if held.get(one.inode) is not None or one.inode in others:
            continue
        if known is not None and known.option_bytes == 0:
            held[one.inode] = Holding(known.protocol, known.local, known.port, ())
            continue
        if known is None and here is None and not _shares_namespace(one.pid):
            continue  # unbound or elsewhere: before Linux 5.14 the socket does not tell
        try:
            with Borrowed(one.pid, one.fd) as copy:
                held[one.inode] = _ask(copy, joined, here, known)
        except PermissionError:
            if known is not None:
                held.setdefault(one.inode, None)
        except OSError:
            continue  # the process or its socket is gone, or this kernel cannot duplicate
    return Census(seen, held, bound, complete)


def having_open(inodes: set[int]) -> list[tuple[int, str, int]]:
    """Return (pid, name, descriptor) of what has these sockets open, as far as we may see."""
    return [(pid, name, fd) for _, pid, name, fd in holding(inodes)]


def holding(inodes: set[int]) -> list[tuple[int, int, str, int]]:
    """Return (inode, pid, name, descriptor) of what has these sockets open, as far as visible."""
    names: dict[int, str] = {}
    seen, _complete = _open_sockets()
    return [
        (one.inode, one.pid, _name(one.pid, names), one.fd) for one in seen if one.inode in inodes
    ]


def _ask(
    copy: Borrowed, joined: list[tuple[int, str]], here: bytes | None, known: BoundSocket | None
) -> Holding:
    nothing = Holding("other", None, 0, ())
    version = copy.family
    if version is None or not copy.may_have_joined():
        return nothing
    if copy.namespace != here:
        return nothing
    # An IPv6 socket may join IPv4 groups as well; an IPv4 socket no IPv6 ones.
    possible = [one for one in joined if version == 6 or family(one[1]) == 4]
    local, port = copy.local()
    protocol = known.protocol if known else copy.protocol()
    return Holding(protocol, local, port, tuple(copy.filters(possible)))


def _asked(census: Census, names: dict[int, str]) -> dict[tuple[int, str], list[Owner]]:
    """Return the owners that told themselves, by interface index and group."""
    found = defaultdict(list)
    for one in census.open:
        holding = census.held.get(one.inode)
        for each in holding.filters if holding else ():
            owner = Owner(
                pid=one.pid,
                name=_name(one.pid, names),
                fd=one.fd,
                inode=one.inode,
                protocol=holding.protocol if holding else "",
                local=holding.local if holding else None,
                port=holding.port if holding else 0,
                mode=each.mode,
                sources=each.sources,
                evidence="asked",
            )
            found[each.ifindex, each.group].append(owner)
    return found


def _explained(
    one: GroupMembership, asked: list[Owner] | tuple[()], census: Census, names: dict[int, str]
) -> GroupMembership:
    if one.family == "link" or one.users is None:
        return one
    missing = one.users - one.by_kernel - len({owner.inode for owner in asked})
    if missing <= 0:
        told = socket_filters(asked, by_kernel=one.by_kernel) if asked else None
        if told:
            one = one._replace(mode=told[0], sources=told[1], mode_certain=True)
        return one._replace(owners=tuple(asked))
    possible = _possible(one.group, census)
    owners = [
        _bound_owner(each, census.bound[each.inode], names, one.group)
        for each in census.open
        if each.inode in possible
    ]
    listed = {each.inode for each in census.open}
    unlisted = [census.bound[inode] for inode in possible if inode not in listed]
    note = _note(one, missing, owners, unlisted, census)
    return one._replace(owners=(*asked, *owners), notes=(*one.notes, note))


def _possible(group: str, census: Census) -> dict[int, None]:
    """Return the inodes of sockets that we could not ask and that may hold the group.

    Those bound to the group come first; sockets whose options take no memory joined nothing.
    """
    unknown = [
        one
        for one in census.bound.values()
        if census.held.get(one.inode) is None and one.option_bytes != 0
    ]
    exact = [one.inode for one in unknown if one.local == group]
    loose = [
        one.inode
        for one in unknown
        if one.wildcard and (":" in one.local or family(group) == 4) and one.option_bytes
    ]
    return dict.fromkeys(exact or loose)


def _bound_owner(one: OpenSocket, known: BoundSocket, names: dict[int, str], group: str) -> Owner:
    return Owner(
        pid=one.pid,
        name=_name(one.pid, names),
        fd=one.fd,
        inode=one.inode,
        protocol=known.protocol,
        local=known.local,
        port=known.port,
        mode=None,
        sources=(),
        evidence="bound" if known.local == group else "possible",
    )


def _note(
    one: GroupMembership,
    missing: int,
    owners: list[Owner],
    unlisted: list[BoundSocket],
    census: Census,
) -> str:
    """Return what of a row could not be read, and what it would take."""
    head = f"{one.group} on {one.iface}: {missing} of {one.users} users could not be asked"
    if unlisted:
        which = ", ".join(
            f"uid {each.uid} bound to {each.local} port {each.port}"
            for each in unlisted[:_MOST_NAMED]
        )
        return f"{head}; sockets that may be it: {which}; root sees their processes"
    if owners:
        return f"{head}; its process may not be traced: run as root"
    if not census.complete or os.geteuid() != 0:
        return f"{head}; root sees the processes of all users"
    return f"{head}; the kernel itself (a bridge, VXLAN) or a process outside this pid namespace"


def _open_sockets() -> tuple[list[OpenSocket], bool]:
    """Return every socket descriptor we may list, and whether all processes let us."""
    found: list[OpenSocket] = []
    complete = True
    for pid in _pids():
        try:
            found += _descriptors(pid)
        except PermissionError:
            complete = False
        except OSError:
            continue  # it ended
    return found, complete


def _pids() -> list[int]:
    try:
        names = [one.name for one in _PROC.iterdir()]
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _descriptors(pid: int) -> list[OpenSocket]:
    found = []
    for one in (_PROC / str(pid) / "fd").iterdir():
        try:
            matched = _SOCKET.fullmatch(str(one.readlink()))
        except FileNotFoundError:
            continue  # closed meanwhile
        if matched:
            found.append(OpenSocket(pid, int(one.name), int(matched[1])))
    return found


def _shares_namespace(pid: int) -> bool:
    """Tell whether a process is in this network namespace; yes where that cannot be seen."""
    try:
        theirs, ours = ((_PROC / one / "ns" / "net").readlink() for one in (str(pid), "self"))
    except OSError:
        return True
    return theirs == ours


def _name(pid: int, names: dict[int, str]) -> str:
    """Return what a process calls itself (/proc/PID/comm)."""
    if pid not in names:
        try:
            text = (_PROC / str(pid) / "comm").read_bytes().decode(errors="replace")
            names[pid] = text.removesuffix("\n")
        except OSError:
            names[pid] = ""
    return names[pid]

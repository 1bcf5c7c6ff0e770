"""Giving root away: sockets are opened first, then nothing is left that bytes could abuse.

`lower` changes to the invoking user and keeps only what opening a capture takes; `surrender`
gives that up too, before the first frame is looked at. Sources: capabilities(7),
credentials(7), prctl(2), capset(2).
"""

import ctypes
import os
import re
import struct
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mcastctl.model.errors import McastError

_PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _CLEAR_ALL = 8, 38, 47, 4
_CAPABILITY_V3 = 0x20080522
_NET_ADMIN, _NET_RAW = 1 << 12, 1 << 13
_NOBODY = 65534
_LARGEST_ID = 2**32 - 2
"""The kernel takes 2**32 - 1 for 'leave it'."""


class PrivilegeError(McastError):
    """Privilege that could not be given away."""


class Identity(NamedTuple):
    """Who the capture is to run as; `invoker` tells whether that is who called sudo."""

    uid: int
    gid: int
    name: str
    invoker: bool


def target(environ: Mapping[str, str]) -> Identity | None:
    """Return who to become, None when we are nobody special: the caller of sudo, or nobody."""
    if os.name != "posix" or os.geteuid() != 0:
        return None
    uid, gid = _number(environ.get("SUDO_UID")), _number(environ.get("SUDO_GID"))
    if uid:
        return Identity(uid, gid or _NOBODY, _user_name(uid), True)
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Identity(_NOBODY, _NOBODY, "nobody", False)
    return Identity(entry.pw_uid, entry.pw_gid, "nobody", False)


def _number(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII):
        return None
    return int(text) if int(text) <= _LARGEST_ID else None


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def lower(who: Identity | None) -> bool:
    """Become `who`, keeping the capabilities that open captures until `surrender`.

    False when the kernel does not let us be that user (a user namespace that maps root alone,
    a container without CAP_SETUID): then everything else is still given away.
    """
    if who is None or not sys.platform.startswith("linux"):
        return True
    _prctl(_PR_SET_KEEPCAPS, 1)
    with suppress(PermissionError):  # forbidden in a namespace made without privilege
        os.setgroups([])
    _keep_modules_readable(who)
    changed = False
    with suppress(OSError):  # EINVAL: not mapped; EPERM: root without CAP_SETUID, in a container
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
        changed = True
    _keep_only(_NET_ADMIN | _NET_RAW)
    return changed


def surrender(who: Identity | None = None) -> None:
    """Give every capability away, for this process and its children, for good."""
    if sys.platform.startswith("linux"):
        _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
        _keep_only(0)
        if _prctl(_PR_SET_NO_NEW_PRIVS, 1):
            raise PrivilegeError(
                "cannot set no_new_privs", hint="Linux 3.5 or later is needed to capture as root"
            )
    elif who is not None:
        os.setgroups([])
        os.setgid(who.gid)
        os.setuid(who.uid)


def _keep_only(wanted: int) -> None:
    """Reduce permitted and effective capabilities to those wanted that we have."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_V3, 0)
    data = ctypes.create_string_buffer(24)
    libc.capget(header, data)
    words = struct.unpack("=6I", data.raw)  # effective, permitted, inheritable; low, then high
    kept = words[1] & wanted
    if libc.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)):
        raise PrivilegeError(
            f"cannot give capabilities away: {os.strerror(ctypes.get_errno())}",
            hint="a security policy forbids capset(2); run as an ordinary user with CAP_NET_RAW",
        )


def _prctl(option: int, value: int) -> int:
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    return int(prctl(option, value, 0, 0, 0))


def _keep_modules_readable(who: Identity) -> None:
    """Let modules still be imported when `who` may not walk to where they lie.

    Root's own checkout below /root is such a place. The directories are opened now, and
    imported from through their descriptors; what is in them `who` must be able to read. Only
    the interpreter's own and those of packages in use: not, say, a current directory.
    """
    packages = [getattr(module, "__path__", None) for module in list(sys.modules.values())]
    lists = [one for one in packages if isinstance(one, list)]
    places = {one for one in sys.path if one.startswith((sys.prefix, sys.base_prefix))}
    places = {one for one in places.union(*lists) if Path(one).is_dir()}
    if _may_read(who, places):
        return
    opened = {one: _descriptor_path(one) for one in places}
    for paths in (sys.path, *lists):
        paths[:] = [opened.get(one, one) for one in paths]


def _descriptor_path(directory: str) -> str:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}"


def _may_read(who: Identity, paths: Iterable[str]) -> bool:
    """Tell whether `who` can walk to and list these directories, by trying."""
    gid = os.getegid()
    try:
        os.setegid(who.gid)
        os.seteuid(who.uid)
    except OSError:
        return True  # no such user here: nothing will change
    try:
        return all(os.access(one, os.R_OK | os.X_OK, effective_ids=True) for one in paths)
    finally:
        os.seteuid(0)
        os.setegid(gid)

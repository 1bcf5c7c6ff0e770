"""Another network namespace for this process: by name, as `ip netns` has them, or by a pid in it.

Everything opened afterwards belongs there (setns(2)); /sys keeps showing where we came from.
"""

import ctypes
import errno
import os
import re
import sys
from pathlib import Path

from mcastctl.model import refusal
from mcastctl.model.errors import SocketError, ValueRangeError

NAMED = Path("/run/netns")
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_NS_GET_USERNS = 0xB701  # <linux/nsfs.h>


def enter(text: str) -> None:
    """Move this process into a namespace; raises with the remedy where that is not possible.

    The process must have one thread and no sockets. An ordinary user may enter what belongs to
    a user namespace of his own (user_namespaces(7)).
    """
    if sys.platform != "linux":
        raise ValueRangeError(
            f"--netns: {sys.platform} has no network namespaces", hint="leave it out"
        )
    path = _find(text)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SocketError(
            f"cannot enter the network namespace '{text}': "
            f"{refusal.cause(error.errno, error.strerror)}",
            hint=_remedy(error.errno, text),
            errno=error.errno,
        ) from error


def _find(text: str) -> Path:
    named = NAMED / text
    if text not in ("", ".", "..") and "/" not in text and _is_there(named):
        return named
    if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII):
        process = Path("/proc") / str(int(text))
        if _is_there(process):
            return process / "ns" / "net"
        raise ValueRangeError(
            f"there is neither a process {text} nor a network namespace of that name",
            hint="name a running process; 'lsns -t net' lists those with a namespace of their own",
        )
    raise ValueRangeError(f"there is no network namespace '{text}'", hint=f"{_known()}; or a pid")


def _is_there(path: Path) -> bool:
    """Tell whether a name, which may be any text, is that of something there is."""
    try:
        path.stat()
    except (OSError, ValueError):  # too long, or behind what may not be looked into
        return False
    return True


def _known() -> str:
    try:
        names = sorted(one.name for one in NAMED.iterdir())
    except OSError:
        names = []
    return f"'ip netns' knows: {', '.join(names) or 'none'}"


def _enter(descriptor: int) -> None:
    try:
        _setns(descriptor, _CLONE_NEWNET)
    except PermissionError:
        owner = _owner(descriptor)
        try:
            _setns(owner, _CLONE_NEWUSER)
        finally:
            os.close(owner)
        _setns(descriptor, _CLONE_NEWNET)


def _owner(descriptor: int) -> int:
    """Return a descriptor of the user namespace a network namespace belongs to (ioctl_ns(2))."""
    import fcntl

    try:
        return fcntl.ioctl(descriptor, _NS_GET_USERNS)
    except OSError as error:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from error


def _setns(descriptor: int, kind: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)  # os.setns exists from Python 3.12 on
    if library.setns(descriptor, kind) != 0:
        number = ctypes.get_errno()
        # Our own user namespace again: the kernel says EINVAL, meaning that it would not help.
        number = errno.EPERM if kind == _CLONE_NEWUSER and number == errno.EINVAL else number
        raise OSError(number, os.strerror(number))


def _remedy(number: int | None, text: str) -> str:
    if number in (errno.EPERM, errno.EACCES):
        return "this needs root, or to own the namespace: run it by sudo"
    return f"is it still there? 'ip netns' and 'ls -l /proc/{text}/ns/net' tell"

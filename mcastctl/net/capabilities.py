"""Capabilities kept from the programs this process starts. Linux; elsewhere there are none.

Sources: capabilities(7), prctl(2), capset(2).
"""

import ctypes
import os
import struct
import sys

from mcastctl.model.errors import McastError

_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_GET_SECUREBITS = 23, 24, 27
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_NOROOT = 1
"""SECBIT_NOROOT: being root gives no capability at execve(2)."""
_CAPABILITY_V3 = 0x20080522
_MOST = 64
"""Capabilities there can be; the kernel refuses numbers it does not know."""


class CapabilityError(McastError):
    """Capabilities that would reach the programs that are started."""


def _prctl(option: int, value: int) -> int:
    """Call prctl(2); -1 is a refusal."""
    function = ctypes.CDLL(None).prctl
    function.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    return int(function(option, value, 0, 0, 0))


def keep_from_children() -> None:
    """Let nothing that is executed from now on gain capabilities, not even as root.

    Our own stay: ambient, inheritable and bounding set count at execve(2) only. Raises
    CapabilityError where some would be left: what root executes gains the whole bounding set, and
    without CAP_SETPCAP that cannot be shrunk. Whoever is not root gains nothing by it.
    """
    if not sys.platform.startswith("linux"):
        return
    _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    for number in range(_MOST):
        _prctl(_PR_CAPBSET_DROP, number)
    if _inheritable_left() or (_root() and _bounding_left()):
        raise CapabilityError(
            "--exec: what it runs would have capabilities, and they cannot be taken from it",
            hint="run this as an ordinary user, or with CAP_SETPCAP, which it takes to drop them",
        )


def _inheritable_left() -> bool:
    """Empty the inheritable set, and with it the ambient one; tell whether anything is left."""
    libc = ctypes.CDLL(None)
    header = struct.pack("=Ii", _CAPABILITY_V3, 0)
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data):  # a kernel that has none, or a policy that forbids to look
        return _root()
    words = list(struct.unpack("=6I", data.raw))  # effective, permitted, inheritable; low, high
    left = bool(words[2] or words[5])
    words[2] = words[5] = 0
    return left and libc.capset(header, struct.pack("=6I", *words)) != 0


def _bounding_left() -> bool:
    return any(_prctl(_PR_CAPBSET_READ, number) == 1 for number in range(_MOST))


def _root() -> bool:
    """Tell whether execve(2) treats us as root (capabilities(7))."""
    securebits = _prctl(_PR_GET_SECUREBITS, 0)
    return 0 in {os.getuid(), os.geteuid()} and not (securebits > 0 and securebits & _NOROOT)

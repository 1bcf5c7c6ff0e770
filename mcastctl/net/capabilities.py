"""Capabilities kept from the programs this process starts. Linux; elsewhere there are none.

Sources: capabilities(7), prctl(2), capset(2).
"""

import ctypes
import struct
import sys

_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = 24, 47, 4
_CAPABILITY_V3 = 0x20080522
_MOST = 64
"""Capabilities there can be; the kernel refuses numbers it does not know."""


def _prctl(option: int, value: int) -> None:
    """Call prctl(2); a refusal leaves what is refused to whoever is no root anyway."""
    function = ctypes.CDLL(None).prctl
    function.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    function(option, value, 0, 0, 0)


def keep_from_children() -> None:
    """Let nothing that is executed from now on gain capabilities, not even as root.

    Our own stay: ambient, inheritable and bounding set count at execve(2) only. A process that may
    not shrink its bounding set is not root, and its children then inherit nothing either.
    """
    if not sys.platform.startswith("linux"):
        return
    _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    for number in range(_MOST):
        _prctl(_PR_CAPBSET_DROP, number)
    libc = ctypes.CDLL(None)
    header = struct.pack("=Ii", _CAPABILITY_V3, 0)
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data) == 0:  # effective, permitted, inheritable; low words, then high
        words = list(struct.unpack("=6I", data.raw))
        words[2] = words[5] = 0
        libc.capset(header, struct.pack("=6I", *words))

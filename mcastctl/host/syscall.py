"""System calls that neither Python nor the C library has a function for, by number.

Numbers are those of asm/unistd.h on 64-bit Linux; architectures with the generic table share them.
"""

import ctypes
import errno
import os
import struct
import sys

_COLUMNS = {
    **{"x86_64": 0, "aarch64": 1, "riscv64": 1, "loongarch64": 1},
    **{"ppc64le": 2, "ppc64": 2, "s390x": 3},
}
_NUMBERS = {
    "bpf": (321, 280, 361, 351),
    "perf_event_open": (298, 241, 319, 331),
    "fsopen": (430, 430, 430, 430),
    "fsconfig": (431, 431, 431, 431),
    "fsmount": (432, 432, 432, 432),
}


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Return what the call returns; raises OSError, ENOSYS where its number is not known."""
    column = _COLUMNS.get(os.uname().machine) if sys.platform == "linux" else None
    if column is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    library = ctypes.CDLL(None, use_errno=True)
    answer = library.syscall(ctypes.c_long(_NUMBERS[name][column]), *words)
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(answer)

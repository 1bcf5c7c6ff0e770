"""Arrays of struct mmsghdr over one buffer: many datagrams in one system call.

sendmmsg(2) and recvmmsg(2) through the C library; Python calls neither. The headers are built
once and point into a buffer of equal slots, so that a call costs no work for each datagram.
"""

import ctypes
import os
import struct
from typing import Any

from mcastctl.net.platforms import HERE

_IOVEC = struct.Struct("@PN")
_libc = ctypes.CDLL(None, use_errno=True)


def address_of(buffer: Any) -> int:
    """Return where a writable buffer lies; the caller keeps it alive and its size fixed."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Outbox:
    """Datagrams of `size` bytes, `stride` apart in `buffer`, to `names` in turn (sockaddrs)."""

    def __init__(self, buffer: bytearray, size: int, stride: int, names: list[bytes]) -> None:
        slots = len(buffer) // stride
        self._kept: list[Any] = [buffer, bytearray(b"".join(names))]
        base, name = map(address_of, self._kept)
        vectors = bytearray(
            b"".join(_IOVEC.pack(base + slot * stride, size) for slot in range(slots))
        )
        vector = address_of(vectors)
        header = struct.Struct(HERE.mmsghdr or "")
        length = len(names[0])
        headers = bytearray(
            b"".join(
                header.pack(
                    *(name + slot % len(names) * length, length),
                    *(vector + slot * _IOVEC.size, 1),
                    *(0, 0, 0, 0),
                )
                for slot in range(slots)
            )
        )
        self._kept += [vectors, headers]
        self._headers = address_of(headers)
        self._header_size = header.size
        self._sendmmsg = _libc.sendmmsg
        self._sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

    def send(self, descriptor: int, first: int, count: int) -> int:
        """Send slots `first` to `first + count`; return how many the kernel took, at least one.

        OSError is about the first of them; none was taken then.
        """
        at = self._headers + first * self._header_size
        taken: int = self._sendmmsg(descriptor, at, count, 0)
        if taken < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return taken

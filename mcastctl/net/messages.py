"""Arrays of struct mmsghdr over one buffer: many datagrams in one system call.

sendmmsg(2) and recvmmsg(2) through the C library; Python calls neither. The headers are built
once and point into a buffer of equal slots, so that a call costs no work for each datagram.
"""

import ctypes
import mmap
import os
import struct
from typing import Any

from mcastctl.net.platforms import HERE

_MSG_TRUNC, _MSG_DONTWAIT = 0x20, 0x40
"""Flags of recvmmsg(2) on Linux: tell the true length; never wait."""
_IOVEC = struct.Struct("@PN")
_libc = ctypes.CDLL(None, use_errno=True)


def address_of(buffer: Any) -> int:
    """Return where a writable buffer lies; the caller keeps it alive and its size fixed."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Outbox:
    """Payloads of `size` bytes, `stride` apart in `buffer`, to `names` in turn (sockaddrs).

    Each is a message, or so many `together` are (`Segmented` in net/ladder.py). Without names they
    go where the socket is connected to.
    """

    def __init__(
        self, buffer: bytearray, size: int, stride: int, names: list[bytes], together: int = 1
    ) -> None:
        messages = len(buffer) // stride // together
        parts = 1 if size == stride else together  # without gaps between them, one is enough
        self._kept: list[Any] = [buffer]
        base = address_of(buffer)
        places, length = [0], 0
        if names:
            length = len(names[0])
            packed = bytearray(b"".join(names))
            self._kept.append(packed)
            places = [address_of(packed) + at * length for at in range(len(names))]
        step, extent = together // parts * stride, together // parts * size
        vectors = bytearray(
            b"".join(_IOVEC.pack(base + n * step, extent) for n in range(messages * parts))
        )
        vector = address_of(vectors)
        header = struct.Struct(HERE.mmsghdr or "")
        headers = bytearray(
            b"".join(
                header.pack(
                    *(places[n % len(places)], length),
                    *(vector + n * parts * _IOVEC.size, parts),
                    *(0, 0, 0, 0),
                )
                for n in range(messages)
            )
        )
        self._kept += [vectors, headers]
        self._headers = address_of(headers)
        self._header_size = header.size
        self._sendmmsg = _libc.sendmmsg
        self._sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

    def send(self, descriptor: int, first: int, count: int) -> int:
        """Send `count` messages from `first` on; return how many the kernel took, at least one.

        OSError is about the first of them; none was taken then.
        """
        at = self._headers + first * self._header_size
        taken: int = self._sendmmsg(descriptor, at, count, 0)
        if taken < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return taken


class Inbox:
    """Room for `slots` datagrams: payload up to `size` bytes, sender and control messages each.

    After `receive` the columns hold what came: `lengths` of the payloads in truth and of the
    control messages, `payloads`, `names` (NAME bytes each) and `controls` (CONTROL bytes each)
    one after the other.
    """

    NAME = 32
    """struct sockaddr_in6 and padding."""
    CONTROL = 160
    """Control messages of `ancillary.request`: time stamp, packet info, TTL and TOS, aligned."""

    def __init__(self, slots: int, size: int) -> None:
        # Untouched pages of an anonymous mapping take no memory, those of a bytearray do.
        self._data = mmap.mmap(-1, slots * size)
        self._kept = [bytearray(slots * self.NAME), bytearray(slots * self.CONTROL)]
        data, name, control = (address_of(one) for one in (self._data, *self._kept))
        vectors = bytearray(
            b"".join(_IOVEC.pack(data + slot * size, size) for slot in range(slots))
        )
        vector = address_of(vectors)
        header = struct.Struct(HERE.mmsghdr or "")
        self._fresh = b"".join(
            header.pack(
                *(name + slot * self.NAME, self.NAME),
                *(vector + slot * _IOVEC.size, 1),
                *(control + slot * self.CONTROL, self.CONTROL),
                *(0, 0),
            )
            for slot in range(slots)
        )
        headers = bytearray(self._fresh)
        self._kept += [vectors, headers]
        self._header = header.size
        self._headers = memoryview(headers)
        self._at = address_of(headers)
        self._used = 0
        self.slots, self.size = slots, size
        self.payloads = memoryview(self._data)
        self.names, self.controls = memoryview(self._kept[0]), memoryview(self._kept[1])
        self.lengths = self._headers.cast("I")[header.size // 4 - 2 :: header.size // 4]
        self.control_lengths = self._headers.cast("Q")[5 :: header.size // 8]
        self._recvmmsg = _libc.recvmmsg
        self._recvmmsg.argtypes = (
            *(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int),
            ctypes.c_void_p,
        )

    def receive(self, descriptor: int, most: int) -> int:
        """Take up to `most` datagrams; return how many came, BlockingIOError for none.

        With too small slots payloads are cut; their lengths are true all the same.
        """
        used = self._used
        self._headers[: used * self._header] = self._fresh[: used * self._header]
        flags = _MSG_DONTWAIT | _MSG_TRUNC
        came: int = self._recvmmsg(descriptor, self._at, min(most, self.slots), flags, None)
        self._used = max(came, 0)
        if came < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return came

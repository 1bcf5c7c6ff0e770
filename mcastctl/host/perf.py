"""Events of kernel tracepoints as they happen, without leaving anything behind.

A tracepoint is opened on every CPU with perf_event_open(2); records wait in a ring of fixed size
until they are read, and what does not fit is counted as lost. All of it, filters too, goes with the
descriptors, however the process ends. Linux only; needs CAP_PERFMON, or root of the machine.
"""

import errno
import mmap
import os
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from mcastctl.host import syscall

_TYPE_TRACEPOINT, _SAMPLE_TIME, _SAMPLE_RAW, _DISABLED, _CLOEXEC = 2, 1 << 2, 1 << 10, 1, 8
_ENABLE, _SET_OUTPUT, _SET_FILTER = 0x2400, 0x2405, 0x40082406
_ATTRIBUTE = struct.Struct("=IIQQQQQ64x")  # type size config period sample_type read_format flags
_HEAD_AT, _TAIL_AT = 1024, 1032  # data_head, data_tail of struct perf_event_mmap_page
_HEADER = struct.Struct("=IHH")  # type misc size
_LOST, _SAMPLE = 2, 9
_RING_BYTES = 1 << 19  # per CPU, what kernel.perf_event_mlock_kb allows anyone


class Tracepoint(NamedTuple):
    """An event's number and a filter in the language of tracefs ("" for all of them)."""

    number: int
    filter: str


class Record(NamedTuple):
    """When (ns of the kernel's trace clock), on which CPU, and the fields as tracefs lays them out.

    The number of the event is in the first two bytes (common_type).
    """

    time: int
    cpu: int
    data: bytes


class Ring:
    """The records of one CPU."""

    def __init__(self, cpu: int, points: Sequence[Tracepoint], stack: ExitStack) -> None:
        import fcntl  # absent on Windows

        self.cpu, self.lost = cpu, 0
        first = -1
        for point in points:
            fd = _open(point.number, cpu)
            stack.callback(os.close, fd)
            if point.filter:
                fcntl.ioctl(fd, _SET_FILTER, point.filter.encode("utf-8", "surrogateescape"))
            if first < 0:
                first, self._size = fd, max(_RING_BYTES, mmap.PAGESIZE)
                self._map = mmap.mmap(fd, mmap.PAGESIZE + self._size)
                stack.callback(self._map.close)
            else:
                fcntl.ioctl(fd, _SET_OUTPUT, first)
            fcntl.ioctl(fd, _ENABLE, 0)

    def read(self) -> list[Record]:
        """Return what has come since the last time; at most one ring full."""
        head, tail = (
            int.from_bytes(self._map[at : at + 8], "little") for at in (_HEAD_AT, _TAIL_AT)
        )
        data = self._between(tail, head)
        struct.pack_into("=Q", self._map, _TAIL_AT, head)
        return self._records(data)

    def _between(self, tail: int, head: int) -> bytes:
        ring, start, length = mmap.PAGESIZE, tail % self._size, min(head - tail, self._size)
        piece = self._map[ring + start : ring + min(start + length, self._size)]
        return piece + self._map[ring : ring + length - len(piece)]

    def _records(self, data: bytes) -> list[Record]:
        found, at = [], 0
        while at + _HEADER.size <= len(data):
            kind, _, size = _HEADER.unpack_from(data, at)
            if size < _HEADER.size:
                break
            body, at = data[at + _HEADER.size : at + size], at + size
            if kind == _SAMPLE and len(body) >= 12:
                time, length = struct.unpack_from("=QI", body)
                found.append(Record(time, self.cpu, body[12 : 12 + length]))
            elif kind == _LOST and len(body) >= 16:
                self.lost += struct.unpack_from("=QQ", body)[1]
        return found


class Events:
    """Records of tracepoints from all CPUs, in order of time."""

    def __init__(self, points: Sequence[Tracepoint], stack: ExitStack) -> None:
        """Start recording until the stack closes; raises OSError."""
        self._rings = []
        for cpu in range(os.cpu_count() or 1):
            try:
                self._rings.append(Ring(cpu, points, stack))
            except OSError as error:
                if error.errno not in (errno.ENODEV, errno.ENXIO):  # that CPU is off
                    raise
        if not self._rings:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    @property
    def lost(self) -> int:
        """How many records found no room."""
        return sum(ring.lost for ring in self._rings)

    def read(self) -> list[Record]:
        """Return what has come since the last time, bounded by the size of the rings."""
        return sorted(record for ring in self._rings for record in ring.read())


def _open(number: int, cpu: int) -> int:
    kinds = _SAMPLE_TIME | _SAMPLE_RAW
    given = _ATTRIBUTE.pack(_TYPE_TRACEPOINT, _ATTRIBUTE.size, number, 1, kinds, 0, _DISABLED)
    every_process, no_group = -1, -1
    return syscall.call("perf_event_open", given, every_process, cpu, no_group, _CLOEXEC)

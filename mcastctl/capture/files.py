"""Opening a capture file or pipe, whatever its format, and the ways it can be damaged."""

import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from mcastctl.model.errors import McastError
from mcastctl.model.frame import Block

CHUNK = 1 << 20
"""Bytes read at a time."""


class CaptureFileError(McastError):
    """A capture file that cannot be opened, read, understood or written."""


class DamagedFile(CaptureFileError):
    """A capture file that ends or contradicts itself; `offset` is where, in bytes."""

    def __init__(self, name: str, offset: int, what: str, records: int) -> None:
        super().__init__(
            f"{name} is damaged at offset {offset}: {what}",
            hint=f"the {records} whole records before it were read",
        )
        self.offset = offset


class Input:
    """Bytes of a file or pipe with their offsets, read in chunks.

    `ready` is asked before each read and may wait; False stops the reading: `stopped` is then
    true, and what is pending is no damage.
    """

    def __init__(self, path: str, ready: Callable[[int], bool] = lambda descriptor: True) -> None:
        self.name = "standard input" if path == "-" else path
        self._ready = ready
        self.offset = 0
        """Where `pending` begins in the file."""
        self.pending = b""
        self.stopped = False
        self._own = path != "-"
        try:
            if self._own and Path(path).is_socket():
                raise OSError(0, "it is a socket")
            # Without a writer, opening a FIFO would wait where no signal handler runs.
            self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if self._own else 0
            mode = os.fstat(self.descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(0, "it is a directory")
            if self._own:
                os.set_blocking(self.descriptor, True)
        except (OSError, ValueError) as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError | ValueError) -> CaptureFileError:
        why = (error.strerror if isinstance(error, OSError) else str(error)) or "no reason given"
        return CaptureFileError(
            f"cannot read {self.name}: {why.lower()}",
            hint="name a pcap or pcapng file (-r - is standard input)",
        )

    def more(self) -> bool:
        """Read once and add it to `pending`; False at the end."""
        if self.stopped or not self._ready(self.descriptor):
            self.stopped = True
            return False
        try:
            chunk = os.read(self.descriptor, CHUNK)
        except OSError as error:
            raise self._refused(error) from error
        self.pending += chunk
        return bool(chunk)

    def need(self, size: int) -> bool:
        """Read until `size` bytes are pending; False when the input ends before."""
        while len(self.pending) < size:
            if not self.more():
                return False
        return True

    def drop(self, size: int) -> None:
        """Forget the first `size` pending bytes."""
        self.pending = self.pending[size:]
        self.offset += size

    def close(self) -> None:
        """Close what was opened; a second time does nothing."""
        if self._own and self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class CaptureFile:
    """An open capture file: `blocks` yields its records, then raises DamagedFile if it must.

    `linktype` is that of the first interface, `records` how many were read so far.
    """

    kind = "pcap"
    """'pcap' or 'pcapng'."""

    def __init__(self, source: Input) -> None:
        self.source = source
        self.linktype = -1
        self.unit_ns = 1000
        self.snaplen = 0
        self.records = 0

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of records in the order of the file; none of a file of no format."""
        yield from ()

    def damaged(self, at: int, what: str) -> DamagedFile:
        """Return the error for damage at `at` of the pending bytes."""
        return DamagedFile(self.source.name, self.source.offset + at, what, self.records)


def open_file(path: str, ready: Callable[[int], bool] = lambda descriptor: True) -> CaptureFile:
    """Open a file by what it begins with; '-' is standard input.

    Raises CaptureFileError when it cannot be read or is no capture file.
    """
    from mcastctl.capture.pcap import HEADER, PcapFile, is_pcap
    from mcastctl.capture.pcapng import PcapngFile, is_pcapng

    source = Input(path, ready)
    whole = source.need(4)
    magic = source.pending[:4]
    if whole and is_pcap(magic) and (source.need(HEADER) or not source.stopped):
        return PcapFile(source)
    if whole and is_pcapng(magic):
        return PcapngFile(source)
    source.close()
    if source.stopped:
        return CaptureFile(source)
    if not magic:
        raise CaptureFileError(
            f"{source.name} is empty",
            hint="even a capture of no packets has a header: did what wrote it fail?",
        )
    packed = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"\xfd7": "xz", b"BZ": "bzip2"}
    program = packed.get(magic[:2])
    hint = f"unpack it: {program} -dc FILE | mcastctl sniff -r -" if program else ""
    raise CaptureFileError(
        f"{source.name} is no capture file: it begins with {magic.hex(' ')} (offset 0)",
        hint=hint or "pcap and pcapng are understood",
    )


_LAST_NS = (1 << 64) - 1


def repacked(ts_ns: int, captured: bytes, length: int) -> bytes:
    """Return a record in the form of `Block`: little-endian, ticks of a nanosecond.

    A time before 1970 or after 2554 becomes the first or last that the form can hold.
    """
    count = min(max(ts_ns, 0), _LAST_NS)
    return struct.pack("<IIII", count >> 32, count & 0xFFFFFFFF, len(captured), length) + captured

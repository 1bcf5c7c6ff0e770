"""Frames to a capture file: pcap, or pcapng where the name ends in .pcapng.

The file consists of whole records at any time we can help it: they are written in blocks, and
where the disk is full the torn record is cut off again.
"""

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mcastctl.capture.files import CaptureFileError
from mcastctl.capture.outfile import create, empty
from mcastctl.model.frame import MAX_FRAME, Frame

_FLUSH_BYTES = 1 << 18
_PCAP_NANO = 0xA1B23C4D
_FLAGS = {"in": 1, "out": 2}


class _Interface(NamedTuple):
    linktype: int
    name: str


class Writer:
    """A capture file being written; time stamps keep their nanoseconds.

    pcap holds one link type and no interfaces; a frame that does not fit raises
    CaptureFileError, as does a file that cannot be written.
    """

    def __init__(self, path: str, source: str = "-") -> None:
        """Open `path` ('-' is standard output) for what is read from `source`."""
        self.name = "standard output" if path == "-" else path
        self.written = 0
        self._frames: list[int] = []  # how many parts there were after each frame
        self._ng = path.endswith(".pcapng")
        self._interfaces: dict[_Interface, int] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self._kept = 0
        self._own = self._older = path != "-"
        with suppress(OSError):
            if self._own and Path(path).samefile(source):
                raise CaptureFileError(
                    f"cannot write {path} while reading it", hint="choose another name for -w"
                )
        self._descriptor = create(path) if self._own else 1
        if self._ng:
            self._add(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))

    def _refused(self, error: OSError) -> CaptureFileError:
        return CaptureFileError(
            f"cannot write {self.name}: {(error.strerror or 'refused').lower()}",
            hint="what came before is complete; free the disk or choose another file",
        )

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return self._kept + self._size

    def write(self, frame: Frame) -> None:
        """Take one frame."""
        data = bytes(frame.data)
        self._add(self._packet(frame, data) if self._ng else self._record(frame, data))
        self._frames.append(len(self._parts))
        self.written += 1
        if self._size >= _FLUSH_BYTES:
            self.flush()

    def _add(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)

    def _record(self, frame: Frame, data: bytes) -> bytes:
        only = _Interface(frame.linktype, "")
        if only not in self._interfaces:
            if self._interfaces:
                raise CaptureFileError(
                    f"cannot write {self.name}: pcap holds one link type, the input several",
                    hint="name the file .pcapng",
                )
            self._begin(frame.linktype)
        sec, ns = divmod(frame.ts_ns, 1_000_000_000)
        return struct.pack("<IIII", sec & 0xFFFFFFFF, ns, len(data), frame.length) + data

    def _begin(self, linktype: int) -> None:
        self._interfaces[_Interface(linktype, "")] = 0
        self._add(struct.pack("<IHHiIII", _PCAP_NANO, 2, 4, 0, 0, MAX_FRAME, linktype))

    def _packet(self, frame: Frame, data: bytes) -> bytes:
        which = self._interface(_Interface(frame.linktype, frame.iface))
        count = frame.ts_ns
        head = struct.pack(
            "<IIIII", which, count >> 32 & 0xFFFFFFFF, count & 0xFFFFFFFF, len(data), frame.length
        )
        return _block(6, head + data + bytes(-len(data) % 4) + _packet_options(frame))

    def _interface(self, key: _Interface) -> int:
        if key not in self._interfaces:
            self._interfaces[key] = len(self._interfaces)
            name = _option(2, key.name.encode(errors="surrogateescape")) if key.name else b""
            body = struct.pack("<HHI", key.linktype, 0, 0) + name + _option(9, b"\x09")
            self._add(_block(1, body + _option(0, b"")))
        return self._interfaces[key]

    def flush(self) -> None:
        """Write out what was taken; on failure cut off the record that is not whole."""
        parts, self._parts, self._size = self._parts, [], 0
        frames, self._frames = self._frames, []
        data = memoryview(b"".join(parts))
        done = 0
        if self._older:
            self._older = False
            empty(self._descriptor)
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except BrokenPipeError:
            raise
        except OSError as error:
            lost, whole = len(parts), 0
            while lost and whole + len(parts[-lost]) <= done:
                whole += len(parts[-lost])
                lost -= 1
            self.written -= sum(place > len(parts) - lost for place in frames)
            with suppress(OSError):  # a pipe cannot be cut
                os.ftruncate(self._descriptor, self._kept + whole)
            raise self._refused(error) from error
        self._kept += done

    def discard(self) -> None:
        """Close with nothing written: what the file held stays."""
        if self._own:
            os.close(self._descriptor)

    def close(self) -> None:
        """Write the rest and close; a file without frames still is a capture file."""
        try:
            if not self._ng and not self._interfaces:
                self._begin(1)
            self.flush()
        finally:
            if self._own:
                os.close(self._descriptor)


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


def _packet_options(frame: Frame) -> bytes:
    """Return the comments of a frame and where it went."""
    options = [_option(1, one.encode(errors="surrogateescape")) for one in frame.comments]
    if frame.direction in _FLAGS:
        options.append(_option(2, struct.pack("<I", _FLAGS[frame.direction])))
    return b"".join([*options, _option(0, b"")]) if options else b""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)

"""Packed pcap records to files: whole records only, one file after another if asked.

Where the disk is full, the record that is not whole is cut off again and the run ends.
"""

import os
import select
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mcastctl.capture.files import CaptureFileError
from mcastctl.capture.outfile import create, empty
from mcastctl.model.frame import ETHERNET, MAX_FRAME
from mcastctl.model.shell import word

_RECORD = 16
"""sizeof of a record's header in a pcap file; its captured length stands at 8."""
_captured = struct.Struct("=I").unpack_from
EMPTY = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, MAX_FRAME, ETHERNET)
"""The header of a file for which there never was an interface: a capture without a frame."""


class Rotation(NamedTuple):
    """When to begin the next file: bytes, seconds, packets; and how many files to keep."""

    size: int | None = None
    seconds: float | None = None
    packets: int | None = None
    keep: int | None = None

    def __bool__(self) -> bool:
        """Tell whether there is ever a next file."""
        return any(one is not None for one in self[:3])


class Series:
    """The names of the files of one capture, and when the next is due."""

    def __init__(self, path: str, rotation: Rotation) -> None:
        """Raise CaptureFileError when standard output ('-') is to be rotated."""
        if path == "-" and rotation:
            raise CaptureFileError(
                "standard output cannot be rotated", hint="name a file: -w capture.pcap"
            )
        self.rotation = rotation
        self.names: list[str] = []
        self._path = Path(path)
        self._number = 0
        self._began = 0.0

    def check(self, user: str) -> None:
        """Raise unless this process, now running as `user` ('' for who started it), may go on."""
        directory = self._path.parent.resolve()
        if not self.rotation or os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            return
        with suppress(PermissionError):  # a directory that is not seen is no missing one
            if not directory.is_dir():
                return  # opening the first file says it better
        if not user:
            raise CaptureFileError(
                f"cannot rotate: no files can be created in {directory}",
                hint="name a file with -w in a directory where you may create some",
            )
        raise CaptureFileError(
            f"cannot rotate: the capture runs as user '{user}', who may create no files in "
            f"{directory}",
            hint=f"give it a directory of its own: install -d -o {word(user)} DIR, then "
            "-w DIR/FILE; or run it by sudo from your own account",
        )

    def following(self) -> str:
        """Return the name of the next file, and delete the oldest beyond those to keep."""
        self._number += 1
        self._began = time.monotonic()
        path = self._path
        if self.rotation:
            path = path.with_name(f"{path.stem}-{self._number:05d}{path.suffix}")
        self.names.append(str(path))
        keep = self.rotation.keep
        if keep is not None and len(self.names) > keep:
            with suppress(OSError):  # somebody took it away
                Path(self.names.pop(0)).unlink()
        return str(path)

    def is_over(self) -> bool:
        """Tell whether the time of this file is over."""
        seconds = self.rotation.seconds
        return seconds is not None and time.monotonic() - self._began >= seconds


class Savefile:
    """A pcap file, or a row of them, that takes packed records."""

    def __init__(self, path: str, rotation: Rotation) -> None:
        """Open the first file; '-' is standard output. Raises CaptureFileError."""
        self.name = "standard output" if path == "-" else path
        self.written = 0
        self.octets = 0
        """Bytes of the packets themselves, as far as they were captured."""
        self.series = Series(path, rotation)
        self._header = b""
        self._descriptor = 1
        self._older = False
        self._size = self._packets = 0
        if path != "-":
            self._open()

    def begin(self, header: bytes) -> None:
        """Write the header of this file, and of those to come."""
        self._header = header
        self._put(header, 0)

    def write(self, records: bytes | memoryview, count: int) -> None:
        """Write `count` whole records. Raises CaptureFileError; BrokenPipeError passes."""
        view = memoryview(records)
        while view:
            if self._packets and self.series.is_over():
                self._next()
            fits, held = self._fitting(view, count)
            self._put(view[:fits], held)
            view, count = view[fits:], count - held
            if view:
                self._next()

    def _fitting(self, records: memoryview, count: int) -> tuple[int, int]:
        """Return how many bytes and records still belong into this file, at least one."""
        size, packets = self.series.rotation.size, self.series.rotation.packets
        room = len(records) if size is None else size - self._size
        more = count if packets is None else packets - self._packets
        if room >= len(records) and more >= count:
            return len(records), count
        end, held = whole_records(records, room, more)
        if held or self._packets:
            return end, held
        return whole_records(records, len(records), 1)  # longer than the limit by itself

    def _put(self, data: bytes | memoryview, records: int) -> None:
        view, done = memoryview(data), 0
        if self._older:
            self._older = False
            empty(self._descriptor)
        try:
            while done < len(view):
                try:
                    done += os.write(self._descriptor, view[done:])
                except BlockingIOError:  # somebody made our output non-blocking
                    select.select([], [self._descriptor], [])
        except BrokenPipeError:
            raise
        except OSError as error:
            kept, held = whole_records(view, done, records) if records else (0, 0)
            with suppress(OSError):  # a pipe cannot be cut
                os.ftruncate(self._descriptor, self._size + kept)
            self.written += held
            raise CaptureFileError(
                f"cannot write {self.name}: {(error.strerror or 'refused').lower()}",
                hint=f"it holds the {self.written} whole records before; free the disk, or keep "
                "less with --rotate-size and --rotate-keep",
            ) from error
        self._size += len(view)
        self._packets += records
        self.written += records
        self.octets += (len(view) - _RECORD * records) if records else 0

    def _open(self) -> None:
        self.name = self.series.following()
        self._descriptor = create(self.name)
        self._older = True
        self._size = self._packets = 0

    def _next(self) -> None:
        """Go on in the next file."""
        self.close()
        self._open()
        self._put(self._header, 0)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor > 2:
            os.close(self._descriptor)
            self._descriptor = -1


def whole_records(records: memoryview, room: int, most: int) -> tuple[int, int]:
    """Return end and number of the whole records within `room` bytes, at most `most`."""
    at = held = 0
    while held < most and at + _RECORD <= len(records):
        after = at + _RECORD + _captured(records, at + 8)[0]
        if after > room:
            break
        at, held = after, held + 1
    return at, held

"""A live capture frame by frame into files: pcapng, and several interfaces in one file."""

import time
from collections.abc import Iterator

from mcastctl.capture.live import Present, Waiter, Wanted, open_live
from mcastctl.capture.savefile import Rotation, Series
from mcastctl.capture.writer import Writer
from mcastctl.model.frame import Frame
from mcastctl.model.limits import Limits
from mcastctl.model.records import Notice
from mcastctl.model.ring import frames


class FrameFile:
    """A capture file, or a row of them, that takes frames."""

    def __init__(self, path: str, rotation: Rotation) -> None:
        """Open the first file. Raises CaptureFileError."""
        self.series = Series(path, rotation)
        self.octets = 0
        self._before = 0
        self._writer = Writer("-" if path == "-" else self.series.following())

    @property
    def written(self) -> int:
        """Frames in all files."""
        return self._before + self._writer.written

    def write(self, frame: Frame) -> None:
        """Take one frame. Raises CaptureFileError."""
        size, packets = self.series.rotation.size, self.series.rotation.packets
        held = self._writer.written
        if held and (
            (packets is not None and held >= packets)
            or (size is not None and self._writer.size + len(frame.data) + 48 > size)
            or self.series.is_over()
        ):
            self.close()
            self._before += held
            self._writer = Writer(self.series.following())
        self._writer.write(frame)
        self.octets += len(frame.data)

    def flush(self) -> None:
        """Write out what was taken."""
        self._writer.flush()

    def close(self) -> None:
        """Write the rest and close."""
        self._writer.close()


class FrameDump:
    """One live capture into a frame file: iterate `run`, ask for `drops`, close."""

    def __init__(self, wanted: Wanted, into: FrameFile, present: Present) -> None:
        """Open the capture. Raises SocketError, InterfaceError and FilterError."""
        self._live = open_live(wanted, present)
        self._into = into
        into.flush()

    def run(self, loop: Waiter, limits: Limits) -> Iterator[Notice]:
        """Write what comes until a limit or a signal."""
        for block in self._live.slices(loop, limits):
            if isinstance(block, Notice):
                yield block
                continue
            taken, room = 0, limits.room(1 << 32)
            for frame in frames(block):
                if taken == room:
                    break
                self._into.write(frame)
                taken += 1
            self._into.flush()
            limits.take(taken, time.monotonic_ns())

    def drops(self) -> int:
        """Return how many frames that passed the filter found the ring full."""
        return self._live.drops()

    def close(self) -> None:
        """End the capture."""
        self._live.close()

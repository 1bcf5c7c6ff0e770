"""Why a listen hears nothing: the verdict of the doctor's checks for anybody, asked for in a child.

The child is another Python, so that none of what a diagnosis loads weighs on the listener; its pipe
is watched by the listener's own loop, and it is killed as soon as something is heard.
"""

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from mcastctl.model.records import Notice
from mcastctl.net import ourselves
from mcastctl.net.loop import Loop
from mcastctl.net.receiver import Subscription

if TYPE_CHECKING:
    import subprocess

SILENCE_S = 3
"""Seconds of silence, from the join on, after which the verdict is told."""
WATCH_S = 1.0
"""Of these the child watches the counters for so long: it begins that much earlier."""
PATIENCE_S = 30.0
"""Seconds after which a child is given up."""
_LARGEST = 1 << 16
_NO_ROOM = (OSError, ImportError)
"""What comes of it when there is no descriptor or no process to spare."""


class _Child(NamedTuple):
    process: "subprocess.Popen[bytes]"
    reader: int
    loop: Loop


class Advice:
    """One verdict at most: `poll` it in the loop, `stop` it when there is no more need of it."""

    def __init__(self) -> None:
        self._about: Subscription | None = None
        self._ends_ns: float | None = None
        self._child: _Child | None = None
        self._due_ns: float | None = None
        self._told = b""
        self._over = False

    def attach(self, ends_ns: float | None) -> None:
        """Be ready for what is to be asked `about`; the run ends then, None for never."""
        self._ends_ns = ends_ns

    def about(self, subscription: Subscription | None) -> None:
        """Ask about this one, once it has been silent long enough; with None there is no question.

        A run that ends before it could be told is left alone.
        """
        if subscription == self._about or self._over:
            return
        self.stop()
        self._about, self._told = subscription, b""
        now_ns = time.monotonic_ns()
        ends_ns = self._ends_ns
        if subscription and (ends_ns is None or ends_ns > now_ns + SILENCE_S * 1e9):
            self._due_ns = now_ns + (SILENCE_S - WATCH_S) * 1e9

    def next_ns(self) -> float | None:
        """Return when `poll` wants its turn, None for never again."""
        return self._due_ns

    def poll(self, loop: Loop) -> list[Notice]:
        """Start the child when it is time, and return what it said when it has."""
        due = self._due_ns is not None and time.monotonic_ns() >= self._due_ns
        if self._child is None:
            self._due_ns = self._begin(loop, self._about) if due and self._about else self._due_ns
        elif due:
            self.stop()
        elif self._read(self._child.reader):
            self.stop()
            self._over = True
            return self._notices()
        return []

    def _begin(self, loop: Loop, about: Subscription) -> float | None:
        """Start the child; return until when it may run."""
        try:
            import subprocess  # costs what most listeners never need

            reader, writer = os.pipe()
        except _NO_ROOM:  # the listener goes on without
            return None
        try:
            process = subprocess.Popen(
                [*ourselves.ARGV, "mcastctl.doctor.aside", self._question(about)],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.DEVNULL,
                env=ourselves.environment(),
                cwd="/",
            )
        except _NO_ROOM:
            os.close(reader)
            return None
        finally:
            os.close(writer)
        os.set_blocking(reader, False)
        loop.watch(reader)
        self._child = _Child(process, reader, loop)
        return time.monotonic_ns() + PATIENCE_S * 1e9

    def _question(self, about: Subscription) -> str:
        import json

        group, port, (name, index), sources, exclude, _ = about
        return json.dumps(
            {
                "group": group,
                "port": port,
                "sources": () if exclude else sources,
                "iface": name,
                "ifindex": index,
                "pid": os.getpid(),
                "watch_s": WATCH_S,
            }
        )

    def _read(self, reader: int) -> bool:
        """Take in what the child wrote; tell whether that was all."""
        try:
            data = os.read(reader, _LARGEST)
        except BlockingIOError:
            return False
        self._told += data
        return not data or len(self._told) >= _LARGEST

    def _notices(self) -> list[Notice]:
        import json

        try:
            said = json.loads(self._told)
            text = f"nothing heard for {SILENCE_S} s; {said['text']}"
            return [Notice(time.time_ns(), "warning", "doctor", text, str(said["hint"]))]
        except (ValueError, KeyError, TypeError):
            return []  # the kernel told it nothing, or it was ended

    def stop(self) -> None:
        """End the child if it runs, and ask no more about what it was asked."""
        self._due_ns = None
        child, self._child = self._child, None
        if child is not None:
            child.loop.unwatch(child.reader)
            os.close(child.reader)
            child.process.kill()
            child.process.wait()

"""Floods of forged datagrams: as many sources as asked for, a batch or a rate at a time.

`Flood` runs a plain program on a packet socket of a host; what it sends are IPv4 frames of
`wire.udp` (or any other) whose source address it counts up from 10.128.0.0, and whose probe
header, if there is one, gets ever other streams and numbers that break careless arithmetic.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE

from streams import Stream
from world import Host, Running

# argv: interface, number of sources. stdin: the frames in hex on one line, then lines of
# "number rate" (rate 0: as fast as it goes). Says "sent NUMBER" after each.
FLOOD = """
import socket, struct, sys, time
name, sources = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
sock.bind((name, 3))
frames = []
for text in sys.stdin.readline().split():
    frame = bytearray.fromhex(text)
    frame[24:30] = bytes(6)
    if frame[23] == 17:
        frame[40:42] = bytes(2)
    words = struct.unpack("!10H", frame[14:34])
    frames.append((frame, sum(words), frame[42:46] == b"mcst" and frame[47] == 0))
hostile = [0, 1, (1 << 64) - 1, 1 << 63, (1 << 63) - 1, 1 << 32, (1 << 32) + 1, 3, 0xffff]
done, kinds = 0, len(frames)
for line in sys.stdin:
    number, rate = map(float, line.split())
    began, number = time.monotonic(), int(number)
    for at in range(number):
        frame, base, probe = frames[done % kinds]
        host = done % sources
        source = 0x0a800000 + host
        struct.pack_into("!I", frame, 26, source)
        total = base + (source >> 16) + (source & 0xffff)
        total = (total & 0xffff) + (total >> 16)
        struct.pack_into("!H", frame, 24, ~((total & 0xffff) + (total >> 16)) & 0xffff)
        if probe:
            turn = done // sources
            seq = hostile[turn % 9] if host % 2 else 2 * turn
            struct.pack_into("!QQ", frame, 50, host, seq)
        done += 1
        try:
            sock.send(frame)
        except OSError:
            pass
        if rate and not at % 64:
            late = began + at / rate - time.monotonic()
            if late > 0:
                time.sleep(late)
    print("sent", number, flush=True)
"""


class Flood:
    """A flooder on a host; `send` returns when its frames are with the kernel."""

    def __init__(
        self, host: Host, frames: Sequence[bytes], *, sources: int, ifname: str | None = None
    ) -> None:
        args = [ifname or host.ports[0], str(sources)]
        self._running: Running = host.popen([sys.executable, "-c", FLOOD, *args], stdin=PIPE)
        self._running.write(" ".join(frame.hex() for frame in frames) + "\n")
        self._times = 0

    def start(self, number: int, rate: float = 0) -> None:
        """Let it send so many; `wait` for it."""
        self._running.write(f"{number} {rate}\n")
        self._times += 1

    def wait(self, timeout: float = 60) -> None:
        """Wait for everything started."""
        self._running.wait_stdout("^sent ", timeout, count=self._times)

    def send(self, number: int, rate: float = 0) -> None:
        """Send so many."""
        self.start(number, rate)
        self.wait()

    def send_heard(self, number: int, receiver: Host, port: int, batch: int = 2000) -> None:
        """Send so many, never more at once than the buffers of a port of `receiver` hold."""
        for begin in range(0, number, batch):
            self.send(min(batch, number - begin))
            read_up(receiver, port)


def waiting(host: Host, port: int) -> tuple[int, int]:
    """Bytes in the buffers of a port's sockets, and datagrams dropped there so far."""
    queued = dropped = 0
    for line in (host.proc("udp") + host.proc("udp6")).splitlines():
        fields = line.split()
        if fields[1].endswith(f":{port:04X}"):
            queued += int(fields[4].split(":")[1], 16)
            dropped += int(fields[-1])
    return queued, dropped


def read_up(host: Host, port: int, timeout: float = 60) -> None:
    """Wait until nothing waits in the buffers of a port."""
    deadline = time.monotonic() + timeout
    while waiting(host, port)[0]:
        assert time.monotonic() < deadline, f"port {port} is not read"
        time.sleep(0.001)


def all_read(host: Host, port: int = 5004, quiet_s: float = 0.2) -> None:
    """Wait until nothing waits in the buffers of a port, and its UDP counters stand still.

    The kernel may still be carrying datagrams when whoever sent them has ended.
    """
    before = ""
    while True:
        read_up(host, port, 60)
        told = host.proc("snmp") + host.proc("snmp6")
        now = "".join(line for line in told.splitlines() if line.startswith("Udp"))
        if now == before:
            return
        before = now
        time.sleep(quiet_s)


def heard_out(listener: Running, host: Host, port: int = 5004) -> Stream:
    """End a listener on a host by SIGINT once it has read all that was sent to the port."""
    all_read(host, port)
    listener.signal(signal.SIGINT)
    return Stream.of(listener.finish(60))


def memory_kb(pid: int, field: str = "VmHWM") -> int:
    """Memory of a process in kB: the most it ever had, or VmRSS."""
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])

"""What befalls interfaces: a cable between two hosts that is cut, pulled, plugged in, moved."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from world import Host, World


class Cable:
    """The veth pair a0-b0 of two hosts, which may be pulled out and made again."""

    def __init__(self, world: World, a: Host, b: Host) -> None:
        self.world, self.a, self.b = world, a, b
        self.near, self.far = world.link(a, b)
        self.number = int(a.addr4().split(".")[2])
        self.index = b.ifindex(self.far)

    def address(self, host: Host, *, version: int = 0) -> list[str]:
        """Lines of `ip` that give a host its addresses on this cable."""
        name, last = (self.near, 1) if host is self.a else (self.far, 2)
        four = f"addr replace 10.0.{self.number}.{last}/24 dev {name}"
        six = f"addr replace fd00:{self.number}::{last}/64 dev {name} nodad"
        return [line for kind, line in ((4, four), (6, six)) if version in (0, kind)]

    def pull(self) -> None:
        """Delete both ends."""
        self.b.ip(f"link del {self.far}")

    def plug(self, index: int, *, up: bool = True, address: bool = True) -> None:
        """Make it again, the far end with this index and the near one with a hundred more."""
        self.index = index
        self.world.anchor.ip(
            f"link add {self.near} index {index + 100} netns {self.a.pid} type veth "
            f"peer name {self.far} index {index} netns {self.b.pid}"
        )
        self.a.ip(*self.address(self.a), f"link set {self.near} up")
        addresses = self.address(self.b) if address else []
        self.b.ip(*addresses, *([f"link set {self.far} up"] if up else []))

    def down(self) -> None:
        """Switch the far end off."""
        self.b.ip(f"link set {self.far} down")

    def up(self) -> None:
        """Switch it on; its IPv6 addresses went with it."""
        self.b.ip(f"link set {self.far} up", *self.address(self.b))

    def cut(self) -> None:
        """Take the carrier away from the far end."""
        self.a.ip(f"link set {self.near} down")

    def mend(self) -> None:
        """Give it back."""
        self.a.ip(f"link set {self.near} up", *self.address(self.a))

    def move(self) -> None:
        """Move the far end to another network namespace."""
        self.b.ip(f"link set {self.far} netns {self.world.anchor.pid}")

    def back(self) -> None:
        """Move it back: it is down then, and without addresses."""
        self.world.anchor.ip(f"link set {self.far} netns {self.b.pid}")
        self.up()

    def rename(self) -> None:
        """Call the far end something else, and again what it was."""
        self.b.ip(f"link set {self.far} name other0", f"link set other0 name {self.far}")

    def mishaps(self) -> list[tuple[str, Callable[[], None], Callable[[], None]]]:
        """All that can happen to the far end: what is told of it, how it begins, how it ends."""
        return [
            ("down", self.down, self.up),
            ("no-carrier", self.cut, self.mend),
            ("gone", self.pull, lambda: self.plug(self.index)),
            ("gone", self.move, self.back),
            ("gone", self.pull, lambda: self.plug(self.index + 2)),
        ]


class State(NamedTuple):
    """What a process holds: resident memory in kilobytes, open descriptors at rest.

    Whoever looks for an interface has one more for a moment.
    """

    memory_kb: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> State:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        assert found
        looks = [_descriptors(pid)]
        while len(looks) < 20:
            time.sleep(0.002)
            looks.append(_descriptors(pid))
        return cls(int(found[1]), min(looks))


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Soak:
    """A stream, programs that hear it, and one mishap after the other; `times` counts them."""

    def __init__(self, wire: Cable, rate: str) -> None:
        self.wire = wire
        group, by = "239.1.2.3:6021", ["-i", wire.far, "-q", "-j"]
        self.programs = {
            "listen": wire.b.start_mcastctl("listen", group, *by, "--interval", "500ms"),
            "echo": wire.b.start_mcastctl("echo", group, *by),
            "sniff": wire.b.start_mcastctl("sniff", "udp dst port 6021", *by),
        }
        for one in self.programs.values():
            one.wait_stdout('joined|"code":"capturing"')
        self.sender = wire.a.start_mcastctl(
            "send", group, "-i", wire.near, "--probe", "--pps", rate, "-q", "-j"
        )
        self.times = 0
        self._heard()

    def _heard(self) -> None:
        """Wait until the stream is there, from now on."""
        listener, heard = self.programs["listen"], '"type":"interval".*"packets":[1-9]'
        listener.wait_stdout(heard, count=len(re.findall(heard, listener.stdout)) + 2)

    def round(self, pause: Callable[[], None]) -> None:
        """Let everything happen once; each time wait until everybody has said that it is over."""
        for code, fault, relief in self.wire.mishaps():
            told, deaf = self._told(code), self._told("deaf")
            fault()
            self._wait(code, told)
            relief()
            self._wait("deaf", deaf)
            self.times += 1
            pause()
        self.wire.rename()
        pause()

    def _told(self, code: str) -> dict[str, int]:
        return {name: one.stdout.count(f'"code":"{code}"') for name, one in self.programs.items()}

    def _wait(self, code: str, before: dict[str, int]) -> None:
        for name, one in self.programs.items():
            one.wait_stdout(f'"code":"{code}"', count=before[name] + 1)

    def states(self) -> dict[str, State]:
        """What every process holds now."""
        everybody = self.programs | {"send": self.sender}
        return {name: State.of(one.pid) for name, one in everybody.items()}

    def end(self) -> dict[str, dict[str, Any]]:
        """Stop, the sender first, while all is well; return the summaries."""
        self._heard()
        listener = self.programs["listen"]
        self.sender.signal(signal.SIGINT)
        summaries = {"send": self.sender.finish(20).records[-1]}
        listener.wait_stdout(f'"last_seq":{summaries["send"]["attempted"] - 1},')
        for name, one in self.programs.items():
            one.signal(signal.SIGINT)
            summaries[name] = one.finish(20).records[-1]
        return summaries

    @staticmethod
    def exact(summaries: dict[str, dict[str, Any]]) -> bool:
        """Tell whether every datagram is sent or refused, and heard or lost, and that once."""
        sent = summaries["send"]
        good = sent["attempted"] == sent["sent"] + sent["refused"]
        for name in ("listen", "echo"):
            (stream,) = summaries[name]["streams"]
            numbers = stream["last_seq"] - stream["first_seq"] + 1
            good &= stream["packets"] + stream["lost"] == numbers
            good &= not stream["duplicates"] and not summaries[name]["kernel_drops"]
        return bool(good and summaries["listen"]["streams"][0]["last_seq"] + 1 == sent["attempted"])

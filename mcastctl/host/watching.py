"""What changes on this host, as it happens: memberships come and go, counters become rates.

The kernel announces memberships since Linux 6.14 (RTNLGRP_IPV4_MCADDR); whatever it announces,
the state is read again and compared, so that nothing is told that is not so.
"""

import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from mcastctl.host import interfaces, memberships, netlink, owners
from mcastctl.model.address import family
from mcastctl.model.interface import Interface, Rates, rates
from mcastctl.model.limits import Limits
from mcastctl.model.membership import Change, GroupMembership, Owner, bare, changes
from mcastctl.model.records import Notice
from mcastctl.model.stats import Statistics

_LOOK_S = 0.25
"""Between two looks at what the kernel does not announce: a second process in a group."""
_MCADDR_GROUPS = (37, 38)  # RTNLGRP_IPV4_MCADDR, RTNLGRP_IPV6_MCADDR, <linux/rtnetlink.h>
_NEW, _DELETED = 56, 57  # RTM_NEWMULTICAST, RTM_DELMULTICAST
_IFADDR_SIZE, _MULTICAST = 8, 7  # struct ifaddrmsg, IFA_MULTICAST
_INDEX_AT = 20

Key = tuple[int, str]


class Waiting(Protocol):
    """What a run waits with (`net.loop.Loop`): descriptors, a deadline, a signal."""

    stopped_by: int | None

    def watch(self, descriptor: int) -> None:
        """Report `descriptor` when it can be read."""

    def wait(self, until_ns: float | None = None) -> list[int]:
        """Return what is ready, nothing at the deadline or on a signal."""


class Announced(NamedTuple):
    """A first join or a last leave on an interface, as the kernel tells it."""

    joined: bool
    key: Key


class _Watch:
    """The limits and counters every watch has."""

    def __init__(self, timeout_s: float | None) -> None:
        self._started_ns = time.monotonic_ns()
        self._limits = Limits(self._started_ns, count=None, timeout_s=timeout_s, idle_s=None)

    @property
    def reason(self) -> str:
        """Why it ended."""
        return self._limits.reason or "signal"

    def summary(self) -> dict[str, object]:
        """Return the counters of a run that moved no datagrams."""
        elapsed_s = (time.monotonic_ns() - self._started_ns) / 1e9
        return Statistics().summary(elapsed_s) | {"kernel_drops": 0}

    def _over(self, loop: Waiting) -> bool:
        return loop.stopped_by is not None or self._limits.reached(time.monotonic_ns())

    def _until(self, seconds: float) -> float:
        times = [time.monotonic_ns() + seconds * 1e9, self._limits.next_ns()]
        return min(moment for moment in times if moment is not None)


class Memberships(_Watch):
    """Joins and leaves of the memberships that `wanted` lets pass."""

    def __init__(self, wanted: Callable[[GroupMembership], bool], timeout_s: float | None) -> None:
        super().__init__(timeout_s)
        self._wanted = wanted
        self._counts = {"joined": 0, "left": 0}
        self._owners: dict[Key, tuple[Owner, ...]] = {}

    def summary(self) -> dict[str, object]:
        """Return how many joins and leaves were told."""
        return super().summary() | {"joins": self._counts["joined"], "leaves": self._counts["left"]}

    def records(self, loop: Waiting) -> Iterator[Change | Notice]:
        """Yield each change until the time is over or a signal comes."""
        try:
            announcements: netlink.Netlink | None = netlink.Netlink(groups=_MCADDR_GROUPS)
        except (OSError, AttributeError):
            announcements = None  # no netlink, or before Linux 6.14: short ones are missed
        try:
            if announcements is not None:
                loop.watch(announcements.fileno())
            known = self._look()
            self._owners = {key: one.owners for key, one in _owned(known, set(known)).items()}
            text = f"watching {len(known)} memberships"
            yield Notice(time.time_ns(), "info", "watching", text)
            while not self._over(loop):
                loop.wait(self._until(_LOOK_S))
                told = parse(announcements.notifications()) if announcements else []
                now = self._look()
                yield from self._told(known, now, told)
                known = now
        finally:
            if announcements is not None:
                announcements.close()

    def _look(self) -> dict[Key, GroupMembership]:
        found = memberships.memberships()
        return {(one.ifindex, one.group): one for one in found if self._wanted(one)}

    def _told(
        self,
        known: dict[Key, GroupMembership],
        now: dict[Key, GroupMembership],
        told: list[Announced],
    ) -> Iterator[Change]:
        ts_ns = time.time_ns()
        passing = [one for one in told if one.key not in known and one.key not in now]
        names = dict(socket.if_nameindex()) if passing else {}
        for one in passing:  # joined and left again between two looks
            brief = _passing(one, names.get(one.key[0], ""))
            if self._wanted(brief):
                self._counts["joined" if one.joined else "left"] += 1
                yield Change(ts_ns, "joined" if one.joined else "left", brief, None, ())
        moved = {key for key in known.keys() | now.keys() if known.get(key) != now.get(key)}
        differences = list(changes(known, now, moved))
        if not differences:
            return
        owned = _owned(now, {key for key, _event, _source in differences})
        for key, event, source in differences:
            before = self._owners.get(key, ())
            after = owned[key].owners if key in owned else ()
            row = owned.get(key) or known[key]._replace(users=0)
            gone = [one for one in before if one not in after]
            new = [one for one in after if one not in before]
            self._counts[event] += 1
            yield Change(ts_ns, event, row, source, tuple(new if event == "joined" else gone))
        for key, _event, _source in differences:
            self._owners[key] = owned[key].owners if key in owned else ()


def _owned(rows: dict[Key, GroupMembership], keys: set[Key]) -> dict[Key, GroupMembership]:
    """Return these rows with their owners."""
    found = owners.find([rows[key] for key in keys if key in rows])
    return {(one.ifindex, one.group): one for one in found}


def _passing(one: Announced, iface: str) -> GroupMembership:
    index, group = one.key
    return bare(iface, index, group, f"ipv{family(group)}")._replace(mode=None)


def parse(messages: list[netlink.Message]) -> list[Announced]:
    """Return the memberships announced, in their order; other messages are passed over."""
    found = []
    for kind, message in messages:
        if kind not in (_NEW, _DELETED) or len(message) < 16 + _IFADDR_SIZE:
            continue
        raw = dict(netlink.attributes(message, 16 + _IFADDR_SIZE)).get(_MULTICAST, b"")
        if len(raw) in (4, 16):
            index = netlink.number(message[_INDEX_AT : _INDEX_AT + 4])
            found.append(Announced(kind == _NEW, (index, netlink.address(raw))))
    return found


class Rating(_Watch):
    """Rates of the interfaces named (all without names), look after look."""

    def __init__(self, names: tuple[str, ...], interval_s: float, timeout_s: float | None) -> None:
        super().__init__(timeout_s)
        self._names = names
        self._interval_s = interval_s

    def records(self, loop: Waiting) -> Iterator[Rates]:
        """Yield the rates of each interface, interval after interval."""
        before, then_ns = self._look(), time.monotonic_ns()
        while not self._over(loop):
            next_ns = then_ns + self._interval_s * 1e9
            while time.monotonic_ns() < next_ns and not self._over(loop):
                loop.wait(min(next_ns, self._limits.next_ns() or next_ns))
            now_ns = time.monotonic_ns()
            elapsed_s = (now_ns - then_ns) / 1e9
            if elapsed_s < self._interval_s / 2:
                return  # a rest too short to say anything
            now = self._look()
            for index, one in now.items():
                if index in before:
                    yield rates(time.time_ns(), elapsed_s, before[index], one)
            before, then_ns = now, now_ns

    def _look(self) -> dict[int, Interface]:
        found = interfaces.select(interfaces.interfaces(), self._names)
        return {one.ifindex: one for one in found}

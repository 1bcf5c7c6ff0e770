"""Traffic control as the kernel has it: queueing disciplines with their losses, filters that act.

From RTM_GETQDISC and RTM_GETTFILTER of rtnetlink(7) (<linux/pkt_sched.h>, <linux/pkt_cls.h>,
<linux/tc_act/>). tcx programs are no filters: see `programs`. Needs no privilege. Linux only.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from mcastctl.host import netlink

_GET_QDISC, _GET_FILTER = 38, 46
_TCMSG = struct.Struct("=BxxxiIII")  # struct tcmsg, <linux/rtnetlink.h>
_KIND, _OPTIONS, _STATS2 = 1, 2, 7  # TCA_*
_STATS_BASIC, _STATS_QUEUE = 1, 3  # TCA_STATS_*
_BASIC = struct.Struct("=QI")  # struct gnet_stats_basic: bytes, packets
_QUEUE = struct.Struct("=5I")  # struct gnet_stats_queue
_ROOT = 0xFFFFFFFF
_DIRECTIONS = {0xFFFFFFF2: "ingress", 0xFFFFFFF3: "egress"}  # TC_H_CLSACT and TC_H_MIN_*
_PLACES = {"ingress": (0xFFFFFFF2,), "clsact": tuple(_DIRECTIONS)}
_ACTING = {
    **{"u32": 7, "flower": 3, "matchall": 2, "basic": 3, "fw": 4, "bpf": 1},
    **{"cgroup": 1, "flow": 9, "route": 6},
}
"""The attribute of a filter's options that holds its actions (TCA_*_ACT)."""
_BPF_NAME, _BPF_ID = 7, 11
_ACT_KIND, _ACT_OPTIONS, _ACT_STATS = 1, 2, 4
_VERDICTS = {0: "ok", 2: "drop", 4: "stolen", 7: "redirect", 8: "trap"}  # TC_ACT_*
_MIRRED = {1: "redirect to", 2: "mirror to", 3: "redirect into", 4: "mirror into"}  # TCA_*_REDIR
_PARMS = {"gact": 2, "mirred": 2, "police": 1}


class Qdisc(NamedTuple):
    """A queueing discipline; counters since it was set up. `parent` is "root" or its class."""

    ifindex: int
    kind: str
    handle: str
    parent: str
    packets: int
    drops: int
    overlimits: int
    requeues: int

    @property
    def key(self) -> tuple[int, str, str]:
        """What tells it from others, counters aside."""
        return self.ifindex, self.kind, self.handle


class Action(NamedTuple):
    """What a filter does with what matches: `kind` of tc(8), `verdict` in words, counters."""

    kind: str
    verdict: str
    packets: int
    drops: int

    @property
    def takes(self) -> bool:
        """Tell whether what matches goes no further."""
        return self.verdict.partition(" ")[0] in ("drop", "stolen", "redirect", "trap")


class Filter(NamedTuple):
    """A filter of an ingress or clsact qdisc; `program` names that of a bpf filter."""

    ifindex: int
    direction: str
    kind: str
    preference: int
    program: str
    actions: tuple[Action, ...]

    @property
    def packets(self) -> int:
        """How many packets its actions saw."""
        return max((one.packets for one in self.actions), default=0)

    @property
    def key(self) -> tuple[int, str, str, int, str]:
        """What tells it from others, counters aside."""
        return self.ifindex, self.direction, self.kind, self.preference, self.program


class Control(NamedTuple):
    """All of it."""

    qdiscs: tuple[Qdisc, ...] = ()
    filters: tuple[Filter, ...] = ()


def read() -> Control:
    """Return the qdiscs and filters of this namespace, nothing where the kernel does not tell."""
    try:
        with netlink.Netlink() as connection:
            return _read(connection)
    except OSError:
        return Control()


def _read(connection: netlink.Netlink) -> Control:
    found = connection.dump(_GET_QDISC, _TCMSG.pack(0, 0, 0, 0, 0))
    qdiscs = tuple(one for _, message in found if (one := qdisc(message)) is not None)
    filters: list[Filter] = []
    for index, kind in dict.fromkeys((one.ifindex, one.kind) for one in qdiscs):
        for parent in _PLACES.get(kind, ()):
            told = connection.dump(_GET_FILTER, _TCMSG.pack(0, index, 0, parent, 0))
            read = (filter_(message, parent) for _, message in told)
            filters += (one for one in read if one is not None)
    return Control(qdiscs, tuple(filters))


def qdisc(message: bytes) -> Qdisc | None:
    """Return one RTM_NEWQDISC message; None for what is too short."""
    if len(message) < 16 + _TCMSG.size:
        return None
    _, index, handle, parent, _ = _TCMSG.unpack_from(message, 16)
    told = dict(netlink.attributes(message, 16 + _TCMSG.size))
    packets, drops, requeues, overlimits = _counted(told.get(_STATS2, b""))
    place = "root" if parent == _ROOT else _handle(parent)
    return Qdisc(
        *(index, _text(told.get(_KIND, b"")), _handle(handle), place),
        *(packets, drops, overlimits, requeues),
    )


def filter_(message: bytes, parent: int) -> Filter | None:
    """Return one RTM_NEWTFILTER message; None where it does nothing with any packet."""
    if len(message) < 16 + _TCMSG.size:
        return None
    _, index, _, _, info = _TCMSG.unpack_from(message, 16)
    told = dict(netlink.attributes(message, 16 + _TCMSG.size))
    kind = _text(told.get(_KIND, b""))
    options = dict(netlink.attributes(told.get(_OPTIONS, b"")))
    actions = tuple(_actions(options.get(_ACTING.get(kind, 0), b"")))
    program = ""
    if kind == "bpf" and options:
        name, number = _text(options.get(_BPF_NAME, b"")), options.get(_BPF_ID, b"")
        program = f"{name or 'program'} id {netlink.number(number)}" if number else name
        program = program or "program of classic BPF"
    if not actions and not program:
        return None
    return Filter(index, _DIRECTIONS[parent], kind, info >> 16, program, actions)


def _actions(data: bytes) -> Iterator[Action]:
    for _, one in netlink.attributes(data):
        told = dict(netlink.attributes(one))
        kind = _text(told.get(_ACT_KIND, b""))
        options = dict(netlink.attributes(told.get(_ACT_OPTIONS, b"")))
        packets, drops, *_ = _counted(told.get(_ACT_STATS, b""))
        parameters = options.get(_PARMS.get(kind, 0), b"")
        yield Action(kind, _verdict(kind, parameters), packets, drops)


def _verdict(kind: str, parameters: bytes) -> str:
    """Return what an action does, from struct tc_gact, tc_mirred or tc_police."""
    if kind == "gact" and len(parameters) >= 12:
        return _VERDICTS.get(netlink.number(parameters[8:12]), "pass")
    if kind == "mirred" and len(parameters) >= 28:
        what, index = struct.unpack_from("=II", parameters, 20)
        return f"{_MIRRED.get(what, 'mirror to')} index {index}"
    if kind == "police" and len(parameters) >= 8:
        return f"{_VERDICTS.get(netlink.number(parameters[4:8]), 'pass')} above the rate"
    return kind


def _counted(stats: bytes) -> tuple[int, int, int, int]:
    """Return packets, drops, requeues and overlimits of TCA_STATS2."""
    told = dict(netlink.attributes(stats))
    basic, queue = told.get(_STATS_BASIC, b""), told.get(_STATS_QUEUE, b"")
    packets = _BASIC.unpack_from(basic)[1] if len(basic) >= _BASIC.size else 0
    if len(queue) < _QUEUE.size:
        return packets, 0, 0, 0
    _length, _backlog, drops, requeues, overlimits = _QUEUE.unpack_from(queue)
    return packets, drops, requeues, overlimits


def _handle(number: int) -> str:
    """Return a handle as tc(8) writes it."""
    low = number & 0xFFFF
    return f"{number >> 16:x}:{f'{low:x}' if low else ''}"


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")

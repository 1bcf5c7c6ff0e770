"""BPF programs of others that decide about datagrams: on an interface, or of a control group.

tcx programs are in no list of tc(8); those of control groups act on every socket made in them
(systemd's IPAddressDeny= is one). BPF_PROG_QUERY of bpf(2), <linux/bpf.h>. Linux only; needs root
of the machine.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mcastctl.host import bpf, mounts

_TCX = {46: "tcx ingress", 47: "tcx egress"}  # enum bpf_attach_type
_CGROUP = {0: "ingress", 1: "egress"}


class Program(NamedTuple):
    """A program: where it is attached ('tcx ingress', 'cgroup egress'), and as whom.

    `place` is the interface or the path of the control group; `name` is '' where it has none, or
    none that we may know.
    """

    hook: str
    place: str
    id: int
    name: str

    def __str__(self) -> str:
        name = f"{self.name}, " if self.name else ""
        return f"{self.hook} of {self.place}: BPF program {name}id {self.id}"


def on_interfaces(names: dict[int, str]) -> tuple[Program, ...]:
    """Return the tcx programs of interfaces by index; none where we may not ask."""
    return tuple(
        one
        for index, name in names.items()
        for kind, hook in _TCX.items()
        for one in _at(hook, name, index, kind)
    )


def of_drivers(numbers: dict[str, int]) -> tuple[Program, ...]:
    """Return the XDP programs of interfaces whose ids are known (IFLA_XDP_PROG_ID)."""
    return tuple(Program("xdp", name, number, _name(number)) for name, number in numbers.items())


def of_processes(pids: Iterable[int]) -> tuple[Program, ...]:
    """Return the socket-buffer programs of the control groups that these processes are in."""
    groups = dict.fromkeys(filter(None, map(_group, pids)))
    found: dict[Program, None] = {}
    if groups:
        # Of our own, for `ip netns exec` hides that of the host.
        with suppress(OSError), mounts.detached("cgroup2") as root:
            found.update(dict.fromkeys(one for group in groups for one in _of_group(root, group)))
    return tuple(found)


def _of_group(root: Path, group: str) -> Iterator[Program]:
    """Yield what acts on a control group, from itself up to the root."""
    path = Path(group.lstrip("/"))
    for kind, hook in _CGROUP.items():
        acting = set(_ids(root / path, kind, effective=True))
        for place in (path, *path.parents):
            for number in acting.intersection(_ids(root / place, kind)):
                where = "/" if place == Path() else f"/{place}"
                yield Program(f"cgroup {hook}", where, number, _name(number))


def _ids(folder: Path, kind: int, *, effective: bool = False) -> list[int]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return bpf.attached(descriptor, kind, effective=effective)
    except bpf.Refused:
        return []
    finally:
        os.close(descriptor)


def _at(hook: str, place: str, target: int, kind: int) -> Iterator[Program]:
    try:
        for number in bpf.attached(target, kind):
            yield Program(hook, place, number, _name(number))
    except bpf.Refused:
        return  # no right, or a kernel without tcx (before 6.6)


def _name(number: int) -> str:
    try:
        return bpf.name(number)
    except bpf.Refused:
        return ""  # gone meanwhile


def _group(pid: int) -> str:
    """Return the path of a process in the unified hierarchy, '' where it is not known."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text(errors="replace")
    except OSError:
        return ""
    return next((line[3:] for line in text.splitlines() if line.startswith("0::/")), "")

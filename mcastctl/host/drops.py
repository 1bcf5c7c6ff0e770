"""Why the kernel dropped packets of a group: its own reasons, counted while a watch is open.

Every packet the kernel throws away passes the tracepoint kfree_skb with a reason (from Linux 5.17
on) and the address of the code that decided (<trace/events/skb.h>, <net/dropreason-core.h>). A
small program there counts those of one group (`dropfilter`), so other traffic costs next to nothing
and is never counted. Linux only; needs root of the machine.

    with drops.watch("239.1.1.1", 5007) as seen:
        ...
        seen.poll()
        seen.counts  # {("IP_RPFILTER", "ip_rcv_finish_core"): 40}
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from mcastctl.host import bpf, btf, dropfilter, kallsyms

EVERY_NAMESPACE = 0
"""For `netns`: packets of every network namespace of the machine."""

NO_REASON = "NOT_SPECIFIED"
"""What the kernel says where it gives no reason; also the reason of kernels that know none."""

_OWN_NAMESPACE = Path("/proc/thread-self/ns/net")
_PREFIX = "SKB_DROP_REASON_"
_ENTRIES = 256  # pairs of reason, function and interface kept apart

# Not losses on the way to a receiver: what a closing socket had queued, and the copies that
# captures (packet(7)) had no room for.
_NOT_LOST = {"QUEUE_PURGE"}
_TAPS = {"packet_rcv", "tpacket_rcv"}


class Drop(NamedTuple):
    """One way packets were lost: reason and function as the kernel names them.

    `reason` has no SKB_DROP_REASON_ before it; `function` is "?" where the kernel hides its
    symbols; `ifindex` is where the packets came in, 0 for packets on their way out; `control`
    says that they were IGMP or MLD, of whatever group, and not the group's datagrams.
    """

    reason: str
    function: str
    ifindex: int
    control: bool


class Watch:
    """What was dropped since it was opened.

    `method` is "bpf", or "" when the kernel cannot be asked; then `why_not` is a sentence that
    says what is missing, and nothing is ever counted. `drops` is as of the last poll().
    """

    def __init__(self) -> None:
        self.method = ""
        self.why_not = ""
        self.drops: dict[Drop, int] = {}
        self._counters: bpf.Counters | None = None
        self._reasons: dict[int, str] = {}
        self._functions: dict[int, str] = {}

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Dropped datagrams of the group by (reason, function), all interfaces together."""
        return self._sum(control=False)

    @property
    def control_counts(self) -> dict[tuple[str, str], int]:
        """Dropped IGMP or MLD messages of any group by (reason, function)."""
        return self._sum(control=True)

    def _sum(self, control: bool) -> dict[tuple[str, str], int]:
        total: dict[tuple[str, str], int] = {}
        for drop, count in self.drops.items():
            if drop.control == control:
                key = drop.reason, drop.function
                total[key] = total.get(key, 0) + count
        return total

    def poll(self) -> None:
        """Read the kernel's counters; a few microseconds each, bounded."""
        if self._counters is None:
            return
        counted = {dropfilter.unpack(key): count for key, count in self._counters.items()}
        self._resolve({key.location for key in counted})
        drops: dict[Drop, int] = {}
        for key, count in counted.items():
            drop = self._named(key)
            if drop.reason not in _NOT_LOST and drop.function not in _TAPS:
                drops[drop] = drops.get(drop, 0) + count
        self.drops = drops

    def _resolve(self, locations: set[int]) -> None:
        new = locations - self._functions.keys()
        if new:
            self._functions |= dict.fromkeys(new, "?") | kallsyms.functions(new)

    def _named(self, key: dropfilter.Key) -> Drop:
        reason = self._reasons.get(key.reason)
        if reason is None:  # of a subsystem with reasons of its own: number and sub-number
            reason = f"SUBSYS_{key.reason >> 16}_{key.reason & 0xFFFF}" if key.reason else NO_REASON
        function = self._functions[key.location]
        return Drop(reason, function, key.ifindex, bool(key.control))


@contextmanager
def watch(group: str, port: int | None, *, netns: int | None = None) -> Iterator[Watch]:
    """Count what is dropped of a group's datagrams to a port (None: any) while the context is open.

    netns is the inode of a network namespace (stat(2) of /proc/PID/ns/net), None the caller's, or
    EVERY_NAMESPACE. A packet that belongs to none, or whose kernel structures no longer tell, is
    counted. The kernel frees everything with the descriptors, however this process ends. Raises
    ValueError for a group that is no IP address; everything else is told by `method`.
    """
    address = ip_address(group.partition("%")[0])
    wanted = dropfilter.Filter(address, port, _own_namespace() if netns is None else netns, 4)
    watching = Watch()
    with ExitStack() as stack:
        try:
            _start(watching, wanted, stack)
        except btf.BtfError as error:
            watching.why_not = str(error)
        except bpf.Refused as refused:
            watching.why_not = _explain(refused)
        yield watching


def _own_namespace() -> int:
    try:
        return _OWN_NAMESPACE.stat().st_ino
    except OSError:
        return EVERY_NAMESPACE  # a kernel without namespaces, or /proc is hidden


def _start(watching: Watch, wanted: dropfilter.Filter, stack: ExitStack) -> None:
    counters = bpf.Counters(dropfilter.KEY_BYTES, _ENTRIES)  # first: it tells about privilege
    stack.callback(counters.close)
    types = btf.read((*dropfilter.STRUCTS, "skb_drop_reason"))
    for arguments in (4, 3, 2):
        code = dropfilter.program(wanted._replace(arguments=arguments), types, counters.fd)
        program = bpf.load_raw_tracepoint(code)
        stack.callback(os.close, program)
        try:
            stack.callback(os.close, bpf.attach_raw_tracepoint("kfree_skb", program))
        except bpf.Refused as refused:
            if refused.errno != errno.EINVAL or arguments == 2:
                raise
        else:
            break
    watching._reasons = reasons(types)
    watching._counters = counters
    watching.method = "bpf"


def reasons(types: btf.Btf) -> dict[int, str]:
    """Return the names of the running kernel's drop reasons; empty before Linux 5.17."""
    try:
        named = types.values("skb_drop_reason")
    except btf.BtfError:
        return {}
    return {value: name.removeprefix(_PREFIX) for value, name in named.items()}


def _explain(refused: bpf.Refused) -> str:
    what = f"the kernel refused to {refused.step}: {refused.strerror}"
    if refused.errno in (errno.EPERM, errno.EACCES) and not refused.log:
        return f"{what}; it needs CAP_BPF and CAP_PERFMON, or root of the machine itself"
    if refused.errno == errno.ENOSYS:
        return f"{what}; it was built without CONFIG_BPF_SYSCALL"
    if refused.errno in (errno.EINVAL, errno.ENOENT) and refused.step.startswith("attach"):
        return f"{what}; it was built without CONFIG_BPF_EVENTS"
    return f"{what} ({refused.log})" if refused.log else what

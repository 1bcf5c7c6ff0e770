"""Why the kernel dropped packets of a group: its own reasons, counted while a watch is open.

Every packet the kernel throws away passes the tracepoint kfree_skb with a reason (from Linux 5.17
on) and the address of the code that decided (<trace/events/skb.h>, <net/dropreason-core.h>). A
small program there counts those of one group (`dropfilter`), so other traffic costs next to nothing
and is never counted. Where the kernel takes no such program, the drops of one interface are counted
instead (`dropevents`). Linux only; needs root of the machine.

    with drops.watch("239.1.1.1", 5007, ifname="eth0") as seen:
        ...
        seen.poll()
        seen.counts  # {("IP_RPFILTER", "ip_rcv_finish_core"): 40}
"""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from mcastctl.host import bpf, btf, kallsyms
from mcastctl.host.dropevents import Joined
from mcastctl.host.dropfilter import Filter, Filtered, Key

EVERY_NAMESPACE = 0
"""For `netns`: packets of every network namespace of the machine."""

NO_REASON = "NOT_SPECIFIED"
"""What the kernel says where it gives no reason; also the reason of kernels that know none."""

_OWN_NAMESPACE = Path("/proc/thread-self/ns/net")

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

    `method` is "bpf"; or "perf" when only the interface and the IP version are known of what is
    counted; or "" when the kernel cannot be asked. Unless it is "bpf", `why_not` is a sentence that
    says what is missing. `drops` is as of the last poll(), `lost` how many events found no room.
    """

    def __init__(self) -> None:
        self.method = ""
        self.why_not = ""
        self.drops: dict[Drop, int] = {}
        self._source: Filtered | Joined | None = None
        self._functions: dict[int, str] = {}

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Dropped datagrams of the group by (reason, function), all interfaces together."""
        return self._sum(control=False)

    @property
    def control_counts(self) -> dict[tuple[str, str], int]:
        """Dropped IGMP or MLD messages of any group by (reason, function).

        Reports of other hosts are among them, NOT_SPECIFIED: nobody here is a member of the groups
        they go to (224.0.0.22, ff02::16), and that is as it should be.
        """
        return self._sum(control=True)

    @property
    def lost(self) -> int:
        """Drops that could not be looked at (method "perf" only); poll() more often."""
        return self._source.lost if isinstance(self._source, Joined) else 0

    def only_lengths(self, lengths: set[int]) -> None:
        """Leave out what cannot be the group's by its length, from the IP header on.

        For method "perf" only, where it narrows what was counted already too.
        """
        if isinstance(self._source, Joined):
            self._source.lengths = frozenset(lengths)

    def poll(self) -> None:
        """Read what the kernel has counted; bounded, and without system calls for each packet."""
        if self._source is None:
            return
        counted = self._source.read()
        self._resolve({key.location for key in counted})
        reasons = self._source.reasons | {0: NO_REASON}
        drops: dict[Drop, int] = {}
        for key, count in counted.items():
            drop = self._named(key, reasons)
            if drop.reason not in _NOT_LOST and drop.function not in _TAPS:
                drops[drop] = drops.get(drop, 0) + count
        self.drops = drops

    def _sum(self, control: bool) -> dict[tuple[str, str], int]:
        total: dict[tuple[str, str], int] = {}
        for drop, count in self.drops.items():
            if drop.control == control:
                key = drop.reason, drop.function
                total[key] = total.get(key, 0) + count
        return total

    def _resolve(self, locations: set[int]) -> None:
        new = locations - self._functions.keys()
        if new:
            self._functions |= dict.fromkeys(new, "?") | kallsyms.functions(new)

    def _named(self, key: Key, reasons: dict[int, str]) -> Drop:
        # Subsystems have reasons of their own: SKB_DROP_REASON_SUBSYS_SHIFT, <net/dropreason.h>.
        reason = reasons.get(key.reason) or f"SUBSYS_{key.reason >> 16}_{key.reason & 0xFFFF}"
        function = self._functions[key.location]
        return Drop(reason, function, key.ifindex, bool(key.control))


@contextmanager
def watch(
    group: str,
    port: int | None,
    *,
    sport: int | None = None,
    source: str | None = None,
    netns: int | None = None,
    ifname: str | None = None,
) -> Iterator[Watch]:
    """Count what is dropped of a group's datagrams to a port (None: any) while the context is open.

    With `sport` and `source` only datagrams from that port and address count; IGMP and MLD always
    do.

    netns is the inode of a network namespace (stat(2) of /proc/PID/ns/net), None the caller's, or
    EVERY_NAMESPACE. A packet that belongs to none, or whose kernel structures no longer tell, is
    counted. Without ifname there is no method "perf". The kernel frees everything with the
    descriptors, however this process ends. Raises ValueError for a group or source that is no IP
    address, and for a source of another IP version; everything else is told by `method` and
    `why_not`.
    """
    address = ip_address(group.partition("%")[0])
    only = ip_address(source.partition("%")[0]) if source is not None else None
    if only is not None and only.version != address.version:
        raise ValueError(f"{source} sends nothing to {group}: another IP version")
    namespace = _own_namespace() if netns is None else netns
    wanted = Filter(address, port, namespace, sport, only)
    watching = Watch()
    with ExitStack() as stack:
        if not _filtered(watching, wanted, stack) and ifname is not None:
            _joined(watching, address, ifname, stack)
        yield watching


def _own_namespace() -> int:
    try:
        return _OWN_NAMESPACE.stat().st_ino
    except OSError:
        return EVERY_NAMESPACE  # a kernel without namespaces, or /proc is hidden


def _filtered(watching: Watch, wanted: Filter, stack: ExitStack) -> bool:
    with ExitStack() as opened:
        try:
            watching._source = Filtered(wanted, opened)
        except btf.BtfError as error:
            watching.why_not = str(error)
        except bpf.Refused as refused:
            watching.why_not = _explain(refused)
        else:
            watching.method = "bpf"
            stack.enter_context(opened.pop_all())
    return bool(watching.method)


def _joined(
    watching: Watch, group: IPv4Address | IPv6Address, ifname: str, stack: ExitStack
) -> None:
    with ExitStack() as opened:
        try:
            watching._source = Joined(group.version, ifname, opened)
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            watching.why_not += f"; nor can its trace events be read: {said}"
        else:
            watching.method = "perf"
            stack.enter_context(opened.pop_all())


def _explain(refused: bpf.Refused) -> str:
    what = f"the kernel refused to {refused.step}: {refused.strerror}"
    if refused.errno in (errno.EPERM, errno.EACCES) and not refused.log:
        return f"{what}; it needs CAP_BPF and CAP_PERFMON, or root of the machine itself"
    if refused.errno == errno.ENOSYS:
        return f"{what}; it is not a 64-bit Linux built with CONFIG_BPF_SYSCALL"
    if refused.errno in (errno.EINVAL, errno.ENOENT) and refused.step.startswith("attach"):
        return f"{what}; it was built without CONFIG_BPF_EVENTS"
    if "bpf_probe_read_kernel" in refused.log:
        return f"{what}; its memory may not be read (kernel_lockdown(7), or no CAP_PERFMON)"
    return f"{what} ({refused.log})" if refused.log else what

"""Drop reasons: every way to lose a group's packets is counted under its own, and nothing else is.

The observer is the test itself, for the kernel answers only root of the machine; what it observes
happens in hosts of their own.
"""

from __future__ import annotations

import errno
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import PIPE

import pytest
from conftest import Pair, Trio
from place import BY_ROOT, ROOT
from world import Host, Place, Running, need

from mcastctl.host import bpf, btf, dropfilter, drops

GROUP, GROUP6, PORT = "239.1.1.1", "ff3e::8000:1", 5007
OTHER, OTHER6 = "239.1.1.2", "ff3e::8000:2"
NOBODYS = "239.203.17.91"  # used by no other test, which may run beside this one
FEW = 5
FLOOD = 30_000

# argv: ifname source group port count bytes option. Options: "bad sum" (UDP with a wrong checksum),
# "options" (IP options or an extension header before UDP), "segments" (ten datagrams in a call).
SAY = """
import socket, struct, sys
ifname, source, group, port, count, size, option = sys.argv[1:]
six = ":" in group
family, level = (socket.AF_INET6, 41) if six else (socket.AF_INET, 0)
bad = option == "bad sum"
kind = (socket.SOCK_RAW, socket.IPPROTO_UDP) if bad else (socket.SOCK_DGRAM, 0)
sock = socket.socket(family, *kind)
index = socket.if_nametoindex(ifname)
if six:
    sock.setsockopt(level, socket.IPV6_MULTICAST_IF, index)
else:
    sock.setsockopt(level, socket.IP_MULTICAST_IF, struct.pack("@4s4si", b"", b"", index))
if option == "options":
    padding = bytes((0, 0, 1, 4, 0, 0, 0, 0)) if six else b"\\x01" * 8
    sock.setsockopt(level, socket.IPV6_DSTOPTS if six else socket.IP_OPTIONS, padding)
if option == "segments":
    UDP_SEGMENT = 103
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, int(size) // 10)
sock.bind((source, 0))
data = bytes(int(size))
if bad:
    data = struct.pack("!HHHH", 4000, int(port), 8 + len(data), 0xBAD) + data
for _ in range(int(count)):
    sock.sendto(data, (group, 0 if bad else int(port)))
"""

# argv: ifname group port option. Joins, binds, never reads; option "filter" refuses every packet.
JOIN = """
import ctypes, socket, struct, sys
ifname, group, port, option = sys.argv[1:]
six = ":" in group
family, level = (socket.AF_INET6, 41) if six else (socket.AF_INET, 0)
sock = socket.socket(family, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
if option == "filter":
    refuse = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0), 8)
    SO_ATTACH_FILTER = 26
    program = struct.pack("@HP", 1, ctypes.addressof(refuse))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
sock.bind(("::" if six else "0.0.0.0", int(port)))
address = (struct.pack("=HHI16sI", family, 0, 0, socket.inet_pton(family, group), 0) if six
           else struct.pack("=HH4s", family, 0, socket.inet_pton(family, group)))
index = socket.if_nametoindex(ifname)
MCAST_JOIN_GROUP = 42
sock.setsockopt(level, MCAST_JOIN_GROUP, struct.pack("@I4x128s", index, address))
print("joined", flush=True)
sys.stdin.read()
"""

FIREWALL = """
nft add table inet t
nft add chain inet t in '{{ type filter hook {hook} priority 0; }}'
nft add rule inet t in {rule}
"""


@pytest.fixture
def root() -> None:
    """Skip unless the kernel answers: privileged outside every user namespace, types described."""
    if not ROOT:
        pytest.skip(BY_ROOT)
    if not btf.VMLINUX.exists():
        pytest.skip(f"this kernel does not describe its types ({btf.VMLINUX})")


@pytest.fixture
def without_bpf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does not describe its types."""
    monkeypatch.setattr(dropfilter, "_STRUCTS", ("no such struct",))


def watch(host: Host, group: str, port: int | None = PORT) -> AbstractContextManager[drops.Watch]:
    namespace = Path(f"/proc/{host.pid}/ns/net").stat().st_ino
    return drops.watch(group, port, netns=namespace, ifname=host.ports[0])


def say(
    host: Host,
    group: str,
    *,
    port: int = PORT,
    count: int = FEW,
    size: int = 5,
    option: str = "",
    source: str | None = None,
) -> None:
    own = source or (host.addr6() if ":" in group else host.addr4())
    words = [host.ports[0], own, group, port, count, size, option]
    host.run([sys.executable, "-c", SAY, *map(str, words)], timeout=60)


def join(host: Host, group: str, port: int = PORT, option: str = "") -> Running:
    words = [host.ports[0], group, str(port), option]
    listener = host.popen([sys.executable, "-c", JOIN, *words], stdin=PIPE)
    listener.wait_stdout("joined")
    return listener


def firewall(host: Host, rule: str, hook: str = "input") -> None:
    need("nft")
    host.sh(FIREWALL.format(hook=hook, rule=rule))


def wait(watching: drops.Watch, reached: Callable[[], bool]) -> None:
    """Poll until it is so: the receiving side of a cable runs when a CPU is free for it."""
    deadline = time.monotonic() + 40
    while True:
        watching.poll()
        if reached():
            return
        assert time.monotonic() < deadline, (watching.drops, watching.lost)
        time.sleep(0.01)


def counted(watching: drops.Watch, reason: str, count: int = FEW) -> set[str]:
    """Wait for so many drops for this reason and no other; returns the functions that dropped."""
    wait(watching, lambda: sum(watching.counts.values()) >= count)
    assert sum(watching.counts.values()) == count, watching.drops
    assert {name for name, _ in watching.counts} == {reason}, watching.drops
    return {function for _, function in watching.counts}


def interfaces(watching: drops.Watch) -> set[int]:
    return {drop.ifindex for drop in watching.drops if not drop.control}


def both(*ids: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("group", [GROUP, GROUP6], ids=ids or ("ipv4", "ipv6"))


pytestmark = pytest.mark.usefixtures("root")


def test_reverse_path_filter(pair: Pair) -> None:
    pair.b.sysctl("net.ipv4.conf.b0.rp_filter", 1)
    pair.a.ip("addr add 192.0.2.1/32 dev a0")
    join(pair.b, GROUP)
    with watch(pair.b, GROUP) as watching:
        assert (watching.method, watching.why_not) == ("bpf", "")
        say(pair.a, GROUP, source="192.0.2.1")
        assert counted(watching, "IP_RPFILTER") == {"ip_rcv_finish_core"}
        assert interfaces(watching) == {pair.b.ifindex()}


@both()
def test_only_what_comes_from_one_port(pair: Pair, group: str) -> None:
    firewall(pair.b, f"udp dport {PORT} drop")
    join(pair.b, group)
    namespace = Path(f"/proc/{pair.b.pid}/ns/net").stat().st_ino
    with (
        watch(pair.b, group) as all_of_it,
        drops.watch(group, PORT, sport=4000, netns=namespace) as watching,
    ):
        say(pair.a, group)
        counted(all_of_it, "NETFILTER_DROP")
        say(pair.a, group, option="bad sum")  # its source port is 4000
        counted(watching, "NETFILTER_DROP")


@both()
def test_only_what_comes_from_one_source(pair: Pair, group: str) -> None:
    firewall(pair.b, f"udp dport {PORT} drop")
    join(pair.b, group)
    namespace = Path(f"/proc/{pair.b.pid}/ns/net").stat().st_ino
    own = pair.a.addr6() if ":" in group else pair.a.addr4()
    other = "fd99::77" if ":" in group else "10.99.0.77"
    with (
        drops.watch(group, PORT, source=other, netns=namespace) as nothing,
        drops.watch(group, PORT, source=own, netns=namespace) as watching,
    ):
        say(pair.a, group)
        counted(watching, "NETFILTER_DROP")
        nothing.poll()
        assert nothing.counts == {}


def test_a_source_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="another IP version"), drops.watch(GROUP, 1, source="::1"):
        pass


@both()
@pytest.mark.parametrize("hook", ["input", "prerouting"])
def test_firewall(pair: Pair, group: str, hook: str) -> None:
    firewall(pair.b, f"udp dport {PORT} drop", hook)
    join(pair.b, group)
    with watch(pair.b, group) as watching:
        say(pair.a, group)
        counted(watching, "NETFILTER_DROP")


@both()
def test_wrong_checksum(pair: Pair, group: str) -> None:
    join(pair.b, group)
    with watch(pair.b, group) as watching:
        say(pair.a, group, option="bad sum")
        counted(watching, "UDP_CSUM")


@both()
def test_full_receive_buffer(pair: Pair, group: str) -> None:
    join(pair.b, group)
    with watch(pair.b, group) as watching:
        say(pair.a, group, count=20, size=1000)
        wait(watching, lambda: sum(watching.counts.values()) > 10)  # some found room
        assert {reason for reason, _ in watching.counts} == {"SOCKET_RCVBUFF"}


@both()
def test_socket_filter(pair: Pair, group: str) -> None:
    join(pair.b, group, option="filter")
    with watch(pair.b, group) as watching:
        say(pair.a, group)
        counted(watching, "SOCKET_FILTER")


@both()
def test_no_socket_on_the_port(pair: Pair, group: str) -> None:
    join(pair.b, group, PORT + 1)
    with watch(pair.b, group) as watching:
        say(pair.a, group)
        (function,) = counted(watching, "NOT_SPECIFIED")
        assert function.startswith("__udp")


@pytest.mark.parametrize(
    ("group", "function"),
    [(GROUP, "ip_rcv_finish_core"), (GROUP6, "ip6_mc_input")],
    ids=("ipv4", "ipv6"),
)
def test_not_joined(pair: Pair, group: str, function: str) -> None:
    with watch(pair.b, group) as watching:
        say(pair.a, group)
        assert counted(watching, "NOT_SPECIFIED") == {function}


@both()
def test_output_firewall_names_no_interface(pair: Pair, group: str) -> None:
    firewall(pair.a, f"udp dport {PORT} accept", "input")
    pair.a.sh(
        "nft add chain inet t out '{ type filter hook output priority 0; }'\n"
        f"nft add rule inet t out udp dport {PORT} drop"
    )
    with watch(pair.a, group) as here, watch(pair.b, group) as there:
        with pytest.raises(AssertionError, match="Operation not permitted"):
            say(pair.a, group)
        counted(here, "NETFILTER_DROP", 1)
        assert interfaces(here) == {0}
        there.poll()
        assert there.counts == {}


@both()
def test_other_groups_ports_and_hosts_are_not_counted(trio: Trio, group: str) -> None:
    x, y, _ = trio.responders
    with watch(x, group) as watching, watch(y, group, None) as beside:
        say(trio.asker, OTHER6 if ":" in group else OTHER)
        say(trio.asker, group, port=PORT + 1)
        say(trio.asker, group, count=1)  # all three ways end here, in order
        wait(beside, lambda: sum(beside.counts.values()) >= FEW + 1)
        assert sum(beside.counts.values()) == FEW + 1
        counted(watching, "NOT_SPECIFIED", 1)
        assert interfaces(watching) == {x.ifindex()}


def test_every_namespace(trio: Trio) -> None:
    with drops.watch(NOBODYS, PORT, netns=drops.EVERY_NAMESPACE) as watching:
        say(trio.asker, NOBODYS, count=1)
        counted(watching, "NOT_SPECIFIED", 4)  # three hosts, and the one that is the switch


@both()
def test_ports_behind_options(pair: Pair, group: str) -> None:
    with watch(pair.b, group) as watching:
        say(pair.a, group, port=PORT + 1, option="options")
        say(pair.a, group, option="options")
        counted(watching, "NOT_SPECIFIED")


@both()
def test_datagrams_handed_over_together_count_each(pair: Pair, group: str) -> None:
    with watch(pair.b, group) as watching:
        say(pair.a, group, size=500, option="segments")
        counted(watching, "NOT_SPECIFIED", 10 * FEW)


@both()
def test_later_fragments_are_counted_for_any_port(pair: Pair, group: str) -> None:
    with watch(pair.b, group, PORT + 1) as later, watch(pair.b, group) as watching:
        say(pair.a, group, count=1, size=4000)  # three fragments, the first names the port
        wait(watching, lambda: sum(watching.counts.values()) == 3)
        later.poll()
        assert sum(later.counts.values()) == 2


@pytest.mark.parametrize(
    ("group", "rule"),
    [
        (GROUP, "ip protocol igmp drop"),
        (GROUP6, "icmpv6 type { 130, 131, 132, 143 } drop"),
    ],
    ids=("igmp", "mld"),
)
def test_membership_messages_are_counted_apart(pair: Pair, group: str, rule: str) -> None:
    firewall(pair.a, rule, "output")
    with watch(pair.a, group) as watching:
        join(pair.a, group)
        wait(
            watching, lambda: "NETFILTER_DROP" in {reason for reason, _ in watching.control_counts}
        )
        assert watching.counts == {}


@both()
def test_a_flood_beside_changes_nothing(pair: Pair, group: str) -> None:
    with (
        watch(pair.b, OTHER6 if ":" in group else OTHER) as flood,
        watch(pair.b, group) as watching,
    ):
        say(pair.a, group)
        say(pair.a, OTHER6 if ":" in group else OTHER, count=FLOOD)
        wait(flood, lambda: sum(flood.counts.values()) > FLOOD // 2)  # a cable's queue may overflow
        say(pair.a, group)
        counted(watching, "NOT_SPECIFIED", 2 * FEW)


@pytest.mark.parametrize("arguments", [2, 3])
def test_older_kernels(pair: Pair, monkeypatch: pytest.MonkeyPatch, arguments: int) -> None:
    """Without the receiving socket (before 6.11) and without reasons (before 5.17)."""
    attach = bpf.attach_raw_tracepoint
    refused: list[int] = []

    def older(name: str, program: int) -> int:
        if len(refused) < 4 - arguments:
            refused.append(program)
            raise bpf.Refused("attach", errno.EINVAL)
        return attach(name, program)

    monkeypatch.setattr(bpf, "attach_raw_tracepoint", older)
    join(pair.b, GROUP)
    with watch(pair.b, GROUP) as watching:
        assert watching.method == "bpf"
        say(pair.a, GROUP, option="bad sum")
        (function,) = counted(watching, "UDP_CSUM" if arguments == 3 else "NOT_SPECIFIED")
        assert function.startswith("__udp")


def test_a_packet_that_no_longer_tells_its_namespace_is_counted(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UDP keeps sizes where the device was; kernels before 6.11 do not name the socket either."""
    monkeypatch.setattr(dropfilter, "_ARGUMENTS", (3,))
    join(pair.b, GROUP)
    with watch(pair.b, GROUP) as watching:
        say(pair.a, GROUP, count=20, size=1000)
        wait(watching, lambda: sum(watching.counts.values()) > 10)
        assert {reason for reason, _ in watching.counts} == {"SOCKET_RCVBUFF"}


@pytest.mark.usefixtures("without_bpf")
@both()
def test_without_types_the_drops_of_the_interface_are_counted(trio: Trio, group: str) -> None:
    x = trio.responders[0]
    join(x, group)
    with watch(x, group) as watching:
        assert watching.method == "perf"
        assert "does not describe" in watching.why_not
        say(trio.asker, group, option="bad sum", size=40)
        wait(watching, lambda: "UDP_CSUM" in {reason for reason, _ in watching.counts})
        size = 40 + 8 + (40 if ":" in group else 20)
        watching.only_lengths({size})
        counted(watching, "UDP_CSUM")
        watching.only_lengths({size + 1})
        watching.poll()
        assert watching.counts == {}


@pytest.mark.usefixtures("without_bpf")
def test_without_types_a_flood_is_bounded(pair: Pair) -> None:
    with watch(pair.b, GROUP) as watching:
        say(pair.a, OTHER, count=FLOOD)
        watching.poll()
        assert 0 < sum(watching.counts.values()) < FLOOD

        def told() -> bool:
            say(pair.a, OTHER)  # the kernel tells of a processor's losses with its next event
            return watching.lost > 0

        wait(watching, told)


def test_the_clutter_of_captures_is_left_out(pair: Pair) -> None:
    """A capture that does not read drops its copies, and what it held when it closes."""
    need("python3")
    tap = (
        "import socket, sys\n"
        "tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))\n"
        "tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)\n"
        "tap.bind((sys.argv[1], 0))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    capture = pair.b.popen([sys.executable, "-c", tap, "b0"], stdin=PIPE)
    capture.wait_stdout("open")
    firewall(pair.b, f"udp dport {PORT} drop")
    join(pair.b, GROUP)
    with watch(pair.b, GROUP) as watching:
        say(pair.a, GROUP, count=20, size=1000)
        capture.finish()
        counted(watching, "NETFILTER_DROP", 20)


def open_files() -> Iterator[str]:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            yield str(entry.readlink())
        except FileNotFoundError:
            continue


@pytest.mark.parametrize("method", ["bpf", "perf"])
def test_nothing_stays_open(method: str, request: pytest.FixtureRequest) -> None:
    if method == "perf":
        request.getfixturevalue("without_bpf")
    before = sorted(open_files())
    with pytest.raises(KeyError), drops.watch(GROUP, PORT, ifname="lo") as watching:
        assert watching.method == method
        assert sorted(open_files()) != before
        raise KeyError
    assert sorted(open_files()) == before


WATCH = """
import sys
from mcastctl.host import bpf, btf, dropfilter, drops
if sys.argv[1] == "perf":
    dropfilter._STRUCTS = ("no such struct",)
with drops.watch("239.1.1.1", 5007, ifname="lo") as watching:
    print(repr((watching.method, watching.why_not)), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("method", ["bpf", "perf"])
def test_nothing_is_left_after_a_signal(here: Place, method: str, number: int) -> None:
    command = here.popen([sys.executable, "-c", WATCH, method], stdin=PIPE)
    command.wait_stdout(f"'{method}'")
    mounts = Path("/proc/self/mounts").read_text()
    command.signal(number)
    assert command.finish().returncode == -number
    assert Path("/proc/self/mounts").read_text() == mounts
    for tracing in (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing")):
        assert not any("mcastctl" in one.name for one in tracing.glob("instances/*"))


@pytest.mark.parametrize("method", ["bpf", "perf"])
def test_root_of_a_user_namespace_is_told_what_is_missing(pair: Pair, method: str) -> None:
    told = pair.a.run([sys.executable, "-c", WATCH, method], input="").stdout
    assert told.startswith("('', ")
    assert "CAP_BPF and CAP_PERFMON, or root of the machine itself" in told

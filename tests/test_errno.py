"""Each refusal of the kernel, and each thing it does in silence, provoked for real: the message
names operation and object, the hint the remedy, the status whether it could be asked.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from subprocess import PIPE
from typing import NamedTuple

import pytest
from conftest import Pair, reason_without_world
from streams import Stream, inject
from test_errors import HOLDER, refuse_anyhow, refused
from world import Host, World

from mcastctl.model import refusal
from mcastctl.model.errors import SocketError
from mcastctl.model.shortage import shortage
from mcastctl.net.nic import Nic
from mcastctl.net.sender import Egress, Sender

pytestmark = pytest.mark.netns

G4, G6 = "239.1.1.1:5004", "[ff15::1]:5004"
SHORT = "-T 30ms"
FIREWALL = (
    "nft add table inet f; nft add chain inet f out '{{ type filter hook output priority 0; }}';"
    "nft add rule inet f out udp dport 5004 {}"
)
ROUTE = "ip route add {} 239.9.0.0/16"
BARE = "ip link add bare type veth peer name end; ip link set bare up; ip link set end up"
UNBARE = "ip link del bare"
SOURCES6 = ",".join(f"fd00::{number:x}" for number in range(1, 66))
SOURCES4 = ",".join(f"10.0.0.{number}" for number in range(1, 12))


class Row(NamedTuple):
    """What is set up, typed, answered (status, words of message and hint), and undone."""

    command: str
    status: int
    said: str
    hint: str = ""
    setup: str = ""
    undo: str = ""


def _down(command: str, status: int, said: str, hint: str) -> Row:
    undo = "ip link set a0 up; ip route replace 224.0.0.0/4 dev a0"
    return Row(command, status, said, hint, "ip link set a0 down", undo)


def _firewall(command: str, what: str, said: str) -> Row:
    hint = "nft list ruleset"
    return Row(command, 2, said, hint, FIREWALL.format(what), "nft delete table inet f")


def _route(command: str, kind: str, status: int, said: str, hint: str) -> Row:
    return Row(command, status, said, hint, ROUTE.format(kind), "ip route del 239.9.0.0/16")


def _sysctl(  # noqa: PLR0917 (a row of the table)
    command: str, key: str, low: int, usual: int, said: str, hint: str
) -> Row:
    setting = "echo {} > /proc/sys/net/" + key
    return Row(command, 2, said, hint, setting.format(low), setting.format(usual))


ROWS = {
    # joining
    "the 21st group": Row(f"listen 239.1.1.0:5004+29 -i a0 {SHORT} -v", 1, "joined 239.1.1.29"),
    "no memberships allowed": _sysctl(
        *(f"listen {G4} -i a0", "ipv4/igmp_max_memberships", 0, 20),
        *("cannot join 239.1.1.1 on a0: no buffer space available (ENOBUFS)", "igmp_max_membersh"),
    ),
    "no option memory": _sysctl(
        *(f"listen {G6} -i a0", "core/optmem_max", 40, 131072),
        *("cannot join ff15::1 on a0: cannot allocate memory (ENOMEM)", "net.core.optmem_max"),
    ),
    "11 sources": Row(
        *(f"listen {SOURCES4}@232.1.1.1:5004 -i a0", 2),
        *("cannot filter source 10.0.0.11 of 232.1.1.1 on a0: no buffer space", "igmp_max_msf"),
    ),
    "65 sources": Row(
        *(f"listen {SOURCES6}@[ff35::1]:5004 -i a0", 2),
        *("cannot filter source fd00::41 of ff35::1 on a0: no buffer space", "mld_max_msf"),
    ),
    "a unicast address": Row("listen 10.0.1.1:5004", 2, "not a multicast group", "224.0.0.0/4"),
    "a link-local address": Row("listen [fe80::1%a0]:5", 2, "not a multicast group", "ff00::/8"),
    "a mapped address": Row("listen [::ffff:239.1.1.1]:5", 2, "not a multicast group", "ff00::"),
    "no such index": Row(f"listen {G4} -i 999", 2, "no interface has the name, index", "a0"),
    "no such address": Row(f"listen {G4} -i 10.9.9.9", 2, "or address '10.9.9.9'", "a0"),
    "no route": Row(
        *(f"listen {G4}", 2, "cannot choose an interface for 239.1.1.1: no route", "-i IFACE"),
        *(f"ip route del 224.0.0.0/4; {BARE}", "ip route add 224.0.0.0/4 dev a0; ip link del bare"),
    ),
    "joined twice": Row(f"listen {G4} {G4} -i a0 {SHORT}", 1, "joined 239.1.1.1:5004 on a0"),
    "joined while down": _down(
        f"listen {G4} -i a0 {SHORT}", 1, "a0 is down: nothing can arrive there", "link set a0 up"
    ),
    "answering while down": _down(
        f"echo {G4} -i a0 {SHORT}", 1, "a0 is down: nothing can arrive there", "link set a0 up"
    ),
    "without the flag": Row(
        *(f"listen {G4} -i a0 {SHORT}", 1, "a0 has no MULTICAST flag", "ip link set a0 multicast"),
        *("ip link set a0 multicast off", "ip link set a0 multicast on"),
    ),
    "by 127.0.0.1": Row(f"listen {G4} -i 127.0.0.1 {SHORT}", 1, "joined 239.1.1.1:5004 on lo"),
    "IPv6 off": Row(
        *(f"listen {G6} -i a0 {SHORT}", 1, "IPv6 is switched off on a0", "disable_ipv6=0"),
        *("echo 1 > /proc/sys/net/ipv6/conf/a0/disable_ipv6",),
        *("echo 0 > /proc/sys/net/ipv6/conf/a0/disable_ipv6",),
    ),
    "224.0.0.0": Row(f"listen 224.0.0.0:5 -i a0 {SHORT}", 1, "224.0.0.0 is reserved", "239.0.0"),
    "ff00::": Row(f"listen [ff00::1]:5 -i a0 {SHORT}", 1, "ff00::1 is reserved", "ff15::/16"),
    "ff0f::": Row(f"listen [ff0f::1]:5 -i a0 {SHORT}", 1, "ff0f::1 is reserved", "ff15::/16"),
    "SSM of any source": Row(
        f"listen 232.1.1.1:5 -i a0 {SHORT}", 1, "232.1.1.1 is source-specific", "SRC@232.1.1.1"
    ),
    "a buffer cut short": Row(
        *(f"listen {G4} -i a0 --rcvbuf 900M {SHORT}", 1),
        *("net.core.rmem_max allows no more than that of the 900000000", "net.core.rmem_max=9"),
    ),
    "IPv6 without a zone": Row(f"listen {G6} {SHORT}", 1, "joined [ff15::1]:5004 on a0"),
    # sockets
    "TTL -1": Row(f"send {G4} x -t -1", 2, "--ttl: '-1' is not a TTL", "0 to 255"),
    "TTL 256": Row(f"send {G4} x -t 256", 2, "--ttl: '256' is not a TTL", "0 to 255"),
    "TTL 2^31": Row(f"send {G4} x -t 2147483648", 2, "is not a TTL", "0 to 255"),
    "port 0": Row("send 239.1.1.1:0 x", 2, "'0' is not a UDP port", "1 to 65535"),
    "port 65536": Row("send 239.1.1.1:65536 x", 2, "'65536' is not a UDP port", "1 to 65535"),
    "port -1": Row("send 239.1.1.1:-1 x", 2, "'-1' is not a UDP port", "1 to 65535"),
    "too few descriptors": Row(
        *("listen 239.1.1.0:5004+63 -i a0", 2, "too many open files (EMFILE)"),
        *("64 sockets are needed", "ulimit -n 20"),
    ),
    "no raw sockets": Row(
        *("sniff -i a0 -T 30ms", 2, "raw sockets need CAP_NET_RAW (EPERM)", "sudo"),
        *('set -- setpriv --bounding-set=-all --inh-caps=-all "$@"',),
    ),
    "sniffing nothing": Row("sniff -i nope0 -T 30ms", 2, "no interface has the name", "a0"),
    # sending
    "65508 bytes": Row(
        f"send {G4} --probe -c 1 -s 65508 -i a0", 2, "message too long (EMSGSIZE)", "65507"
    ),
    "65527 bytes by IPv6": Row(
        *(f"send {G6} --probe -c 1 -s 65527 -i a0", 0),
        *("65527 bytes exceed the MTU 1500 of a0: 46 fragments each", "-s 1452"),
    ),
    "fragments": Row(
        *(f"send {G4} --probe -c 1 -s 1473 -i a0", 0),
        *("1473 bytes exceed the MTU 1500 of a0: 2 fragments each", "-s 1472"),
    ),
    "interface down": _down(
        *(f"send {G4} x -i a0", 2),
        *("cannot send to 239.1.1.1:5004 on a0: network is unreachable (ENETUNREACH)", "a0 up"),
    ),
    "asking while down": _down(
        f"ping {G4} -i a0 -c 1 --wait 30ms", 2, "network is unreachable (ENETUNREACH)", "a0 up"
    ),
    "unreachable": _route("send 239.9.1.1:5 x", "unreachable", 2, "(EHOSTUNREACH)", "-i IFACE"),
    "prohibited": _route("send 239.9.1.1:5 x", "prohibit", 2, "(EACCES)", "a route prohibits"),
    "blackhole": _route("send 239.9.1.1:5 x", "blackhole", 2, "(EINVAL)", "a blackhole route"),
    "blackhole, by name": _route("send 239.9.1.1:5 x -i a0", "blackhole", 0, "sent 1 datagram", ""),
    "dropped": _firewall(f"send {G4} x", "drop", "not permitted (EPERM)"),
    "dropped, IPv6": _firewall(f"send {G6} x -i a0", "drop", "not permitted (EPERM)"),
    "rejected": _firewall(f"send {G4} x", "reject", "not permitted (EPERM)"),
    "a borrowed source": Row(
        *(f"send {G4} x -i bare", 0),
        *("bare has no IPv4 address: datagrams leave with the source 10.0.1.1", "rp_filter"),
        *(BARE, UNBARE),
    ),
    "to a broadcast address": Row(
        "send --unicast 10.0.1.255:5004 x", 2, "permission denied (EACCES)", "broadcast"
    ),
    "an address of nobody": Row(
        *(f"send {G4} x --bind 10.9.9.9", 2),
        *("cannot bind the sending socket to 10.9.9.9: cannot assign", "mcastctl ifaces"),
    ),
    "no zone": Row("send [ff02::1]:5 x", 2, "link-local and names no", "%IFACE", BARE, UNBARE),
    "two zones": Row("send [ff02::1%a0]:5 x -i lo", 2, "names interface a0, but -i", "keep one"),
    "an unknown zone": Row("send [ff02::1%nope]:5 x", 2, "no interface has the name", "a0"),
    "IPv6 by loopback": Row(
        f"send {G6} x -i lo", 2, "(ENETUNREACH)", "loopback routes no IPv6 groups"
    ),
}


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host with one neighbour and a route for groups."""
    if reason := reason_without_world():
        pytest.skip(reason)
    with World() as world:
        a = world.host("a")
        world.link(a, world.host("b"))
        a.ip("route add 224.0.0.0/4 dev a0")
        yield a


@pytest.mark.parametrize("name", ROWS)
def test_the_kernel_says_no(host: Host, name: str) -> None:
    row = ROWS[name]
    words = [sys.executable, "-m", "mcastctl", *row.command.split()]
    # What lasts is undone; what holds for a process is set in the shell that becomes it.
    script = f'{row.setup or ":"}; exec "$@"'
    try:
        ended = host.run(["sh", "-euc", script, "sh", *words], check=False)
    finally:
        host.sh(row.undo or ":")
    assert ended.returncode == row.status, ended
    assert "Traceback" not in ended.stderr
    lines = ended.stderr.splitlines()
    found = [number for number, line in enumerate(lines) if row.said in line]
    assert found, ended.stderr
    if row.hint:
        assert lines[found[0] + 1].startswith("hint: "), ended.stderr
        assert row.hint in lines[found[0] + 1]
    errors = [line for line in lines if line.startswith("mcastctl: error: ")]
    assert len(errors) == (row.status == 2)
    assert row.status != 2 or row.said in errors[0]


def test_who_has_the_port_is_named(pair: Pair) -> None:
    a = pair.a
    holder = a.popen([sys.executable, "-c", HOLDER, "4000"], stdin=PIPE)
    holder.wait_stdout("held")
    for command in (f"listen 239.1.1.1:4000 {SHORT}", f"echo 239.1.1.1:4000 {SHORT}"):
        message, hint = refused(a.mcastctl(*command.split(), "-i", "a0"))
        assert "address already in use (EADDRINUSE)" in message
        assert f"(pid {holder.pid}) holds it without address reuse" in hint
    _, hint = refuse_anyhow(a, f"send {G4} x --bind :4000 -i a0")
    assert f"(pid {holder.pid}) holds it" in hint


def test_reports_about_earlier_datagrams_end_nothing(pair: Pair) -> None:
    """ICMP port unreachable comes back for each of them (IP_RECVERR, ip(7))."""
    a, b = pair
    command = ["send", "--unicast", "10.0.1.2:9999", "x", "-c", "5", "--interval", "20ms", "-j"]
    sent = Stream.of(a.mcastctl(*command))
    counted = {key: sent.summary[key] for key in ("attempted", "sent", "refused")}
    assert (sent.status, counted) == (0, {"attempted": 5, "sent": 5, "refused": 0})
    echo = b.start_mcastctl("echo", G4, "-i", "b0", "--any", "-j")
    echo.wait_stdout('"joined"')
    for number in range(3):  # whoever asked is gone when the answer comes
        inject(a, "239.1.1.1", [b"%d" % number])
    echo.wait_stdout('"direction":"tx"', count=3)


@pytest.mark.parametrize(("version", "number"), [(4, errno.EADDRNOTAVAIL), (6, errno.ENODEV)])
def test_an_interface_that_is_gone_is_one_message(version: int, number: int) -> None:
    with pytest.raises(SocketError) as caught:
        Sender(version, Nic("gone0", 1 << 20), Egress())
    assert caught.value.errno == number
    assert caught.value.message.startswith("cannot send by interface gone0: ")
    assert caught.value.hint.startswith("the interface is gone or down")


def test_an_error_without_a_number() -> None:
    """if_nametoindex(3) leaves none (Python raises OSError without errno)."""
    assert refusal.cause(None, "no interface with this name") == "no interface with this name"
    assert refusal.name(None) == "unknown"
    assert refusal.remedy("join", None)


@pytest.mark.parametrize(
    "command",
    [f"listen {G4} -T 50ms", f"echo {G4} -T 50ms", f"ping {G4} -c 1 --wait 50ms", "sniff -T 50ms"],
)
def test_to_lack_descriptors_is_no_bug(pair: Pair, command: str) -> None:
    """Neither for a socket, nor for a module that is loaded when it is needed."""
    statuses = set()
    for limit in (6, 7, 8, 64):
        limited = f"ulimit -n {limit}; exec {sys.executable} -m mcastctl {command}"
        outcome = pair.a.run(["sh", "-c", limited], check=False)
        assert "Traceback" not in outcome.stderr
        assert "bug" not in outcome.stderr
        if outcome.returncode == 2:
            assert "too many open files" in outcome.stderr
            assert "ulimit -n" in outcome.stderr
        statuses.add(outcome.returncode)
    assert statuses <= {0, 1, 2}
    assert 2 in statuses


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "EMFILE"),
        (OSError(errno.ENFILE, "Too many open files in system"), "ENFILE"),
        (ImportError("fcntl.so: cannot open shared object file: Too many open files"), "EMFILE"),
        (ImportError("x.so: failed to map segment from shared object"), "ENOMEM"),
        (MemoryError(), "ENOMEM"),
        (ImportError("No module named 'x'"), None),
        (OSError(errno.EBADF, "Bad file descriptor"), None),
        (ValueError("Too many open files"), None),
    ],
)
def test_what_is_a_shortage(error: Exception, number: str | None) -> None:
    found = shortage(error)
    assert (found and found.message.rpartition("(")[2].rstrip(")")) == number

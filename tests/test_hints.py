"""`listen` that hears nothing tells why, as far as anybody may know it, and is no slower for it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from conftest import Pair
from faults import GROUP, PORT, voice
from place import Running
from streams import check_schema
from world import Host, World, need

TARGET = f"{GROUP}:{PORT}"
MEBIBYTE = 1 << 20
SAID = r"^mcastctl: warning: nothing heard for 3 s; (.*)\nhint: (.*)$"


def listening(host: Host, *args: str, **options: bool) -> Running:
    return host.start_mcastctl("listen", TARGET, *args, **options)


def told(running: Running) -> str:
    """What the hint says, once it is there."""
    return running.wait_stderr(SAID, timeout=60)[0]


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def child(running: Running) -> int:
    """The diagnosis beside a listener, once it runs its own program."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for pid in children(running.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"mcastctl.doctor.aside" in words:
                return pid
        time.sleep(0.005)
    raise AssertionError("no child was started")


def test_silence_without_a_fault_here(pair: Pair) -> None:
    """Nobody sends: this host is acquitted, once; a run too short for it is left alone."""
    plain, quiet, without, short, none, js = (
        listening(pair.b, "-i", "b0", *args)
        for args in (
            (),
            ("-qq",),
            ("--no-hints",),
            ("-T", "1s"),
            ("--expect-none",),
            ("-j",),
        )
    )
    said = told(plain)
    assert "no fault found on this host; " in said
    assert "[net.not_on_wire]" in said
    assert f"sudo mcastctl doctor {TARGET} -i b0" in said
    js.wait_stdout('"type":"notice"', timeout=60)
    scripted = listening(pair.b, "-i", "b0", "-q", "--expect", "1", "-T", "12s")
    assert "[net.not_on_wire]" in told(scripted)
    ended = scripted.finish()
    assert ended.returncode == 1
    assert "check the sender's interface" not in ended.stderr  # the doctor knows more than that
    peak = next(
        line for line in Path(f"/proc/{plain.pid}/status").read_text().splitlines() if "HWM" in line
    )
    assert int(peak.split()[1]) * 1024 < 20 * MEBIBYTE, peak
    assert not children(plain.pid)
    outcomes = {}
    for name, one in (("plain", plain), ("quiet", quiet), ("without", without), ("none", none)):
        one.signal(signal.SIGINT)
        outcomes[name] = one.finish()
    assert outcomes["plain"].stderr.count("nothing heard for 3 s") == 1
    for name in ("quiet", "without", "none"):
        assert "nothing heard for" not in outcomes[name].stderr
    unexplained = short.finish().stderr
    assert "nothing heard for" not in unexplained
    assert "check the sender's interface" in unexplained
    js.signal(signal.SIGINT)
    records = js.finish().records
    check_schema(records)
    (notice,) = [one for one in records if one["type"] == "notice"]
    assert (notice["level"], notice["code"]) == ("warning", "doctor")
    assert notice["hint"]


def test_the_cause_is_named(world: World) -> None:
    """Firewall, reverse path, another port, another interface: each by what anybody may see."""
    need("nft")
    a = world.host("a")
    hosts = [world.host(name) for name in ("fw", "rpf", "port", "iface")]
    for host in hosts:
        world.link(a, host)
        host.ip(f"link add {host.name}9 type veth peer name spare", f"link set {host.name}9 up")
        host.ip("link set spare up", f"addr add 10.5.5.5/24 dev {host.name}9")
    filtered, reverse, _, _ = hosts
    filtered.sh(
        "nft add table inet t; nft add chain inet t c '{ type filter hook input priority 0; }';"
        " nft add rule inet t c udp dport 5000 drop"
    )
    a.ip("addr add 10.77.0.7/32 dev a1")
    reverse.ip("route add 10.77.0.0/16 dev rpf9")
    reverse.sysctl("net/ipv4/conf/rpf0/rp_filter", 1)
    voice(a, iface="a0")
    voice(a, iface="a1", source="10.77.0.7")
    voice(a, iface="a2", port=5001)
    voice(a, iface="a3")
    running = [
        listening(host, "-i", name, privileged=False)
        for host, name in zip(hosts, ("fw0", "rpf0", "port0", "iface9"), strict=True)
    ]
    causes = (
        "host.firewall_input",
        "host.rp_filter",
        "rx.bound_wrong_port",
        "rx.joined_wrong_iface",
    )
    for one, cause in zip(running, causes, strict=True):
        assert f"[{cause}]" in told(one)
    assert "-i iface0" in told(running[-1])


def test_what_nobody_may_see_acquits_no_host(world: World) -> None:
    """Source filters, an early firewall rule, another program's port: told as what they may be."""
    need("nft")
    a = world.host("a")
    hosts = {name: world.host(name) for name in ("only", "less", "six", "early", "other")}
    for name, host in hosts.items():
        world.link(a, host)
        voice(a, iface=a.ports[-1], group="ff35::8000:5" if name == "six" else GROUP)
    own = a.addr4("a1")
    asked = {
        "only": (f"10.77.9.9@{GROUP}:{PORT}", "rx.source_filter", "joined from 10.77.9.9 only"),
        "less": (f"!{own}@{GROUP}:{PORT}", "rx.source_filter", "joined not from"),
        "six": ("fe80::99@[ff35::8000:5]:5000", "rx.source_filter", "joined from fe80::99 only"),
        "early": (TARGET, "net.not_on_wire", "none is counted as one for"),
        "other": (f"{GROUP}:{PORT + 5}", "", "no fault is to be seen on this host without root"),
    }
    hosts["early"].sh(
        "nft add table inet t; nft add chain inet t c '{ type filter hook prerouting priority"
        f" -300; }}'; nft add rule inet t c ip daddr {GROUP} drop"
    )
    listening(hosts["other"], "-i", "other0", "-q")
    running = {
        name: hosts[name].start_mcastctl("listen", one[0], "-i", f"{name}0", privileged=False)
        for name, one in asked.items()
    }
    for name, (_, cause, words) in asked.items():
        said = told(running[name])
        assert f"[{cause}]" in said or not cause, said
        assert words in said
        assert "no fault found on this host" not in said


def test_who_hears_something_asks_nobody(pair: Pair) -> None:
    """The diagnosis is ended by the first datagram, and with the listener."""
    hearing, ended = listening(pair.b, "-i", "b0"), listening(pair.b, "-i", "b0")
    beside = [child(hearing), child(ended)]
    ended.signal(signal.SIGTERM)
    ended.finish()
    voice(pair.a)
    hearing.wait_stdout(GROUP)
    deadline = time.monotonic() + 40
    while any(Path(f"/proc/{pid}").exists() for pid in beside):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    hearing.signal(signal.SIGINT)
    assert "nothing heard" not in hearing.finish().stderr

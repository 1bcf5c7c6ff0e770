"""`doctor --probe`: what active tests prove that watching cannot; nothing of them stays."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import wire
from conftest import Pair
from faults import GROUP, GROUP6, PORT, Surgery, answer, doctor, ear, voice
from place import BY_ROOT, ROOT
from streams import Json, check_schema
from world import Host, World, need

from mcastctl.host import bpf, syscall

TARGET = f"{GROUP}:{PORT}"
TEST_GROUP = "233.252.0.124"
IGMP = 2
# A rule that does nothing, one for another port, a jump, and there the one that drops.
RULES = """
nft add table inet t
nft add chain inet t c '{{ type filter hook {} priority 0; }}'
nft add chain inet t deeper
nft add rule inet t c udp dport 6000 drop
nft add rule inet t c meta l4proto udp jump deeper
nft add rule inet t deeper udp sport 53 drop
nft add rule inet t deeper udp dport 5000 drop
nft add rule inet t c udp dport 5000 drop
nft -a list chain inet t deeper
"""


def ruled(host: Host, hook: str) -> str:
    """Let two rules of a host drop the group; return the handle of the one that comes first."""
    listed = host.sh(RULES.format(hook)).stdout
    return str(re.search(r"dport 5000 drop # handle (\d+)", listed)[1])  # type: ignore[index]


def within(host: Host, *args: str) -> list[Json]:
    """The findings for root of the hosts' own user namespace, whoever runs the test."""
    outcome = host.mcastctl("doctor", *args, "-T", "300ms", "-j", timeout=30)
    assert outcome.returncode in (0, 1), outcome
    findings: list[Json] = json.loads(outcome.stdout)
    check_schema(findings)
    return findings


def whole(host: Host, *args: str) -> list[Json]:
    """The findings for root of the machine, where the test is run by it."""
    return doctor(host, *args, watch="500ms")


Ask = Callable[..., list[Json]]
by_root = pytest.mark.skipif(not ROOT, reason=BY_ROOT)
ASKING = [pytest.param(whole, marks=by_root), within]


def evidence(findings: list[Json], ident: str) -> str:
    """The evidence of a finding, joined."""
    return "\n".join(next(one["evidence"] for one in findings if one["id"] == ident))


def of_probe(seen: list[wire.Packet], *groups: str) -> list[wire.Packet]:
    """What the doctor may have sent: UDP, and what names these groups; not the kernel's chatter."""
    named = [wire.packed(one) for one in groups]
    return [
        one
        for one in seen
        if one.protocol == wire.UDP
        or one.dst in groups
        or any(group in one.payload for group in named)
    ]


def test_only_the_option_sends_and_only_there(pair: Pair) -> None:
    need("nft")
    pair.b.ip("link add b9 type veth peer name b8", "link set b9 up", "link set b8 up")
    groups = GROUP, TEST_GROUP
    cable, other = wire.watch(pair.a), wire.watch(pair.b, "b8")
    roles = [(TARGET, "-i", "b0", "--role", role) for role in ("receiver", "sender")]
    for question in roles:
        within(pair.b, *question)
    assert of_probe(wire.settled(cable, pair.b), *groups) == []
    for question in roles:
        within(pair.b, *question, "--probe")
    seen = of_probe(wire.settled(cable, pair.b), *groups)
    assert any(one.protocol == IGMP for one in seen)
    assert {one.ttl for one in seen} == {1}
    sent = [(one.src, one.dst, one.dport) for one in seen if one.protocol == wire.UDP]
    assert sent == [(pair.b.addr4(), GROUP, PORT)]
    assert of_probe(wire.settled(other, pair.b, "b9"), *groups) == []


def switched(world: World) -> Pair:
    """Two hosts on a switch that could snoop, and does not yet."""
    a, b = world.host("a"), world.host("b")
    world.bridge("sw", a, b, snooping=True)
    b.ip("route add default dev b0")
    return Pair(a, b)


def snooping(world: World) -> None:
    """Let the switch pass groups to members only; it asks once, and never again."""
    timing = "mcast_startup_query_count 0 mcast_query_interval 360000"
    timing += " mcast_query_response_interval 20 mcast_last_member_interval 10"
    world.anchor.ip(
        f"link set sw type bridge mcast_igmp_version 3 mcast_mld_version 2 {timing}",
        "link set sw type bridge mcast_querier 1",
    )


def database(world: World) -> str:
    return world.anchor.sh("bridge mdb show dev sw").stdout


def unreachable(pair: Pair, world: World) -> None:
    """Wait until the switch keeps the group from b: it begins with its first answers."""
    watching = wire.watch(pair.b)
    deadline = time.monotonic() + 40
    while True:
        known = len([one for one in wire.packets(watching) if one.dst == GROUP])
        wire.settled(watching, pair.a)
        passed = [one for one in wire.packets(watching) if one.dst == GROUP]
        if len(passed) == known:
            break
        assert time.monotonic() < deadline, database(world)
        time.sleep(0.1)
    watching.stop()


def test_a_join_makes_it_flow_through_a_switch(world: World) -> None:
    need("nft")
    pair = switched(world)
    snooping(world)
    ear(pair.b, joins=[])
    voice(pair.a)
    unreachable(pair, world)
    findings = (whole if ROOT else within)(pair.b, TARGET, "-i", "b0", "--probe")
    assert answer(findings) == "rx.not_joined"
    assert findings[0]["certain"] == "proved"
    assert "only the membership was missing" in evidence(findings, "rx.not_joined")
    assert "010101EF" not in pair.b.proc("igmp")
    deadline = time.monotonic() + 40
    while GROUP in database(world):  # the switch asks once more before it forgets
        assert time.monotonic() < deadline, database(world)
        time.sleep(0.05)


def test_a_report_by_hand_tells_that_the_switch_forgot(world: World) -> None:
    need("nft")
    pair = switched(world)
    # The switch never hears that b joins (CHANGE_TO_EXCLUDE_MODE), and b never what it asks first.
    deaf = "nft add table netdev q; nft add chain netdev q c"
    deaf += " '{ type filter hook ingress device sw-b0 priority 0; }'; "
    world.anchor.sh(deaf + "nft add rule netdev q c ip protocol igmp @nh,256,8 4 drop")
    unasked = "nft add rule inet t c igmp type membership-query drop"
    pair.b.sh(
        "nft add table inet t; nft add chain inet t c '{ type filter hook input priority 0; }'; "
        + unasked
    )
    snooping(world)
    ear(pair.b)
    voice(pair.a)
    unreachable(pair, world)
    pair.b.sh("nft delete table inet t")
    findings = within(pair.b, TARGET, "-i", "b0", "--probe")
    assert (answer(findings), findings[0]["certain"]) == ("net.no_querier", "inferred")
    assert "IGMPv3 report of 239.1.1.1, made by hand" in evidence(findings, "net.no_querier")


def test_the_rule_that_refuses_to_send_is_named(pair: Pair) -> None:
    need("nft")
    pair.a.ip("route add default dev a0")
    handle = ruled(pair.a, "output")
    findings = within(pair.a, TARGET, "-i", "a0", "--role", "sender", "--probe")
    assert (answer(findings), findings[0]["certain"]) == ("tx.firewall_output", "proved")
    told = evidence(findings, "tx.firewall_output")
    assert f"inet t deeper handle {handle}: udp dport 5000 drop, and the kernel's trace" in told
    assert f"handle {handle} " in findings[0]["hint"]


@pytest.mark.parametrize("ask", ASKING)
def test_the_rule_that_would_drop_is_named_without_a_sender(pair: Pair, ask: Ask) -> None:
    need("nft")
    handle = ruled(pair.b, "input")
    ear(pair.b)
    findings = ask(pair.b, f"{pair.a.addr4()}@{TARGET}", "-i", "b0", "--probe")
    assert answer(findings) == "host.firewall_input"
    told = evidence(findings, "host.firewall_input")
    assert f"inet t deeper handle {handle}: udp dport 5000 drop, and the kernel's trace" in told
    if ask is whole:
        assert findings[0]["certain"] == "proved"
        assert "put 3 datagrams from 10.0.1.1 in" in told


@by_root
@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("echo 1 > /proc/sys/net/ipv4/conf/b0/rp_filter", "host.rp_filter"),
        (
            "nft add table inet t; nft add chain inet t c '{ type filter hook input priority 0; }';"
            "nft add rule inet t c ip protocol igmp drop",
            "host.firewall_igmp_in",
        ),
    ],
)
def test_what_would_drop_it_is_told_without_a_sender(pair: Pair, script: str, cause: str) -> None:
    need("nft")
    ear(pair.b)
    pair.b.sh(script)
    source = "10.77.0.7" if "rp_" in cause else pair.a.addr4()
    findings = whole(pair.b, f"{source}@{TARGET}", "-i", "b0", "--probe")
    assert (answer(findings), findings[0]["certain"]) == (cause, "proved")


@by_root
def test_a_host_is_acquitted_and_its_programs_hear_nothing(pair: Pair) -> None:
    need("nft")
    hearing = pair.b.start_mcastctl("listen", TARGET, "-i", "b0", "-j")
    hearing.wait_stdout('"joined"')
    findings = whole(pair.b, f"{pair.a.addr4()}@{TARGET}", "-i", "b0", "--probe")
    assert answer(findings) == "net.not_on_wire"
    assert "pass all of this host" in evidence(findings, "net.not_on_wire")
    hearing.signal(signal.SIGINT)
    (last,) = [one for one in hearing.finish().records if one["type"] == "summary"]
    assert last["packets"] == 0


@pytest.mark.parametrize(
    ("ask", "group"), [pytest.param(whole, GROUP, marks=by_root), (within, GROUP6)]
)
def test_a_healthy_world_stays_healthy(pair: Pair, ask: Ask, group: str) -> None:
    need("nft")
    six = ":" in group
    source = pair.a.addr6() if six else pair.a.addr4()
    ear(pair.b, version=6 if six else 4)
    voice(pair.a, group=group, source=source)
    target = f"{source}@[{group}]:{PORT}" if six else f"{source}@{group}:{PORT}"
    for host, role in ((pair.a, "sender"), (pair.b, "receiver")):
        findings = ask(host, target, "-i", host.ports[0], "--role", role, "--probe")
        assert answer(findings) == "ok"
        assert findings[-1]["id"] == "doctor.probe"
    assert "a socket of ours, joined for a moment, heard them too" in evidence(findings, "ok")


def test_an_idle_sender_is_acquitted(pair: Pair) -> None:
    pair.a.ip("route add default dev a0")
    findings = within(pair.a, TARGET, "-i", "a0", "--role", "sender", "--probe")
    assert (answer(findings), findings[0]["certain"]) == ("net.no_traffic", "proved")
    assert f"left by a0 from {pair.a.addr4()}" in evidence(findings, "net.no_traffic")


def test_an_ordinary_user_joins_and_is_told_what_root_adds(pair: Pair) -> None:
    ear(pair.b)
    voice(pair.a)
    args = ("doctor", TARGET, "-i", "b0", "--probe", "-T", "500ms", "-j")
    outcome = pair.b.mcastctl(*args, privileged=False, timeout=30)
    findings = json.loads(outcome.stdout)
    assert answer(findings) == "ok"
    assert "a socket of ours, joined for a moment, heard them" in evidence(findings, "ok")
    assert "as root" in evidence(findings, "doctor.probe")


def test_it_is_announced_and_in_time(pair: Pair) -> None:
    ear(pair.b)
    start = time.monotonic()
    outcome = pair.b.mcastctl("doctor", TARGET, "--probe", "-T", "500ms")
    assert time.monotonic() - start < 0.5 + 2 + 20  # a loaded machine
    said = outcome.stderr.splitlines()
    assert all(line.startswith("probe: ") for line in said)
    assert said[0].startswith("probe: by b0: no -i names another interface")
    assert any(f"a join of {TEST_GROUP} on b0" in line and "TTL 1" in line for line in said)
    assert any("made by hand" in line for line in said)
    assert pair.b.mcastctl("doctor", TARGET, "--probe", "-T", "0", "-q").stderr == ""


# Prints how many programs look at what leaves by lo, without CAP_BPF why it cannot be told.
QUERY = """
from mcastctl.host import bpf
try:
    print(len(bpf.attached(1, 47)))  # BPF_TCX_EGRESS
except bpf.Refused as refused:
    print(refused)
"""


def programs() -> set[int]:
    """The ids of every program of the kernel that is called mcastctl; none unless root asks."""
    found: set[int] = set()
    number = 0
    while ROOT:
        try:
            attribute = struct.pack("=III", number, 0, 0)
            number = _next(attribute)
        except OSError:
            break
        if _named(number):
            found.add(number)
    return found


def _next(attribute: bytes) -> int:
    import ctypes

    given = ctypes.create_string_buffer(attribute, 128)
    syscall.call("bpf", 11, given, 128)  # BPF_PROG_GET_NEXT_ID
    return int(struct.unpack_from("=I", given.raw, 4)[0])


def _named(number: int) -> bool:
    try:
        return bpf.name(number) == "mcastctl"
    except bpf.Refused:
        return False  # it is gone


def left(host: Host) -> dict[str, object]:
    """What a probe could leave behind in a host."""
    tracing = Path("/sys/kernel/tracing/instances")
    return {
        "tables": host.sh("nft list tables").stdout,
        "capturing": len(host.proc("packet").splitlines()),
        "joined": re.findall(r"\b[0-9A-F]{8}\b", host.proc("igmp")),
        "netlink": [line.split()[1] for line in host.proc("netlink").splitlines()].count("12"),
        "udp": len(host.proc("udp").splitlines()),
        "instances": [one.name for one in tracing.glob("*")] if ROOT else [],
    }


def test_a_signal_leaves_nothing(pair: Pair) -> None:
    need("nft")
    ear(pair.b)
    pair.b.sh("nft add table inet theirs")
    before, place = left(pair.b), Surgery(pair.b)
    args = ("doctor", f"{pair.a.addr4()}@{TARGET}", "-i", "b0", "--probe", "-T", "100ms", "-j")
    during: set[int] = set()
    try:
        for number, moment in MOMENTS:
            running = place.start_mcastctl(*args)
            running.wait_stderr("^probe: ", count=moment if ROOT else min(moment, 4), timeout=30)
            during |= programs()
            running.signal(number)
            outcome = running.finish()
            assert outcome.returncode == -number
            if number != signal.SIGKILL:
                check_schema(json.loads(outcome.stdout))
            with pytest.raises(ProcessLookupError):
                os.killpg(running.pid, 0)
        again = place.mcastctl(*args, timeout=30)
        assert answer(json.loads(again.stdout)) == "net.not_on_wire"
        deadline = time.monotonic() + 40
        while left(pair.b) != before or during & programs():  # the kernel frees some things later
            assert time.monotonic() < deadline, (left(pair.b), before, during)
            time.sleep(0.05)
        told = place.run([sys.executable, "-c", QUERY]).stdout
        assert told == "0\n" or not ROOT
    finally:
        place.stop()
    assert bool(during) == ROOT


MOMENTS = [
    (signal.SIGINT, 1),
    (signal.SIGKILL, 2),
    (signal.SIGTERM, 3),
    (signal.SIGKILL, 5),
]
"""A signal, and the test before which it comes: each is announced."""


@by_root
def test_what_is_put_in_never_leaves_by_another_interface(pair: Pair) -> None:
    """Nor is anything sent by a port, whose frames leave past the bridge it is in."""
    need("nft")
    pair.b.ip("link add br0 type bridge", "link set br0 up", "link set b0 master br0")
    cable = wire.watch(pair.a)
    for role in ("receiver", "sender"):
        findings = within(pair.b, TARGET, "-i", "b0", "--role", role, "--probe")
        assert "b0 is a port of br0" in evidence(findings, "doctor.probe")
    assert of_probe(wire.settled(cable, pair.b), TEST_GROUP) == []
    pair.b.ip("link set b0 nomaster", "link add b9 type veth peer name b8")
    pair.b.ip("link set b9 up", "link set b8 up")
    pair.b.sh(
        "nft add table netdev t; nft add chain netdev t c "
        "'{ type filter hook ingress device b0 priority 0; }'; nft add rule netdev t c fwd to b8"
    )
    ear(pair.b)
    other = wire.watch(pair.b, "b9")
    findings = whole(pair.b, f"{pair.a.addr4()}@{TARGET}", "-i", "b0", "--probe")
    told = evidence(findings, "doctor.probe")
    assert "nothing is injected, it could leave this host: nft rule netdev t c: fwd" in told
    assert of_probe(wire.settled(other, pair.b, "b8"), GROUP) == []


def test_a_source_that_nobody_joined_is_taken_back(pair: Pair) -> None:
    ear(pair.b, joins=[("232.1.1.1", "b0", "")])
    cable = wire.watch(pair.a)
    findings = within(pair.b, f"10.9.9.9@232.1.1.1:{PORT}", "-i", "b0", "--probe")
    assert "takes it back (BLOCK_OLD_SOURCES)" in evidence(findings, "doctor.probe")
    source = wire.packed("10.9.9.9")
    records = [one.payload[8] for one in wire.settled(cable, pair.b) if source in one.payload]
    assert records == [1, 6]  # MODE_IS_INCLUDE, BLOCK_OLD_SOURCES

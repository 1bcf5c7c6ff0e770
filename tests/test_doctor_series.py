"""Two faults in one world: the first on the path is the answer, the next is mentioned."""

from __future__ import annotations

import pytest
from conftest import Pair
from faults import GROUP, PORT, REUSE, doctor, ear, voice
from place import BY_ROOT, ROOT
from world import World, need

from mcastctl.model.records import Finding

FAR = "10.77.0.7"
DROPS = "nft add table inet t; nft add chain inet t c '{{ type filter hook {} priority 0; }}';"
DROPS += " nft add rule inet t c udp dport 5000 counter drop"


def told(pair: Pair, source: str = "") -> list[Finding]:
    """What the doctor says at the receiving host, but for plain facts and missing rights."""
    target = f"{source or pair.a.addr4()}@{GROUP}:{PORT}"
    found = [
        Finding(**{key: value for key, value in one.items() if key != "type"})
        for one in doctor(pair.b, target, "-i", "b0")
    ]
    return [one for one in found if one.severity != "info" and one.id != "doctor.unprivileged"]


def series(found: list[Finding]) -> list[str]:
    first, *later = found
    assert first.severity == "error"
    assert all(one.severity == "warning" and one.hint for one in later)
    return [one.id for one in found]


def test_reverse_path_then_firewall(pair: Pair) -> None:
    need("nft")
    pair.a.ip(f"addr add {FAR}/32 dev a0")
    pair.b.ip("link add b9 type veth peer name b8", "link set b9 up", "link set b8 up")
    pair.b.ip("route add 10.77.0.0/16 dev b9")
    pair.b.sysctl("net/ipv4/conf/b0/rp_filter", 1)
    pair.b.sh(DROPS.format("input"))
    ear(pair.b)
    voice(pair.a, source=FAR)
    found = told(pair, FAR)
    assert series(found) == ["host.rp_filter", "host.firewall_input"]
    assert "handle" in found[1].evidence[0]


def test_excluded_source_then_another_port(pair: Pair) -> None:
    ear(pair.b, port=5001, joins=[(GROUP, "b0", f"!{pair.a.addr4()}")])
    voice(pair.a)
    assert series(told(pair)) == ["rx.source_filter", "rx.bound_wrong_port"]


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
def test_firewall_then_a_socket_that_would_not_take_it(pair: Pair) -> None:
    need("nft")
    pair.b.sh(DROPS.format("prerouting"))
    ear(pair.b, bind=pair.b.addr4())
    voice(pair.a)
    assert series(told(pair)) == ["host.firewall_prerouting", "rx.bound_wrong_addr"]


def test_not_joined_behind_a_switch_that_floods_nothing(world: World) -> None:
    a, b = world.host("a"), world.host("b")
    world.bridge("sw", a, b)
    world.anchor.sh("bridge link set dev sw-b0 mcast_flood off")  # as one that snoops, at once
    b.ip("route add default dev b0")
    ear(b, joins=[], options=[REUSE])
    voice(a)
    assert series(told(Pair(a, b))) == ["rx.not_joined", "net.not_on_wire"]

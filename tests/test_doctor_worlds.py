"""The doctor in worlds with one fault each: it names the cause, and nothing where all is well."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from conftest import Pair
from faults import GROUP, GROUP6, PORT, REUSE, answer, doctor, ear, voice
from place import BY_ROOT, ROOT
from world import Host, World, need

OTHER, SSM, LL6 = "239.1.1.2", "232.1.1.1", "ff12::1:1"
FAR = "10.77.0.7"
NFT = "nft add table inet t; nft add chain inet t c '{{ type filter hook {} priority 0; }}'; "
NETDEV = "nft add table netdev t; nft add chain netdev t c"
NETDEV += " '{{ type filter hook {} device {} priority 0; }}'; "
DROP = "nft add rule {} t c udp dport 5000 counter drop"


class Scene(NamedTuple):
    """A sending and a receiving host on one cable, and the questions asked at either."""

    a: Host
    b: Host

    def at_b(self, group: str = GROUP, source: str = "", **more: str) -> str:
        """The answer at the receiving host."""
        return self.ask(self.b, group, source or self.source(group), "receiver", **more)

    def at_a(self, group: str = GROUP, source: str = "", **more: str) -> str:
        """The answer at the sending host."""
        return self.ask(self.a, group, source or self.source(group), "sender", **more)

    def source(self, group: str) -> str:
        return self.a.addr6() if ":" in group else self.a.addr4()

    @staticmethod
    def ask(host: Host, group: str, source: str, role: str, iface: str = "") -> str:
        target = f"[{group}]" if ":" in group else group
        where = ("-i", iface or host.ports[0], "--role", role)
        found = doctor(host, f"{source}@{target}:{PORT}", *where)
        assert all(one["hint"] for one in found if one["severity"] == "error")
        return answer(found)


def plain(scene: Scene) -> None:
    ear(scene.b)
    voice(scene.a)


def six(scene: Scene) -> None:
    ear(scene.b, version=6)
    voice(scene.a, group=GROUP6)


def healthy(scene: Scene) -> str:
    plain(scene)
    return scene.at_b()


def healthy_ssm(scene: Scene) -> str:
    ear(scene.b, joins=[(SSM, "b0", scene.a.addr4())])
    voice(scene.a, group=SSM)
    return scene.at_b(SSM)


def healthy_six(scene: Scene) -> str:
    six(scene)
    return scene.at_b(GROUP6)


def healthy_strict(scene: Scene) -> str:
    scene.b.sysctl("net/ipv4/conf/b0/rp_filter", 1)
    plain(scene)
    return scene.at_b()


def healthy_other_rules(scene: Scene) -> str:
    scene.b.sh(NFT.format("input") + "nft add rule inet t c udp dport 6000 counter drop")
    plain(scene)
    return scene.at_b()


def healthy_no_flag(scene: Scene) -> str:
    scene.b.ip("link set b0 multicast off")
    plain(scene)
    return scene.at_b()


def healthy_no_address(scene: Scene) -> str:
    source = scene.a.addr4()
    scene.b.ip("addr flush dev b0 scope global")
    plain(scene)
    return scene.at_b(source=source)


def healthy_other_drops(scene: Scene) -> str:
    plain(scene)
    ear(scene.b, port=5999, joins=[(OTHER, "b0", "")], options=[REUSE, ((1, 8), 2304)], reads=0)
    voice(scene.a, group=OTHER, port=5999, size=400)
    return scene.at_b()


def healthy_large(scene: Scene) -> str:
    ear(scene.b)
    voice(scene.a, size=4000)
    return scene.at_b()


def healthy_sender(scene: Scene) -> str:
    voice(scene.a, source=scene.a.addr4())
    return scene.at_a()


def healthy_ttl_zero(scene: Scene) -> str:
    voice(scene.a, ttl=0)
    return scene.at_a()


def healthy_same_host(scene: Scene) -> str:
    ear(scene.a)
    voice(scene.a)
    return scene.ask(scene.a, GROUP, scene.a.addr4(), "receiver")


HEALTHY: list[Callable[[Scene], str]] = [
    healthy,
    healthy_ssm,
    healthy_six,
    healthy_strict,
    healthy_other_rules,
    healthy_no_flag,
    healthy_no_address,
    healthy_other_drops,
    healthy_large,
    healthy_sender,
    healthy_ttl_zero,
    healthy_same_host,
]


def hears(**more: object) -> Callable[[Scene], str]:
    """A receiver of its own kind, an ordinary sender."""

    def run(scene: Scene) -> str:
        scene.b.ip("route add default dev b0")
        ear(scene.b, **more)
        voice(scene.a)
        return scene.at_b()

    return run


def says(**more: object) -> Callable[[Scene], str]:
    """An ordinary receiver, a sender of its own kind."""

    def run(scene: Scene) -> str:
        ear(scene.b)
        voice(scene.a, **({"source": scene.a.addr4()} | more if "raw" in more else more))
        return scene.at_b()

    return run


def says6(**more: object) -> Callable[[Scene], str]:
    def run(scene: Scene) -> str:
        ear(scene.b, version=6)
        voice(scene.a, group=GROUP6, **({"source": scene.a.addr6()} | more))
        return scene.at_b(GROUP6)

    return run


def receiving(script: str) -> Callable[[Scene], str]:
    """Something done to the receiving host before all is started."""

    def run(scene: Scene) -> str:
        scene.b.sh(script)
        plain(scene)
        return scene.at_b()

    return run


def sending(script: str, **more: object) -> Callable[[Scene], str]:
    """Something done to the sending host before all is started."""

    def run(scene: Scene) -> str:
        scene.a.sh(script)
        voice(scene.a, **more)
        return scene.at_a()

    return run


def wrong_interface(scene: Scene) -> str:
    scene.b.ip("link add b9 type veth peer name b8", "link set b9 up", "link set b8 up")
    ear(scene.b, joins=[(GROUP, "b9", "")])
    voice(scene.a)
    return scene.at_b()


def unicast_bound(scene: Scene) -> str:
    ear(scene.b, bind=scene.b.addr4())
    voice(scene.a)
    return scene.at_b()


def unicast_bound6(scene: Scene) -> str:
    ear(scene.b, version=6, bind=scene.b.addr6())
    voice(scene.a, group=GROUP6)
    return scene.at_b(GROUP6)


def device_bound(scene: Scene) -> str:
    ear(scene.b, device="lo")
    voice(scene.a)
    return scene.at_b()


def other_source(scene: Scene) -> str:
    ear(scene.b, joins=[(SSM, "b0", FAR)])
    voice(scene.a, group=SSM)
    return scene.at_b(SSM)


def blocked_source(scene: Scene) -> str:
    ear(scene.b, joins=[(GROUP, "b0", f"!{scene.a.addr4()}")])
    voice(scene.a)
    return scene.at_b()


def port_taken(scene: Scene) -> str:
    ear(scene.b, options=[])
    ear(scene.b)
    voice(scene.a)
    return scene.at_b()


def unrouted(scene: Scene) -> str:
    ear(scene.b, joins=[(GROUP, "", "")])
    voice(scene.a)
    return scene.at_b()


def crowded(scene: Scene) -> str:
    joins = [(f"239.2.0.{number}", "b0", "") for number in range(1, 21)]
    ear(scene.b, joins=[*joins, (GROUP, "b0", "")])
    voice(scene.a)
    return scene.at_b()


def many_sources(scene: Scene) -> str:
    sources = [f"10.8.0.{number}" for number in range(1, 11)]
    ear(scene.b, joins=[(SSM, "b0", one) for one in [*sources, scene.a.addr4()]])
    voice(scene.a, group=SSM)
    return scene.at_b(SSM)


def no_zone(scene: Scene) -> str:
    ear(scene.b, version=6, bind=LL6, joins=[(LL6, "b0", "")])
    voice(scene.a, group=LL6)
    return scene.at_b(LL6)


def reverse_path(scene: Scene) -> str:
    scene.a.ip(f"addr add {FAR}/32 dev a0")
    scene.b.ip("link add b9 type veth peer name b8", "link set b9 up", "link set b8 up")
    scene.b.ip("route add 10.77.0.0/16 dev b9")
    scene.b.sysctl("net/ipv4/conf/b0/rp_filter", 1)
    ear(scene.b)
    voice(scene.a, source=FAR)
    return scene.at_b(source=FAR)


def addressless(scene: Scene) -> str:
    source = scene.a.addr4()
    scene.b.ip("addr flush dev b0 scope global")
    scene.b.sysctl("net/ipv4/conf/all/rp_filter", 1)
    plain(scene)
    return scene.at_b(source=source)


def firewall6(scene: Scene) -> str:
    scene.b.sh(NFT.format("input") + DROP.format("inet"))
    six(scene)
    return scene.at_b(GROUP6)


def reports_kept_in(scene: Scene) -> str:
    scene.b.sh(NFT.format("output") + "nft add rule inet t c ip protocol igmp counter drop")
    ear(scene.b)
    return scene.at_b()


def old_version(scene: Scene) -> str:
    scene.b.sysctl("net/ipv4/conf/b0/force_igmp_version", 2)
    ear(scene.b, joins=[(SSM, "b0", scene.a.addr4())])
    return scene.at_b(SSM)


def own_address(scene: Scene) -> str:
    ear(scene.b)
    voice(scene.a, raw=True, source=scene.b.addr4())
    return scene.at_b(source=scene.b.addr4())


def fragments_lost(scene: Scene) -> str:
    lost = "ip frag-off '&' 0x1fff != 0 counter drop"
    scene.a.sh(NETDEV.format("egress", "a0") + f"nft add rule netdev t c {lost}")
    ear(scene.b)
    voice(scene.a, size=4000, options=[((0, 10), 0)])
    return scene.at_b()


def without_ipv6(scene: Scene) -> str:
    ear(scene.b, version=6)
    source = scene.a.addr6()
    scene.b.sysctl("net/ipv6/conf/b0/disable_ipv6", 1)
    return scene.at_b(GROUP6, source)


def down(scene: Scene) -> str:
    plain(scene)
    scene.b.ip("link set b0 down")
    return scene.at_b()


def unplugged(scene: Scene) -> str:
    ear(scene.b)
    source = scene.a.addr4()
    scene.a.ip("link set a0 down")
    return scene.at_b(source=source)


def far_sender(scene: Scene) -> str:
    ear(scene.b, joins=[("224.0.0.200", "b0", "")])
    return scene.at_b("224.0.0.200", FAR)


def other_group(scene: Scene) -> str:
    ear(scene.b)
    voice(scene.a, group=OTHER)
    return scene.at_b()


def no_sender(scene: Scene) -> str:
    ear(scene.b)
    return scene.at_b()


def deaf_sibling(scene: Scene) -> str:
    ear(scene.b)
    ear(scene.b, joins=[], options=[REUSE, ((0, 49), 0)])
    voice(scene.a)
    return scene.at_b()


def crosstalk(scene: Scene) -> str:
    plain(scene)
    ear(scene.b, port=5777, joins=[(OTHER, "b0", "")])
    voice(scene.a, group=OTHER)
    return scene.at_b()


def routed_to_lo(scene: Scene) -> str:
    scene.a.ip("route add 239.0.0.0/8 dev lo")
    voice(scene.a, iface="")
    return scene.at_a()


def second_way_out(scene: Scene) -> None:
    scene.a.ip("link add a9 type veth peer name a8", "link set a9 up", "link set a8 up")
    scene.a.ip("addr add 10.88.0.1/24 dev a9", "route add 239.0.0.0/8 dev a9")


def wrong_way_out(scene: Scene) -> str:
    second_way_out(scene)
    voice(scene.a, iface="")
    return scene.at_a()


def loop_off(scene: Scene) -> str:
    ear(scene.a)
    voice(scene.a, options=[((0, 34), 0)])
    return scene.at_a()


def slow_reader(scene: Scene) -> str:
    """Its queue is full whenever one looks."""
    ear(scene.b, reads=0.02, options=[REUSE, ((1, 8), 2304)])
    voice(scene.a, interval_ms=2)
    return scene.at_b()


def loop_off_beside(scene: Scene) -> str:
    """Asked as the listener on the sending host, by IPv6."""
    ear(scene.a, version=6)
    voice(scene.a, group=GROUP6, options=[((41, 19), 0)])
    return scene.ask(scene.a, GROUP6, scene.a.addr6(), "receiver")


def translated(scene: Scene) -> str:
    scene.a.sh(
        "ip addr add 10.0.1.77/24 dev a0; nft add table ip n; nft add chain ip n c"
        " '{ type nat hook postrouting priority 100; }';"
        " nft add rule ip n c udp dport 5000 snat to 10.0.1.77"
    )
    voice(scene.a, source=scene.a.addr4())
    return scene.at_a()


def zero_ttl(scene: Scene) -> str:
    ear(scene.a, port=5999)
    voice(scene.a, ttl=0)
    return scene.at_a()


def too_big(scene: Scene) -> str:
    voice(scene.a, size=3000, options=[((0, 10), 2)])
    return scene.at_a()


def tentative(scene: Scene) -> str:
    for key in ("accept_dad", "dad_transmits"):
        scene.a.sysctl(f"net/ipv6/conf/a0/{key}", 100 if "transmits" in key else 1)
    scene.a.ip("addr add fd99:5::5/64 dev a0")
    return scene.at_a(GROUP6, "fd99:5::5")


ANYWHERE: list[tuple[str, Callable[[Scene], str]]] = [
    ("rx.not_joined", hears(joins=[])),
    ("rx.joined_wrong_iface", wrong_interface),
    ("rx.bound_wrong_addr", unicast_bound),
    ("rx.bound_wrong_addr", unicast_bound6),
    ("rx.bound_wrong_port", hears(port=5001)),
    ("rx.bound_wrong_port", says(port=5001)),
    ("rx.connected_filter", hears(connect=GROUP)),
    ("rx.bound_device", device_bound),
    ("rx.source_filter", other_source),
    ("rx.source_filter", blocked_source),
    ("rx.port_in_use", port_taken),
    ("rx.membership_limit", crowded),
    ("rx.msf_limit", many_sources),
    ("rx.join_no_interface", unrouted),
    ("rx.missing_scope", no_zone),
    (
        "rx.family_mismatch",
        hears(version=6, bind="::", joins=[(GROUP, "b0", "")], options=[REUSE, ((41, 26), 1)]),
    ),
    ("rx.not_joined", deaf_sibling),
    ("rx.crosstalk", crosstalk),
    ("host.rp_filter", reverse_path),
    ("host.no_ipv4_address", addressless),
    ("host.firewall_input", receiving(NFT.format("input") + DROP.format("inet"))),
    ("host.firewall_input", firewall6),
    ("host.firewall_igmp_out", reports_kept_in),
    ("host.igmp_version", old_version),
    ("host.udp_checksum", says(raw=True, damage="udp")),
    ("host.ip_checksum", says(raw=True, damage="ip")),
    ("host.source_is_local", own_address),
    ("host.wrong_dst_mac", says(raw=True, damage="mac")),
    ("host.fragment_incomplete", fragments_lost),
    ("host.ipv6_disabled", without_ipv6),
    ("if.down", down),
    ("if.no_carrier", unplugged),
    ("group.link_local_scope", far_sender),
    ("tx.wrong_group", other_group),
    ("net.not_on_wire", no_sender),
    ("tx.no_route", sending("true", iface="")),
    ("tx.route_prohibited", sending("ip route add prohibit 239.0.0.0/8", iface="")),
    ("tx.wrong_egress", wrong_way_out),
    ("tx.route_lo", routed_to_lo),
    ("tx.loop_off", loop_off),
    ("tx.loop_off", loop_off_beside),
    ("tx.source_nat", translated),
    ("tx.message_too_big", too_big),
    ("tx.ipv6_tentative", tentative),
    ("tx.interface_down", sending("ip link set a0 down", iface="")),
]
"""Causes that root of the hosts' own user namespace can tell as well."""

ROOT_ONLY: list[tuple[str, Callable[[Scene], str]]] = [
    ("rx.socket_filter", hears(refuse=True)),
    ("rx.app_not_reading", hears(reads=0, options=[REUSE, ((1, 8), 2304)])),
    ("rx.rcvbuf_overflow", slow_reader),
    ("host.firewall_prerouting", receiving(NFT.format("prerouting") + DROP.format("inet"))),
    ("host.firewall_ingress", receiving(NETDEV.format("ingress", "b0") + DROP.format("netdev"))),
    ("host.xfrm_policy", receiving("ip xfrm policy add dir in dst 239.1.1.1/32 action block")),
    ("host.martian_source", says6(raw=True, source="::1")),
    ("tx.ttl_zero", zero_ttl),
    ("tx.firewall_output", sending(NFT.format("output") + DROP.format("inet"))),
    ("tx.firewall_egress", sending(NETDEV.format("egress", "a0") + DROP.format("netdev"))),
    (
        "tx.qdisc_drop",
        sending("tc qdisc add dev a0 root tbf rate 64kbit burst 1600 limit 3000", size=1000),
    ),
]


@pytest.fixture
def scene(pair: Pair) -> Scene:
    need("nft", "tc")
    return Scene(pair.a, pair.b)


@pytest.mark.parametrize("run", HEALTHY, ids=lambda one: one.__name__)
def test_a_healthy_world(scene: Scene, run: Callable[[Scene], str]) -> None:
    assert run(scene) == "ok"


@pytest.mark.parametrize(("cause", "run"), ANYWHERE, ids=[one[0] for one in ANYWHERE])
def test_cause(scene: Scene, cause: str, run: Callable[[Scene], str]) -> None:
    assert run(scene) == cause


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
@pytest.mark.parametrize(("cause", "run"), ROOT_ONLY, ids=[one[0] for one in ROOT_ONLY])
def test_cause_by_drop_reason(scene: Scene, cause: str, run: Callable[[Scene], str]) -> None:
    assert run(scene) == cause


def policy6(scene: Scene) -> tuple[str, ...]:
    chain = NFT.format("input").replace("priority 0", "priority 0; policy drop")
    scene.b.sh(f"{chain} nft add rule inet t c ct state invalid drop")
    scene.b.sh("nft add rule inet t c icmpv6 type nd-neighbor-solicit accept")
    six(scene)
    return "host.firewall_input", "receiver", GROUP6, scene.a.addr6()


def addressless_all(scene: Scene) -> tuple[str, ...]:
    source = scene.a.addr4()
    addressless(scene)
    return "host.no_ipv4_address", "receiver", GROUP, source


def equal_route(scene: Scene) -> tuple[str, ...]:
    second_way_out(scene)
    scene.a.ip(f"route add {GROUP}/32 dev a9")
    voice(scene.a, iface="")
    return "tx.wrong_egress", "sender", GROUP, scene.a.addr4()


@pytest.mark.parametrize(
    "run", [policy6, addressless_all, equal_route], ids=lambda one: one.__name__
)
def test_what_the_hint_says_mends_it(scene: Scene, run: Callable[[Scene], tuple[str, ...]]) -> None:
    cause, role, group, source = run(scene)
    host = scene.a if role == "sender" else scene.b
    target = f"{source}@[{group}]:{PORT}" if ":" in group else f"{source}@{group}:{PORT}"
    asked = (target, "-i", host.ports[0], "--role", role)
    found = doctor(host, *asked, watch="500ms")
    assert answer(found) == cause
    fix = re.search(r"(?:^|or: )((?:nft|sysctl|ip) [^;(]*)", found[0]["hint"])
    assert fix
    host.sh(fix[1])
    assert answer(doctor(host, *asked, watch="500ms")) == "ok"


def switched(world: World, *, snooping: bool) -> Scene:
    a, b = world.host("a"), world.host("b")
    world.bridge("sw", a, b, snooping=snooping, querier=snooping)
    return Scene(a, b)


def at_switch(world: World, scene: Scene) -> str:
    found = doctor(world.anchor, f"{scene.a.addr4()}@{GROUP}:{PORT}", "--role", "switch")
    return answer(found)


SWITCHES = {
    "ok": "true",
    "net.stp_blocked": "bridge link set dev sw-b0 state 0",
    "net.switch_flood_off": "bridge link set dev sw-b0 mcast_flood off",
    "net.port_isolated": "bridge link set dev sw-a0 isolated on;"
    " bridge link set dev sw-b0 isolated on",
}


@pytest.mark.parametrize(("cause", "script"), SWITCHES.items(), ids=SWITCHES)
def test_cause_at_a_switch(world: World, cause: str, script: str) -> None:
    scene = switched(world, snooping=False)
    world.anchor.sh(script)
    plain(scene)
    assert at_switch(world, scene) == cause


def test_an_ordinary_user_is_told_what_root_would_add(scene: Scene) -> None:
    plain(scene)
    target = f"{scene.a.addr4()}@{GROUP}:{PORT}"
    found = doctor(scene.b, target, "-i", "b0", privileged=False)
    assert answer(found) == "ok"
    assert "sudo" in found[-1]["hint"]


def test_an_ordinary_user_is_told_of_frames_for_others(scene: Scene) -> None:
    ear(scene.b, version=6)
    voice(scene.a, group=GROUP6, raw=True, damage="mac", source=scene.a.addr6(), interval_ms=5)
    found = doctor(scene.b, f"[{GROUP6}]:{PORT}", "-i", "b0", privileged=False)
    assert answer(found) == "host.wrong_dst_mac"


def test_a_router_without_a_daemon(scene: Scene) -> None:
    voice(scene.a)
    assert scene.ask(scene.b, GROUP, scene.a.addr4(), "router") == "router.mc_forwarding_off"


def test_a_port_of_the_bridge_that_has_joined(scene: Scene) -> None:
    scene.b.ip(
        *("link add br0 type bridge", "link set b0 master br0", "link set br0 up"),
        *("addr flush dev b0", "addr add 10.0.1.3/24 dev br0", "route add default dev br0"),
    )
    ear(scene.b, joins=[(GROUP, "br0", "")])
    voice(scene.a)
    for privileged in (True, False):
        target = f"{scene.a.addr4()}@{GROUP}:{PORT}"
        found = doctor(scene.b, target, "-i", "b0", privileged=privileged)
        assert answer(found) == "ok", found

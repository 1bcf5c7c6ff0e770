"""Every cause of the doctor's catalogue by facts written down as data, and what is no cause."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from mcastctl.doctor import rules
from mcastctl.doctor.facts import Answers, Facts, Knobs, Question
from mcastctl.doctor.probe.results import Injected, Probed
from mcastctl.doctor.report import placed, raised
from mcastctl.doctor.rules import delivery
from mcastctl.doctor.rules.verdict import joining
from mcastctl.doctor.wire import Control, Flow
from mcastctl.host.applications import Application, Options
from mcastctl.host.borrowed import Filter
from mcastctl.host.drops import Drop
from mcastctl.host.firewall import Rule
from mcastctl.host.linkdetails import LinkDetails
from mcastctl.host.sockets import BoundSocket
from mcastctl.host.trafficcontrol import Action
from mcastctl.host.trafficcontrol import Control as TrafficControl
from mcastctl.host.trafficcontrol import Filter as TrafficFilter
from mcastctl.model.forwarding import (
    Bridge,
    BridgePort,
    DatabaseEntry,
    ForwardingEntry,
    ForwardingInterface,
    Outgoing,
    Querier,
)
from mcastctl.model.link import Link, LinkAddress
from mcastctl.model.membership import bare
from mcastctl.model.route import Reverse, unanswered

ANY = "0.0.0.0"  # noqa: S104
G4, OTHER4, SSM4, LOCAL4 = "239.1.1.1", "239.1.1.2", "232.1.1.1", "224.0.0.200"
G6, LL6 = "ff15::1:1", "ff12::1:1"
S4, ME4, FAR4 = "10.9.1.10", "10.9.1.20", "10.77.0.7"
S6, ME6 = "fd99:1::10", "fd99:1::20"
PORT, OUT_PORT = 5000, 40000
UP = frozenset({"up", "multicast", "carrier"})


def link(index: int, name: str, *addresses: str, **more: Any) -> Link:
    own = tuple(LinkAddress(one, 64 if ":" in one else 24, ()) for one in addresses)
    return Link(index, name, "veth", 1, 1500, None, UP, own)._replace(**more)


LO = Link(1, "lo", None, 772, 65536, None, frozenset({"up", "loopback", "carrier"}), ())
ETH0 = link(2, "eth0", ME4, ME6)
ETH1 = link(3, "eth1", "10.9.3.20")
LINKS = {1: LO, 2: ETH0, 3: ETH1}


def app(
    port: int = PORT,
    local: str = ANY,
    joined: tuple[Filter, ...] | None = None,
    **more: Any,
) -> Application:
    """A socket; `joined` as its filters, by default the group on eth0."""
    options = Options(
        (Filter(2, G4, "exclude", ()),) if joined is None else joined,
        *(True, False, 212992, 0, 1, True, 0, 1, True, None),
    )
    kind = "udp6" if ":" in local else "udp"
    nobody = "::" if ":" in local else "0.0.0.0"  # noqa: S104
    bound = BoundSocket(77, kind, local, port, nobody, 0, 0, 0, 0, option_bytes=48)
    fields = {key: more.pop(key) for key in list(more) if key in BoundSocket._fields}
    options = options._replace(**more)
    taken = 48 * len(options.filters)
    bound = bound._replace(**({"option_bytes": taken} | fields))
    return Application(bound, ((4711, "player", 3),), options)


OTHER = app()._replace(holders=((4712, "other", 3),))
"""A receiver of another process."""


def flow(count: int = 50, **more: Any) -> dict[Flow, int]:
    one = Flow("eth0", "in", "", S4, G4, OUT_PORT, PORT, 8, "")
    return {one._replace(**more): count}


def drop(reason: str, function: str = "f", count: int = 50, **more: Any) -> dict[Drop, int]:
    return {Drop(reason, function, 2, False)._replace(**more): count}


def member(group: str = G4, index: int = 2, **more: Any) -> tuple[Any, ...]:
    kind = "ipv6" if ":" in group else "ipv4"
    one = bare(LINKS[index].name, index, group, kind)
    return (one._replace(**({"users": 1, "mode_certain": True} | more)),)


def counters(**moved: int) -> dict[str, Any]:
    """Counters by name (with _ for the dot) that went from 100 by so much."""
    names = {name.replace("_", ".", 1): by for name, by in moved.items()}
    return {"before": dict.fromkeys(names, 100), "after": {n: 100 + by for n, by in names.items()}}


def rule(hook: str, family: str = "inet", text: str = "udp dport 5000 drop") -> dict[str, Any]:
    matches = ({"match": {"op": "==", "left": _PORT, "right": PORT}},) if "dport" in text else ()
    one = Rule(family, "t", "c", 4, (hook,), (), "drop", matches, 50, text)
    return {"dropping": (one,), "moved_rules": {one.key: 50}}


def two_rules(*hooks: str) -> dict[str, Any]:
    """A rule in each of several hooks; the first one counts."""
    made = [rule(hook)["dropping"][0]._replace(chain=hook) for hook in hooks]
    return {"dropping": tuple(made), "moved_rules": {made[0].key: 50}}


def protocol_rule(hook: str, protocol: str) -> dict[str, Any]:
    """A rule that drops all of a protocol, and has not done so yet."""
    looks_at = {"payload": {"protocol": "ip", "field": "protocol"}}
    matches = ({"match": {"op": "==", "left": looks_at, "right": protocol}},)
    text = f"ip protocol {protocol} drop"
    return {"dropping": (Rule("inet", "t", "c", 4, (hook,), (), "drop", matches, 0, text),)}


_PORT = {"payload": {"protocol": "udp", "field": "dport"}}


def query(count: int = 2, **more: Any) -> dict[Control, int]:
    return {Control("eth0", "in", "query", 3, "10.9.1.1", "")._replace(**more): count}


def receiver(group: str = G4, **more: Any) -> Facts:
    """A healthy receiving host: joined, bound, fifty datagrams delivered."""
    six = ":" in group
    source = S6 if six else S4
    facts = Facts(
        Question(group, PORT, (source,), "eth0", 2),
        links=LINKS,
        details=dict.fromkeys(LINKS, LinkDetails(False, None, 0)),
        knobs=dict.fromkeys(LINKS, Knobs(0, False, 3, 0)),
        memberships=member(group),
        applications=(
            app(
                local="::" if six else ANY,
                joined=(Filter(2, group, "exclude", ()),),
            ),
        ),
        flows=flow(src=source, dst=group),
        control=query(),
        drops_method="bpf",
        route=unanswered(group, None, None)._replace(
            error=None, iface="eth0", ifindex=2, route_type="multicast"
        ),
        reverse=Reverse(source, "eth0", 2, None, local=False),
        limits={"ipv4/igmp_max_memberships": 20, "ipv4/igmp_max_msf": 10},
        watched_s=5.0,
    )
    return _with(facts, more)


def _with(facts: Facts, more: dict[str, Any]) -> Facts:
    asked = {key: more.pop(key) for key in list(more) if key in Question._fields}
    return facts._replace(question=facts.question._replace(**asked), **more)


def silent(group: str = G4, **more: Any) -> Facts:
    """A receiving host at which nothing arrives."""
    return receiver(group, **({"flows": Counter()} | more))


def sender(group: str = G4, **more: Any) -> Facts:
    """A healthy sending host."""
    six = ":" in group
    mine = ME6 if six else ME4
    out = flow(direction="out", src=mine, dst=group)
    sock = app(port=OUT_PORT, local="::" if six else "0.0.0.0", joined=())  # noqa: S104
    base: dict[str, Any] = {
        "role": "sender",
        "sources": (mine,),
        "flows": out,
        "memberships": (),
        "applications": (sock,),
    }
    return receiver(group, **(base | more))


VIF = ForwardingInterface("ipv4", "default", 0, "eth0", 2, "physical", 0, 0, 0, 0)
ENTRY = ForwardingEntry(
    "ipv4", "default", S4, G4, "eth0", 2, (Outgoing("eth1", 3, 1),), "resolved", 50, 5000, 0, 0.1
)


def router(**more: Any) -> Facts:
    """A healthy multicast router."""
    base: dict[str, Any] = {
        "role": "router",
        "memberships": (),
        "applications": (),
        "forwarding": True,
        "forwarding_interfaces": (VIF, VIF._replace(vif=1, iface="eth1", ifindex=3)),
        "entries": (ENTRY,),
        "entries_before": (ENTRY,),
    }
    return receiver(**(base | more))


def port(name: str, **more: Any) -> BridgePort:
    plain = BridgePort(name, 9, "forwarding", True, "auto", False, False, False)
    return plain._replace(**more)


BRIDGE = Bridge(
    *("br0", 9, True, True, (Querier("ipv4", "10.9.1.1", None, None),), 3, 2, "auto"),
    *(125.0, 260.0, 255.0, (port("p1"), port("p2")), ()),
)
MDB = DatabaseEntry("br0", 9, "p2", 11, G4, None, None, "temp", (), None, (), 200.0)


def switch(**more: Any) -> Facts:
    """A healthy snooping bridge: the group comes by p1 and leaves by p2."""
    flows = flow(iface="p1") | flow(iface="p2", direction="out")
    base: dict[str, Any] = {
        "role": "switch",
        "iface": "",
        "ifindex": 0,
        "memberships": (),
        "applications": (),
        "flows": flows,
        "bridges": (BRIDGE,),
        "database": (MDB,),
    }
    return receiver(**(base | more))


def bridge(*ports: BridgePort, **more: Any) -> tuple[Bridge, ...]:
    return (BRIDGE._replace(ports=ports or BRIDGE.ports, **more),)


def _full(kept: int) -> dict[str, Any]:
    """A receive queue that was full whenever it was looked at."""
    queue = {"drops_before": {77: 10}, "queues": {77: (4608, 4608, 4608)}, "kept": {77: kept}}
    return queue | {"applications": (app(drops=40),), "drops": drop("SOCKET_RCVBUFF", count=30)}


UDP: dict[str, Any] = {"reason": "NOT_SPECIFIED", "function": "__udp4_lib_rcv"}
IN_ONLY = flow(iface="p1")
UNBOUND = {"applications": (), "memberships": (), "failing": 8}
TENTATIVE = (LinkAddress("fd99:5::5", 64, ("tentative",)),)
FRAGMENTS = flow(fragment="first") | {}
OLD = dict.fromkeys(LINKS, Knobs(0, False, 2, 0))

CAUSES: list[tuple[str, Facts]] = [
    ("rx.not_joined", silent(memberships=(), applications=(app(joined=()),))),
    ("rx.joined_wrong_iface", silent(memberships=member(index=3))),
    (
        "rx.joined_wrong_iface",
        receiver(memberships=member(index=3), drops=drop("NOT_SPECIFIED", "ip_rcv_finish_core")),
    ),
    ("rx.joined_wrong_iface", receiver(flows=flow(iface="eth1"))),
    ("rx.bound_wrong_addr", receiver(applications=(app(local=ME4),), drops=drop(**UDP))),
    ("rx.bound_wrong_addr", receiver(applications=(app(local=OTHER4),), drops=drop(**UDP))),
    ("rx.bound_wrong_port", receiver(applications=(app(port=5001),), drops=drop(**UDP))),
    ("rx.bound_wrong_port", silent(flows=flow(dport=5001))),
    ("rx.bound_wrong_port", receiver(pid=1)),
    ("rx.not_joined", receiver(memberships=(), applications=(app(joined=()),), failing=20)),
    (
        "rx.connected_filter",
        receiver(applications=(app(local=ME4, remote=G4, remote_port=PORT),), drops=drop(**UDP)),
    ),
    ("rx.bound_device", receiver(applications=(app(ifindex=3),), drops=drop(**UDP))),
    (
        "rx.source_filter",
        receiver(
            memberships=member(mode="include", sources=(FAR4,)),
            drops=drop("NOT_SPECIFIED", "ip_rcv_finish_core"),
        ),
    ),
    ("rx.source_filter", silent(memberships=member(mode="exclude", sources=(S4,)))),
    (
        "rx.source_filter",
        receiver(pid=4711, applications=(app(joined=(Filter(2, G4, "include", (FAR4,)),)), OTHER)),
    ),
    ("rx.ssm_asm_join", silent(SSM4)),
    (
        "rx.crosstalk",
        receiver(
            flows=flow() | flow(dst=OTHER4),
            memberships=(*member(), *member(OTHER4)),
        ),
    ),
    ("rx.port_in_use", receiver(applications=(app(reuse_address=False),), failing=8)),
    ("rx.port_in_use", receiver(applications=(app(reuse_address=False),), pid=1, failing=8)),
    (
        "rx.port_in_use",  # by a socket of both families, and nothing leads joins anywhere
        silent(
            memberships=(),
            applications=(app(local="::", joined=(), reuse_address=False),),
            route=unanswered(G4, None, None),
            failing=8,
        ),
    ),
    (
        "rx.membership_limit",
        silent(
            memberships=(),
            applications=(
                app(joined=tuple(Filter(2, f"239.2.0.{n}", "exclude", ()) for n in range(20))),
            ),
        ),
    ),
    (
        "rx.msf_limit",
        silent(
            memberships=member(mode="include", sources=tuple(f"10.8.0.{n}" for n in range(10))),
            applications=(
                app(joined=(Filter(2, G4, "include", tuple(f"10.8.0.{n}" for n in range(10))),)),
            ),
        ),
    ),
    (
        "rx.join_no_interface",
        silent(memberships=(), applications=(app(joined=()),), route=unanswered(G4, None, None)),
    ),
    ("rx.missing_scope", silent(LL6, **UNBOUND)),
    (
        "rx.family_mismatch",
        receiver(applications=(app(local="::", v6only=True),), drops=drop(**UDP)),
    ),
    (
        "rx.rcvbuf_overflow",
        receiver(
            applications=(app(drops=30),),
            drops_before={77: 10},
            queues={77: (0, 4000, 1200)},
            drops=drop("SOCKET_RCVBUFF", count=20),
        ),
    ),
    (
        "rx.app_not_reading",
        receiver(
            applications=(app(drops=30),),
            drops_before={77: 10},
            queues={77: (4608, 4608, 4608)},
            drops=drop("SOCKET_RCVBUFF", count=20),
        ),
    ),
    (
        "rx.rcvbuf_overflow",  # always full when looked at, and read all the same
        receiver(**_full(kept=20), **counters(Udp_InDatagrams=20)),
    ),
    ("rx.app_not_reading", receiver(**_full(kept=0), **counters(Udp_InDatagrams=50))),  # by others
    (
        "rx.app_not_reading",  # there is room left, and nobody reads
        receiver(queues={77: (0, 4608, 9216)}),
    ),
    (
        "host.firewall_prerouting",  # by NAT
        receiver(rewriting=(rule("prerouting")["dropping"][0]._replace(verdict="redirect"),)),
    ),
    (
        "host.firewall_ingress",
        receiver(diverting=(rule("ingress", "netdev")["dropping"][0]._replace(verdict="fwd"),)),
    ),
    ("rx.socket_filter", receiver(applications=(app(program=4),), drops=drop("SOCKET_FILTER"))),
    ("host.cgroup_bpf", receiver(drops=drop("SOCKET_FILTER"))),
    (
        "rx.duplicate",
        receiver(
            flows=flow() | flow(iface="eth1"),
            memberships=(*member(), *member(index=3)),
            copies={("eth0", "eth1"): 50},
        ),
    ),
    ("host.rp_filter", receiver(drops=drop("IP_RPFILTER"))),
    (
        "host.no_ipv4_address",
        receiver(drops=drop("IP_RPFILTER"), links=LINKS | {2: link(2, "eth0", ME6)}),
    ),
    ("host.firewall_input", receiver(drops=drop("NETFILTER_DROP"), **rule("input"))),
    ("host.firewall_prerouting", receiver(drops=drop("NETFILTER_DROP"), **rule("prerouting"))),
    (
        "host.firewall_ingress",
        receiver(drops=drop("NETFILTER_DROP"), **rule("ingress", family="netdev")),
    ),
    (
        "host.firewall_prerouting",
        receiver(drops=drop("NETFILTER_DROP"), **counters(Ip_InReceives=55, IpExt_InMcastPkts=2)),
    ),
    ("host.tc_drop", receiver(drops=drop("TC_INGRESS"))),
    ("host.xdp_drop", silent(drops=drop("NOT_SPECIFIED", "veth_xdp_rcv_skb"))),
    (
        "host.xdp_drop",
        silent(details={2: LinkDetails(True, None, 0)}, untapped=50),
    ),
    ("host.xfrm_policy", receiver(drops=drop("XFRM_POLICY"))),
    (
        "host.firewall_igmp_out",
        silent(drops=drop("NETFILTER_DROP", ifindex=0, control=True)),
    ),
    (
        "host.firewall_mld_out",
        silent(G6, drops=drop("NETFILTER_DROP", ifindex=0, control=True)),
    ),
    ("host.firewall_igmp_in", silent(drops=drop("NETFILTER_DROP", control=True))),
    (
        "host.firewall_mld_in",
        silent(G6, drops=drop("NETFILTER_DROP", control=True), control=query(src="fe80::1")),
    ),
    (
        "host.igmp_version",
        silent(SSM4, memberships=member(SSM4, mode="include", sources=(S4,)), knobs=OLD),
    ),
    ("host.udp_checksum", receiver(drops=drop("UDP_CSUM"))),
    ("host.ip_checksum", receiver(drops=drop("IP_CSUM"))),
    ("host.martian_source", receiver(drops=drop("IP_LOCALNET"), flows=flow(src="127.0.0.9"))),
    ("host.martian_source", receiver(G6, drops=drop("IP_INHDR"))),
    ("host.source_is_local", receiver(drops=drop("IP_LOCAL_SOURCE"), sources=(ME4,))),
    ("host.wrong_dst_mac", receiver(drops=drop("OTHERHOST"), flows=flow(cast="other"))),
    (
        "host.fragment_incomplete",
        receiver(flows=flow(fragment="first"), **counters(Ip_ReasmReqds=50)),
    ),
    ("host.ipv6_disabled", silent(G6, knobs={2: Knobs(0, True, 3, 0)})),
    ("if.down", silent(links=LINKS | {2: ETH0._replace(flags=frozenset({"multicast"}))})),
    ("if.no_carrier", silent(links=LINKS | {2: ETH0._replace(flags=frozenset({"up"}))})),
    ("group.link_local_scope", silent(LOCAL4, sources=(FAR4,))),
    ("group.link_local_scope", sender(LOCAL4)),
    ("group.link_local_scope", router(group=LOCAL4, entries=())),
    ("group.interface_local_scope", sender("ff11::1:1", flows=Counter())),
    ("tx.wrong_group", silent(flows=flow(dst=OTHER4))),
    ("net.macvlan_private", silent(details={2: LinkDetails(False, "private", 9)})),
    ("net.not_on_wire", silent()),
    (
        "net.not_on_wire",  # RTCP goes on where RTP rests
        silent(flows=flow(dport=PORT + 1), applications=(app(), app(port=PORT + 1))),
    ),
    (
        "container.bridge_nat",
        router(
            forwarding=False,
            forwarding_interfaces=(),
            bridges=bridge(port("veth1"), iface="docker0"),
            database=(MDB._replace(bridge="docker0", port="veth1"),),
        ),
    ),
    (
        "container.bridge_nat",
        receiver(
            forwarding=False,
            memberships=(),
            applications=(),
            bridges=bridge(port("veth1"), iface="docker0"),
            database=(MDB._replace(bridge="docker0", port="veth1"),),
            drops=drop("NOT_SPECIFIED", "ip_rcv_finish_core"),
        ),
    ),
    ("net.no_traffic", sender(flows=Counter())),
    ("tx.no_route", sender(flows=Counter(), route=unanswered(G4, None, None))),
    (
        "tx.route_prohibited",
        sender(
            flows=Counter(),
            route=unanswered(G4, None, None)._replace(route_type="prohibit", error="EACCES"),
        ),
    ),
    ("tx.wrong_egress", sender(flows=flow(direction="out", src=ME4, iface="eth1"))),
    ("tx.route_lo", sender(flows=flow(direction="out", src=ME4, iface="lo"))),
    ("tx.missing_scope", sender(LL6, flows=flow(direction="out", src=ME6, dst=LL6, iface="eth1"))),
    (
        "tx.ttl_zero",
        sender(
            flows=Counter(),
            applications=(app(port=OUT_PORT, joined=(), ttl=0),),
            drops=drop("NOT_SPECIFIED", "ip_mc_output", ifindex=0),
        ),
    ),
    (
        "tx.loop_off",
        sender(
            memberships=member(),
            applications=(app(port=OUT_PORT, joined=(), loop=False), OTHER),
        ),
    ),
    (
        "tx.loop_off",
        silent(
            sources=(),
            flows=flow(direction="out", src=ME4),
            applications=(app(port=OUT_PORT, joined=(), loop=False), OTHER),
        ),
    ),
    (
        "tx.firewall_output",
        sender(flows=Counter(), drops=drop("NETFILTER_DROP", ifindex=0), **rule("output")),
    ),
    (
        "tx.firewall_egress",
        sender(
            flows=Counter(),
            drops=drop("NETFILTER_DROP", ifindex=0),
            **rule("egress", family="netdev"),
            **counters(Udp_SndbufErrors=50),
        ),
    ),
    ("tx.qdisc_drop", sender(drops=drop("QDISC_DROP", ifindex=0))),
    ("tx.cgroup_bpf", sender(flows=Counter(), drops=drop("BPF_CGROUP_EGRESS", ifindex=0))),
    ("tx.source_not_local", sender(flows=Counter(), sources=(FAR4,))),
    (
        "tx.ipv6_tentative",
        sender(
            G6,
            flows=Counter(),
            sources=("fd99:5::5",),
            links=LINKS | {2: ETH0._replace(addresses=TENTATIVE)},
        ),
    ),
    ("tx.ipv6_disabled", sender(G6, flows=Counter(), knobs={2: Knobs(0, True, 3, 0)})),
    ("tx.interface_down", sender(links=LINKS | {2: ETH0._replace(flags=frozenset())})),
    (
        "tx.message_too_big",
        sender(flows=Counter(), applications=(app(port=OUT_PORT, joined=(), discover=2),)),
    ),
    (
        "tx.source_nat",
        sender(
            flows=flow(direction="out", src=FAR4),
            rewriting=(Rule("ip", "nat", "post", 3, ("postrouting",), (), "snat", (), 5, "snat"),),
        ),
    ),
    ("router.mc_forwarding_off", router(forwarding=False, forwarding_interfaces=())),
    ("router.no_mroute", router(entries=(ENTRY._replace(state="unresolved", oifs=()),))),
    ("router.no_mroute", router(entries=())),
    ("router.no_oif", router(entries=(ENTRY._replace(oifs=()),))),
    (
        "router.wrong_iif",
        router(entries=(ENTRY._replace(iface="eth1", ifindex=3, wrong_iif=50),)),
    ),
    ("tx.ttl_too_low", router(flows=flow(ttl=1))),
    (
        "router.ttl_threshold",
        router(entries=(ENTRY._replace(oifs=(Outgoing("eth1", 3, 16),)),)),
    ),
    ("router.firewall_forward", router(drops=drop("NETFILTER_DROP"), **rule("forward"))),
    ("router.rp_filter", router(drops=drop("IP_RPFILTER"))),
    ("router.mtu", router(**counters(Ip_FragFails=50))),
    (
        "net.no_querier",
        switch(
            flows=IN_ONLY,
            control=Counter(),
            database=(),
            drops=drop("NO_TX_TARGET"),
            bridges=bridge(query_interval_s=3600.0),
        ),
    ),
    (
        "net.switch_no_mdb",  # it asks, only not during the watch
        switch(flows=IN_ONLY, control=Counter(), database=(), drops=drop("NO_TX_TARGET")),
    ),
    (
        "net.switch_no_mdb",
        switch(
            flows=IN_ONLY,
            database=(),
            drops=drop("NO_TX_TARGET"),
            control=query(iface="p2", direction="out"),
        ),
    ),
    (
        "net.switch_flood_off",
        switch(
            flows=IN_ONLY,
            database=(),
            bridges=bridge(port("p1"), port("p2", flood=False), snooping=False),
        ),
    ),
    (
        "net.port_isolated",
        switch(flows=IN_ONLY, bridges=bridge(port("p1", isolated=True), port("p2", isolated=True))),
    ),
    (
        "net.stp_blocked",
        switch(flows=IN_ONLY, bridges=bridge(port("p1"), port("p2", state="listening"))),
    ),
    (
        "net.bridge_netfilter",
        switch(
            flows=IN_ONLY,
            bridge_netfilter=True,
            drops=drop("NETFILTER_DROP"),
            **rule("forward", family="ip"),
        ),
    ),
    (
        "net.switch_filter",
        switch(flows=IN_ONLY, drops=drop("NETFILTER_DROP"), **rule("forward", family="bridge")),
    ),
    (
        "host.ip_checksum",
        switch(flows=IN_ONLY, drops=drop("NOT_SPECIFIED", "br_handle_frame_finish")),
    ),
]

UNSEEN: dict[str, Any] = {"why_no_wire": "not root", "why_no_drops": "not root", "flows": Counter()}
"""An ordinary user sees neither the wire nor the kernel's reasons."""
REFUSED = {2: Answers(False, False, True)}


def hidden(**more: Any) -> Application:
    """A socket that only its user's number is known of."""
    return app(**more)._replace(holders=(), options=None)


def _undelivered(count: int) -> dict[str, Any]:
    """Multicast that came in by eth0 and that IPv6 gave to nobody."""
    return counters(
        **{"Ip6InReceives": count, "Ip6InMcastPkts": count, "dev_eth0.rx_packets": count}
    )


UNPRIVILEGED: list[tuple[str, dict[str, Any]]] = [
    ("rx.not_joined", {"memberships": (), "applications": (app(joined=()),)}),
    ("rx.joined_wrong_iface", {"memberships": member(index=3)}),
    ("rx.source_filter", {"memberships": member(mode="include", sources=(FAR4,))}),
    (
        "rx.source_filter",
        {"memberships": member(mode_certain=False), "answers": {2: Answers(False, True, True)}},
    ),
    ("host.rp_filter", {"answers": REFUSED}),
    (
        "host.martian_source",
        {"answers": REFUSED, "reverse": Reverse("127.0.0.9", None, None, None, local=False)},
    ),
    (
        "host.source_is_local",
        {"answers": REFUSED, "sources": (ME4,)}
        | counters(**{"Ip_InReceives": 50, "dev_eth0.rx_packets": 50}),
    ),
    ("net.not_on_wire", {"answers": REFUSED, "sources": (ME4,)}),  # a sender here that pauses
    (
        "tx.loop_off",
        {
            "answers": REFUSED,
            "sources": (ME4,),
            "applications": (app(port=OUT_PORT, joined=(), loop=False), OTHER),
        },
    ),
    ("host.udp_checksum", counters(Udp_InCsumErrors=50, Udp_InErrors=50)),
    ("host.ip_checksum", counters(IpExt_InCsumErrors=50)),
    ("host.xfrm_policy", counters(XfrmInPolBlock=50)),
    ("host.firewall_input", counters(IpExt_InMcastPkts=50, Ip_InDelivers=2)),
    (
        "host.firewall_prerouting",
        counters(**{"Ip_InReceives": 50, "dev_eth0.rx_packets": 50})
        | {"answers": {2: Answers(True, True, True)}},
    ),
    (
        "host.firewall_prerouting",  # what the reverse path filter would refuse never gets there
        counters(**{"Ip_InReceives": 50, "dev_eth0.rx_packets": 50}) | {"answers": REFUSED},
    ),
    (
        "host.firewall_input",  # and what no socket would take neither
        counters(IpExt_InMcastPkts=50, Ip_InDelivers=2) | {"applications": (app(local=ME4),)},
    ),
    ("host.fragment_incomplete", counters(Ip_ReasmReqds=50, Ip_ReasmFails=20)),
    ("host.fragment_incomplete", {"group": G6} | counters(Ip6ReasmReqds=50)),
    ("rx.bound_wrong_addr", {"applications": (app(local=ME4),)} | counters(Udp_IgnoredMulti=50)),
    (
        "host.firewall_prerouting",  # comes before what no socket would take
        {"group": G6, "applications": (app(local=ME6),)}
        | counters(**{"Ip6InReceives": 50, "dev_eth0.rx_packets": 50}),
    ),
    ("rx.bound_wrong_port", counters(Udp_IgnoredMulti=50)),
    ("rx.joined_wrong_iface", counters(**{"Ip_InReceives": 50, "dev_eth1.rx_packets": 50})),
    (
        "host.rp_filter",
        counters(**{"TcpExt_IPReversePathFilter": 50, "dev_eth0.rx_packets": 50})
        | {"reverse": None, "knobs": {2: Knobs(rp_filter=1)}},
    ),
    ("rx.bound_wrong_port", {"pid": 1}),
    (
        "rx.bound_wrong_addr",  # of another user's process, whose sockets cannot be told apart
        {"pid": 1, "hidden_uid": 0, "applications": (hidden(local=ME4),)}
        | counters(Udp_IgnoredMulti=50),
    ),
    (
        "rx.membership_limit",
        {"pid": 1, "hidden_uid": 0, "memberships": (), "applications": (hidden(option_bytes=960),)},
    ),
    ("host.firewall_input", {"group": G6} | _undelivered(50)),
    (
        "host.wrong_dst_mac",
        counters(**{"dev_eth0.rx_packets": 50, "dev_eth0.rx_otherhost_dropped": 50}),
    ),
    (
        "rx.port_in_use",
        {
            "memberships": (),
            "applications": (hidden(option_bytes=0),),
            "failing": 40,
            "route": unanswered(G4, None, None),
        },
    ),
    ("net.not_on_wire", {"group": G6} | _undelivered(10)),  # chatter of groups not joined here
    (
        "net.not_on_wire",  # the packet filter lets by what was sent to ourselves
        counters(**{"Ip_InReceives": 50, "dev_eth0.rx_packets": 50})
        | {"answers": {2: Answers(True, True, True)}}
        | {"probe": Probed("eth0", injected=Injected(ME4, False, "loop", 1, {}, 1))},
    ),
    ("net.not_on_wire", {}),
    (
        "net.not_on_wire",  # the frames are of protocols that nobody here speaks
        counters(**{"dev_eth0.rx_packets": 50, "dev_eth0.rx_dropped": 50}),
    ),
]


@pytest.mark.parametrize(("expected", "facts"), CAUSES, ids=[one[0] for one in CAUSES])
def test_cause(expected: str, facts: Facts) -> None:
    found = rules.diagnose(placed(facts))
    assert found[0].id == expected, found
    assert found[0].severity == "error"
    assert all(one.severity != "error" for one in found[1:])
    assert found[0].title
    assert found[0].evidence
    assert found[0].hint
    assert found[0].where in ("sender", "network", "host", "socket")


def test_a_source_behind_a_router_names_the_router() -> None:
    back = Reverse("198.51.100.9", "eth0", 2, "10.0.0.254", local=False)
    (found, *_) = rules.diagnose(silent(sources=("198.51.100.9",), reverse=back))
    assert found.id == "net.not_on_wire"
    assert "behind 10.0.0.254: its TTL must exceed the hops" in found.hint
    (near, *_) = rules.diagnose(silent(control=Counter()))
    assert "querier (-T 130s tells)" in near.hint


@pytest.mark.parametrize(("way", "remedy"), [(None, "rp_filter=0"), ("eth1", "rp_filter=2")])
def test_a_loose_reverse_path_filter_helps_where_any_route_leads_back(
    way: str | None, remedy: str
) -> None:
    back = Reverse(FAR4, way, 3 if way else None, None, local=False)
    facts = receiver(sources=(FAR4,), reverse=back, drops=drop("IP_RPFILTER"))
    (found, *_) = rules.diagnose(facts)
    assert found.id == "host.rp_filter"
    assert f"eth0.{remedy}" in found.hint
    assert f"undo: ip route del {FAR4} dev eth0" in found.hint


@pytest.mark.parametrize(("expected", "more"), UNPRIVILEGED, ids=[one[0] for one in UNPRIVILEGED])
def test_cause_without_root(expected: str, more: dict[str, Any]) -> None:
    found = rules.diagnose(receiver(**(UNSEEN | more)))
    assert found[0].id == expected, found
    if found[0].certain != "proved":
        assert any("sudo" in one.hint for one in found)


NAMES = {"eth0", "eth1", "p1", "p2", "p3", "br0", "t", "c", "input", "forward", "prerouting"}


def hostile(value: Any) -> Any:
    """The same facts where interfaces, chains and tables have names that a shell would run."""
    if isinstance(value, str):
        return f"$({value})" if value in NAMES else value
    if isinstance(value, Counter):
        return Counter({hostile(key): count for key, count in value.items()})
    if isinstance(value, dict):
        return {hostile(key): hostile(one) for key, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_make"):
        kept = {"hooks": value.hooks} if isinstance(value, Rule) else {}
        return value._make(map(hostile, value))._replace(**kept)
    return type(value)(map(hostile, value)) if isinstance(value, tuple | frozenset) else value


def test_no_fix_runs_what_a_name_says() -> None:
    """Each name in it is one word of a shell, and quoted where it would be more."""
    quoted = re.compile(r"(?<!\S)'[^' ]*\$\([^' ]*'")
    seen, bare = Counter[str](), set[str]()
    worlds = [one for _, one in CAUSES] + [receiver(**(UNSEEN | more)) for _, more in UNPRIVILEGED]
    for facts in [*worlds, *HEALTHY.values()]:
        for one in rules.diagnose(placed(hostile(facts))):
            seen[one.id] += bool(quoted.search(one.hint))
            bare |= {one.hint} if "$(" in quoted.sub("", one.hint) else set()
    assert sorted(bare) == []
    assert len([ident for ident, number in seen.items() if number]) >= 20, seen


CATALOGUE = """
rx: not_joined joined_wrong_iface bound_wrong_addr bound_wrong_port connected_filter bound_device
    source_filter ssm_asm_join crosstalk port_in_use membership_limit msf_limit join_no_interface
    missing_scope family_mismatch rcvbuf_overflow app_not_reading socket_filter duplicate
host: rp_filter no_ipv4_address firewall_input firewall_prerouting firewall_ingress tc_drop xdp_drop
    cgroup_bpf xfrm_policy firewall_igmp_out firewall_mld_out firewall_igmp_in firewall_mld_in
    igmp_version udp_checksum ip_checksum martian_source source_is_local wrong_dst_mac
    fragment_incomplete ipv6_disabled
if: down no_carrier
net: no_querier switch_no_mdb switch_flood_off port_isolated stp_blocked bridge_netfilter
    switch_filter macvlan_private no_traffic not_on_wire
container: bridge_nat
group: link_local_scope interface_local_scope
router: mc_forwarding_off no_mroute no_oif wrong_iif ttl_threshold firewall_forward rp_filter mtu
tx: wrong_group ttl_too_low no_route wrong_egress missing_scope route_lo ttl_zero loop_off
    firewall_output firewall_egress qdisc_drop cgroup_bpf source_not_local ipv6_tentative
    ipv6_disabled interface_down route_prohibited message_too_big source_nat
"""


def test_every_cause_of_the_catalogue_is_in_the_table() -> None:
    known = set()
    for part in CATALOGUE.replace("\n    ", " ").strip().split("\n"):
        where, _, names = part.partition(":")
        known |= {f"{where}.{name}" for name in names.split()}
    assert known == {one[0] for one in CAUSES}


def redirect(target: int) -> dict[str, Any]:
    """A filter on the way in that redirects as many packets as there are datagrams."""
    action = Action("mirred", f"redirect to index {target}", 50, 0)
    return {"traffic": TrafficControl((), (TrafficFilter(2, "ingress", "u32", 1, "", (action,)),))}


HEALTHY = {
    "receiver": receiver(),
    "receiver, IPv6": receiver(G6),
    "strict rp_filter, good way back": receiver(knobs=dict.fromkeys(LINKS, Knobs(1, False, 3, 0))),
    "rules for other ports": receiver(**{**rule("input"), "moved_rules": {}}),
    "no MULTICAST flag": receiver(
        links=LINKS | {2: ETH0._replace(flags=frozenset({"up", "carrier"}))}
    ),
    "no IPv4 address": receiver(links=LINKS | {2: link(2, "eth0")}),
    "unrelated drops": receiver(drops=drop("QUEUE_PURGE")),
    "dropped on another interface": receiver(
        drops=drop("NOT_SPECIFIED", "ip_rcv_finish_core", ifindex=3)
    ),
    "our own sending refused": receiver(drops=drop("NETFILTER_DROP", ifindex=0), **rule("output")),
    "another program on the port": receiver(
        applications=(app(), app(local=OTHER4, joined=(Filter(2, OTHER4, "exclude", ()),)))
    ),
    "a feed of other sources": receiver(
        applications=(app(joined=(Filter(2, G4, "include", (FAR4,)),)), OTHER)
    ),
    "a feed of another interface": receiver(
        memberships=(*member(), *member(index=3)),
        applications=(app(joined=(Filter(3, G4, "exclude", ()),), ifindex=3), OTHER),
    ),
    "a unicast server on the port": receiver(applications=(app(), app(local=ME4, joined=()))),
    "large datagrams": receiver(
        flows=flow(fragment="first") | flow(100, fragment="later"),
        **counters(Ip_ReasmReqds=150, Ip_ReasmOKs=50),
    ),
    "a copy sent elsewhere": receiver(
        diverting=(rule("ingress", "netdev")["dropping"][0]._replace(verdict="dup"),)
    ),
    "a rule that forwards what IP has counted": receiver(
        diverting=(rule("ingress", "netdev")["dropping"][0]._replace(verdict="fwd"),),
        **counters(Ip_InReceives=50),
    ),
    "NAT of something else": receiver(
        rewriting=(rule("prerouting")["dropping"][0]._replace(verdict="dnat"),),
        queues={77: (0, 768, 1536)},
        **counters(Udp_InDatagrams=50),
    ),
    "sockets that are never bound": receiver(failing=20),
    "sockets that are never bound, unseen": receiver(
        failing=20,
        applications=(app()._replace(options=None),),
        **UNSEEN,
        **counters(Udp_InDatagrams=50),
    ),
    "sender": sender(),
    "peers that do not hear themselves": sender(
        memberships=member(), applications=(app(port=OUT_PORT, loop=False), app())
    ),
    "no loop, and the sender is another host": receiver(
        flows=flow() | flow(direction="out", src=ME4, sport=PORT),
        applications=(app(loop=False), OTHER),
    ),
    "TTL 0 that leaves": sender(flows=flow(direction="out", src=ME4, ttl=0)),
    "router": router(),
    "switch": switch(),
    "a redundant port of a spanning tree": switch(
        details={9: LinkDetails(False, None, 0, tree=True)},
        bridges=bridge(port("p1"), port("p2"), port("p3", state="blocking")),
        flows=flow(iface="p1") | flow(iface="p3") | flow(iface="p2", direction="out"),
    ),
    "a port without a cable": switch(
        links=LINKS | {4: link(4, "p3")._replace(flags=frozenset({"up"}))},
        bridges=bridge(port("p1"), port("p2"), port("p3", ifindex=4, state="disabled")),
    ),
    "a filter redirects another group": receiver(**redirect(3), **counters(Ip_InReceives=50)),
    "shaped by an ifb device": receiver(
        links=LINKS | {4: link(4, "ifb0")._replace(kind="ifb")}, **redirect(4)
    ),
    "a port of the bridge that has joined": receiver(
        links=LINKS | {2: ETH0._replace(master=4), 4: link(4, "br0")._replace(kind="bridge")},
        memberships=(member()[0]._replace(ifindex=4, iface="br0"),),
        flows=flow() | flow(iface="br0"),
        applications=(app(joined=(Filter(4, G4, "exclude", ()),)),),
    ),
    "a sender that names the interface needs no route": sender(
        **UNSEEN, route=unanswered(G4, None, None), **counters(Udp_OutDatagrams=50)
    ),
    "a sender of one link, unseen": sender(
        LL6,
        sources=("fe80::20",),
        links=LINKS | {2: link(2, "eth0", "fe80::20")},
        control={},
        **UNSEEN,
        **counters(Udp6OutDatagrams=50),
    ),
    "both families on one port": receiver(
        flows=flow() | flow(src=S6, dst=G6),
        memberships=(*member(), *member(G6)),
        applications=(app(), app(local="::", joined=(Filter(2, G6, "exclude", ()),))),
    ),
    "sender of one link": sender(LOCAL4, control={}),
    "sender of one link, IPv6": sender(LL6, control={}),
    "a router drops its own copy": router(
        drops=drop("NETFILTER_DROP"),
        flows=flow() | flow(iface="eth1", direction="out"),
        entries_before=(ENTRY._replace(packets=0),),
    ),
    "a router refuses other sources": router(
        **UNSEEN,
        knobs=dict.fromkeys(LINKS, Knobs(1, False, 3, 0)),
        entries_before=(ENTRY._replace(packets=0),),
        forwarding_interfaces=(VIF._replace(packets_out=50),),
        **counters(TcpExt_IPReversePathFilter=50, Ip_ForwDatagrams=50),
    ),
    "switch that floods": switch(database=(), bridges=bridge(snooping=False)),
}


NOISE: dict[str, tuple[str, dict[str, int]]] = {
    "checksums": (G4, {"Udp_InCsumErrors": 50, "Udp_InErrors": 50}),
    "headers": (G4, {"IpExt_InCsumErrors": 50}),
    "another group in INPUT": (G4, {"IpExt_InMcastPkts": 100, "Ip_InDelivers": 50}),
    "another program's filter": (G4, {"Udp_InErrors": 50}),
    "another IPv6 group": (G6, {"Ip6InMcastPkts": 200, "Ip6InDelivers": 50}),
    "another policy": (G4, {"XfrmInPolBlock": 50}),
    "another datagram in parts": (G4, {"Ip_ReasmReqds": 50, "Ip_ReasmFails": 20}),
}
"""What the namespace counts of others while the group is served: 50 datagrams read."""
for _name, (_group, _noise) in NOISE.items():
    _read = counters(Udp_InDatagrams=50, Udp6InDatagrams=50, **_noise)
    HEALTHY |= {
        f"{_name}, unseen drops": receiver(_group, why_no_drops="not root", **_read),
        f"{_name}, unseen": receiver(_group, **UNSEEN, **_read),
    }
HEALTHY |= {
    f"another stream refused, {_name}": sender(
        why_no_drops="not root",
        why_no_wire=_unseen,
        flows=Counter() if _unseen else flow(direction="out", src=ME4),
        **counters(Udp_OutDatagrams=50, Udp_SndbufErrors=errors, Ip_OutDiscards=50),
    )
    for _name, _unseen, errors in (
        ("egress", "", 50),
        ("egress, unseen", "not root", 50),
        ("output", "", 0),
        ("output, unseen", "not root", 0),
    )
}


@pytest.mark.parametrize("facts", HEALTHY.values(), ids=HEALTHY)
def test_healthy_worlds_raise_no_error(facts: Facts) -> None:
    assert [one for one in rules.diagnose(raised(placed(facts))) if one.severity == "error"] == []


def typed_rule(protocol: str, text: str) -> dict[str, Any]:
    """A rule on the way out about one type of messages."""
    looks_at = {"payload": {"protocol": protocol, "field": "type"}}
    match = {"match": {"op": "==", "left": looks_at, "right": text}}
    words = f"{protocol} type {text} drop"
    return {"dropping": (Rule("inet", "t", "c", 4, ("output",), (), "drop", (match,), 0, words),)}


IGMP = protocol_rule("output", "igmp")["dropping"][0].matches
DROPS = Rule("inet", "t", "c", None, ("output",), (), "policy", (), 0, "policy drop")
POLICY: dict[str, Any] = {"dropping": (DROPS._replace(spared=(IGMP,)),)}
SILENT = {
    "an XDP program that passes": (silent(details={2: LinkDetails(True, None, 0)}, untapped=2), ""),
    "a policy that accepts IGMP": (silent(**POLICY), ""),
    "a policy, and nothing accepts": (silent(dropping=(DROPS,)), "host.firewall_igmp_out"),
    "a rule about ICMP": (silent(**typed_rule("icmp", "timestamp-reply")), ""),
    "one of IPv4": (silent(G6, **typed_rule("icmp", "timestamp-reply")), ""),
    "one about echoes": (silent(G6, **typed_rule("icmpv6", "echo-request")), ""),
    "MLD reports": (
        silent(G6, **typed_rule("icmpv6", "mld2-listener-report")),
        "host.firewall_mld_out",
    ),
}


@pytest.mark.parametrize(("facts", "cause"), SILENT.values(), ids=SILENT)
def test_silence_is_the_fault_of_no_innocent_rule(facts: Facts, cause: str) -> None:
    found = rules.diagnose(placed(facts))[0]
    assert (found.id, found.certain) == (cause or "net.not_on_wire", "inferred")


def test_an_interface_that_is_gone_is_told() -> None:
    for facts, cause in ((receiver(), "if.down"), (sender(), "tx.interface_down")):
        found = rules.diagnose(facts._replace(links={1: LO}))[0]
        assert found.id == cause
        assert "eth0 is gone" in found.title


@pytest.mark.parametrize("way", ["ingress", "loop"])
def test_only_the_like_of_what_is_missing_acquits(way: str) -> None:
    """And only where the silence was long."""
    passed = Injected(S4, True, way, 3, {Drop("UDP_CSUM", "f", 2, False): 3}, 1)
    for real, watched_s in ((True, 5.0), (True, 0.5), (False, 5.0)):
        done = Probed("eth0", injected=passed._replace(real_source=real))
        found = rules.diagnose(silent(probe=done, watched_s=watched_s))[0]
        proved = real and watched_s > 1 and way == "ingress"
        assert (found.id, found.certain == "proved") == ("net.not_on_wire", proved)


def test_the_route_that_leads_joins() -> None:
    """IPv6 has ff00::/8 in its local table, which comes first; a route may be there already."""
    assert "replace multicast ff15::1:1/128 dev eth0 table local" in joining(G6, "eth0")
    assert "prepend 239.1.1.1 dev eth0 (undo:" in joining(G4, "eth0")


_LEGACY_RULE = Rule(
    "ip6", "filter (iptables-legacy)", "MC", None, ("input",), (), "drop", (), 9, ""
)
DOUBTFUL = tuple(Rule("inet", "t", "c", n, ("input",), (), "drop", (), 0, "drop") for n in (3, 4))
FIXES: dict[str, tuple[Facts, str]] = {
    "ip6tables-legacy -t filter -I MC -d ff15::1:1 -p udp --dport 5000 -j ACCEPT (undo": (
        receiver(G6, drops=drop("NETFILTER_DROP"), dropping=(_LEGACY_RULE,)),
        "host.firewall_input",
    ),
    "nft -ae insert rule inet t c ip daddr 239.1.1.1 udp dport 5000 accept": (
        receiver(drops=drop("NETFILTER_DROP"), dropping=DOUBTFUL),  # before either
        "host.firewall_input",
    ),
    "sysctl net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0": (
        receiver(drops=drop("IP_RPFILTER"), links=LINKS | {2: link(2, "eth0", ME6)}),
        "host.no_ipv4_address",
    ),
    "nft -ae insert rule bridge t c handle 4 ip6 daddr ff15::1:1 accept": (
        switch(
            group=G6,
            flows=IN_ONLY,
            drops=drop("NETFILTER_DROP"),
            **rule("forward", family="bridge"),
        ),
        "net.switch_filter",
    ),
}


@pytest.mark.parametrize("fix", FIXES)
def test_the_fix_is_a_command(fix: str) -> None:
    facts, cause = FIXES[fix]
    found = rules.diagnose(facts)[0]
    assert found.id == cause
    assert found.hint.startswith(fix)


def test_a_socket_for_unicast_beside_the_one_that_joined_is_not_deaf() -> None:
    """Of one process; alone, or of another process, it did not join."""
    closed = app(joined=())
    assert closed.options
    unicast = closed._replace(options=closed.options._replace(multicast_all=False))
    other = unicast._replace(holders=((4712, "other", 3),))
    for applications, expected in (
        ((app(local=G4), unicast), []),
        ((unicast,), ["rx.not_joined"]),
        ((app(local=G4), other), ["rx.not_joined"]),
    ):
        found = delivery.deaf(receiver(applications=applications))
        assert [ident for _, ident in found] == expected


def test_a_filter_that_takes_the_queries_too_leaves_silence() -> None:
    facts = silent(drops=drop("TC_INGRESS", control=True))
    assert rules.diagnose(facts)[0].id == "host.tc_drop"


def test_a_process_that_hears_both_families_is_not_deaf() -> None:
    """Its socket for the other family, on the same port, is no mismatch."""
    six = app(local="::", joined=(Filter(2, "ff15::1", "exclude", ()),))
    six = six._replace(bound=six.bound._replace(protocol="udp6", v6only=True))
    for unseen in ({}, UNSEEN):
        facts = receiver(pid=4711, applications=(app(), six), **unseen)
        assert delivery.deaf(facts) == []
    alone = receiver(pid=4711, applications=(six,))
    assert [ident for _, ident in delivery.deaf(alone)] == ["rx.family_mismatch"]


def test_a_source_that_was_rewritten_on_the_way() -> None:
    """An SSM receiver of the sender's own address, and datagrams from another one."""
    facts = receiver(
        SSM4,
        flows=flow(src=FAR4, dst=SSM4),
        memberships=member(SSM4, mode="include", sources=(S4,)),
    )
    first = rules.diagnose(facts)[0]
    assert (first.id, first.severity) == ("rx.source_filter", "error")
    assert FAR4 in first.title


SERIES: dict[str, tuple[list[str], Facts]] = {
    "reverse path, firewall": (
        ["host.rp_filter", "host.firewall_input"],
        receiver(drops=drop("IP_RPFILTER"), **rule("input")),
    ),
    "two firewalls": (
        ["host.firewall_prerouting", "host.firewall_input"],
        receiver(drops=drop("NETFILTER_DROP"), **two_rules("prerouting", "input")),
    ),
    "excluded source, other port": (
        ["rx.source_filter", "rx.bound_wrong_port"],
        receiver(
            drops=drop("NOT_SPECIFIED", "ip_rcv_finish_core"),
            memberships=member(mode="exclude", sources=(S4,)),
            applications=(app(port=5001, joined=(Filter(2, G4, "exclude", (S4,)),)),),
        ),
    ),
    "firewall, unicast address": (
        ["host.firewall_input", "rx.bound_wrong_addr"],
        receiver(drops=drop("NETFILTER_DROP"), applications=(app(local=ME4),), **rule("input")),
    ),
    "not joined, nothing on the wire": (
        ["rx.not_joined", "net.not_on_wire"],
        silent(memberships=(), applications=(app(joined=()),)),
    ),
    "an idle sender, sockets that are never bound": (
        ["net.no_traffic", "tx.source_not_local"],
        sender(flows=Counter(), failing=20),
    ),
    "silence, queries that would be dropped": (
        ["net.not_on_wire", "host.firewall_igmp_in"],
        silent(**protocol_rule("input", "igmp")),
    ),
    "checksum, then a full buffer": (
        ["host.ip_checksum", "host.udp_checksum"],
        receiver(drops=drop("UDP_CSUM") | drop("IP_CSUM")),
    ),
    "TTL, firewall": (
        ["tx.ttl_too_low", "router.firewall_forward"],
        router(flows=flow(ttl=1), **rule("forward")),
    ),
    "no way out, TTL": (
        ["router.no_oif", "tx.ttl_too_low"],
        router(flows=flow(ttl=1), entries=(ENTRY._replace(oifs=()),)),
    ),
}


@pytest.mark.parametrize(("expected", "facts"), SERIES.values(), ids=SERIES)
def test_the_next_cause_is_mentioned_behind_the_first(expected: list[str], facts: Facts) -> None:
    first, *later = rules.diagnose(facts)
    assert [first.id, *(one.id for one in later)] == expected
    assert first.severity == "error"
    assert all(one.severity == "warning" for one in later)
    behind = [one for one in later if one.id != "tx.source_not_local"]
    assert all(one.title.startswith("behind that, ") for one in behind)


def test_what_else_may_keep_a_macvlan_silent() -> None:
    facts = silent(details={2: LinkDetails(False, "bridge", 9)}, control=Counter())
    found = [one.id for one in rules.diagnose(facts)]
    assert found == ["net.not_on_wire", "net.macvlan_parent", "net.no_querier"]


def test_the_interface_is_where_datagrams_arrive() -> None:
    facts = receiver(iface="", ifindex=0, flows=flow(iface="eth1"), memberships=member(index=2))
    assert placed(facts).question.iface == "eth1"
    quiet = silent(iface="", ifindex=0, memberships=member(index=3))
    assert placed(quiet).question.iface == "eth1"


def test_what_a_filter_redirects_is_lost_wherever_it_ends() -> None:
    """Also where another end of this host counts it, or a slower stream comes through."""
    for flows in (flow(), flow() | flow(iface="eth1"), flow() | flow(10, dst=OTHER4)):
        counted = sum(flows.values()) - 50
        facts = receiver(flows=flows, **redirect(3), **counters(Ip_InReceives=counted))
        assert rules.diagnose(facts)[0].id == "host.tc_drop"

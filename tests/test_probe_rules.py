"""What active tests tell, as rules over data: what they prove, refute and leave; their frames."""

from __future__ import annotations

import errno
import struct
from collections import Counter
from typing import Any

import pytest
import test_doctor_rules as world
from test_doctor_rules import G4, G6, ME4, ME6, PORT, S4, S6, SSM4, drop, rule

from mcastctl.decode import ip, link
from mcastctl.decode.checksum import is_right, pseudo_header
from mcastctl.decode.cursor import Cursor
from mcastctl.doctor import rules
from mcastctl.doctor.facts import Facts
from mcastctl.doctor.probe import frames
from mcastctl.doctor.probe.results import Crafted, Injected, Joined, Probed, Reports, Sent
from mcastctl.doctor.wire import Flow, Wire
from mcastctl.host import nftrace
from mcastctl.host.netlink import attribute
from mcastctl.host.nftrace import Verdict
from mcastctl.model.frame import ETHERNET

PASSED = Injected(S4, True, "ingress", 3, drop("UDP_CSUM", "__udp4_lib_rcv", 3))
LOST = PASSED._replace(drops=drop("NETFILTER_DROP", "nft_do_chain", 3))
MADE_UP = PASSED._replace(real_source=False)
BACK = Injected(ME4, False, "loop", 1, {}, 0)
NAMED = {Verdict("inet", "t", "c", 4): 3}
UNKNOWN = {Verdict("inet", "t", "map", 9): 3}
FRESH = Joined(True, "", heard=5, came=5)
KNOWN = Joined(False, "", heard=0, came=0)
LEFT, KEPT = Reports("233.252.0.124", 1, 0), Reports("233.252.0.124", 0, 2)
UNSEEN = Reports("233.252.0.124", 0, None)
BY_HAND = Crafted("IGMPv3 report", 4)
OUT = Flow("eth0", "out", "", ME4, G4, 40001, PORT, 1, "")
UNASKED: dict[str, Any] = {"control": Counter()}
LEGACY: dict[str, Any] = {"why_no_drops": "no", "why_no_wire": "no", "drops_method": ""}


def silent(group: str = G4, facts: dict[str, Any] | None = None, **probe: Any) -> Facts:
    """A receiving host at which nothing arrives, and what active tests told."""
    return world.silent(group, probe=Probed("eth0", **probe), **(facts or {}))


def idle(facts: dict[str, Any] | None = None, **probe: Any) -> Facts:
    """A sending host that sends nothing."""
    return world.sender(flows=Counter(), probe=Probed("eth0", **probe), **(facts or {}))


def told(facts: Facts) -> tuple[str, str]:
    """The answer and how certain it is."""
    errors = [one for one in rules.diagnose(facts) if one.severity == "error"]
    return (errors[0].id, errors[0].certain) if errors else ("ok", "")


_PROTOCOL = {"payload": {"protocol": "ip", "field": "protocol"}}
_IS_IGMP = ({"match": {"op": "==", "left": _PROTOCOL, "right": "igmp"}},)
IGMP_IN: dict[str, Any] = {
    "dropping": tuple(
        one._replace(matches=_IS_IGMP)
        for one in rule("input", text="ip protocol igmp drop")["dropping"]
    )
}
ANSWERS = {
    "acquitted": (silent(injected=PASSED), "net.not_on_wire", "proved"),
    "neither proved nor acquitted": (silent(), "net.not_on_wire", "inferred"),
    "filtered, rule traced": (
        silent(facts=rule("input"), injected=LOST, verdicts=NAMED),
        "host.firewall_input",
        "proved",
    ),
    "filtered in PREROUTING": (
        silent(facts=rule("prerouting"), injected=LOST, verdicts=NAMED),
        "host.firewall_prerouting",
        "proved",
    ),
    "filtered by a verdict map": (
        silent(injected=LOST, verdicts=UNKNOWN),
        "host.firewall_input",
        "proved",
    ),
    "filtered, from an address made up": (
        silent(facts=rule("input"), injected=LOST._replace(real_source=False), verdicts=NAMED),
        "host.firewall_input",
        "inferred",
    ),
    "reverse path": (
        silent(injected=PASSED._replace(drops=drop("IP_RPFILTER", "ip_rcv_finish_core", 3))),
        "host.rp_filter",
        "proved",
    ),
    "reverse path of a source made up": (
        silent(injected=MADE_UP._replace(drops=drop("IP_RPFILTER", "ip_rcv_finish_core", 3))),
        "net.not_on_wire",
        "inferred",
    ),
    "not looped back, rule traced": (
        silent(facts=rule("input"), injected=BACK, verdicts=NAMED),
        "host.firewall_input",
        "proved",
    ),
    "not looped back, no rule": (silent(injected=BACK), "net.not_on_wire", "inferred"),
    "looped back": (silent(injected=BACK._replace(heard=1)), "net.not_on_wire", "inferred"),
    "queries filtered": (
        silent(facts=IGMP_IN, injected=PASSED, queries=3),
        "host.firewall_igmp_in",
        "proved",
    ),
    "queries of somebody filtered": (
        silent(injected=PASSED, queries=3),
        "host.firewall_igmp_in",
        "inferred",
    ),
    "reports filtered": (silent(reports=KEPT), "host.firewall_igmp_out", "proved"),
    "a rule that lets reports leave": (
        silent(facts=rule("output", text="ip protocol igmp drop"), reports=LEFT),
        "net.not_on_wire",
        "inferred",
    ),
    "the same rule, and none leaves": (
        silent(facts=rule("output", text="ip protocol igmp drop"), reports=UNSEEN),
        "host.firewall_igmp_out",
        "proved",
    ),
    "reports do not leave, nobody knows why": (
        silent(injected=PASSED, reports=UNSEEN),
        "net.not_on_wire",
        "inferred",
    ),
    "the same rule, untested": (
        silent(facts=world.protocol_rule("output", "igmp")),
        "host.firewall_igmp_out",
        "inferred",
    ),
    "forgotten by the switch": (
        silent(facts=UNASKED, reports=LEFT, crafted=BY_HAND),
        "net.no_querier",
        "inferred",
    ),
    "asked, answered, and not known": (
        silent(reports=LEFT, crafted=BY_HAND),
        "net.switch_no_mdb",
        "inferred",
    ),
    "perhaps forgotten": (
        silent(facts=UNASKED, reports=LEFT, crafted=BY_HAND._replace(came=1)),
        "net.no_querier",
        "inferred",
    ),
    "own reports lost unseen": (
        silent(reports=LEFT._replace(left=0), crafted=BY_HAND),
        "host.firewall_igmp_out",
        "inferred",
    ),
    "without a source behind a router": (
        silent(SSM4, crafted=BY_HAND),
        "rx.ssm_asm_join",
        "proved",
    ),
    "the port is taken": (
        silent(
            facts={
                "memberships": (),
                "failing": 9,
                "applications": (world.app(joined=())._replace(options=None),),
            },
            joined=FRESH._replace(heard=None, bind_errno=errno.EADDRINUSE, came=0),
        ),
        "rx.port_in_use",
        "proved",
    ),
    "refused to send": (
        idle(facts=rule("output"), sent=Sent(errno.EPERM, ME4), verdicts=NAMED),
        "tx.firewall_output",
        "proved",
    ),
    "refused by a rule or a group": (
        idle(facts=rule("output"), sent=Sent(errno.EPERM, ME4)),
        "tx.firewall_output",
        "inferred",
    ),
    "lost without a word": (
        idle(
            facts=rule("egress", "netdev"),
            sent=Sent(None, ME4, (), drop("NETFILTER_DROP", ifindex=0)),
        ),
        "tx.firewall_egress",
        "proved",
    ),
    "no room in the queue": (
        idle(sent=Sent(errno.ENOBUFS, ME4, (), drop("QDISC_DROP", ifindex=0))),
        "tx.qdisc_drop",
        "proved",
    ),
    "nobody sends": (idle(sent=Sent(None, ME4, (OUT,))), "net.no_traffic", "proved"),
}


@pytest.mark.parametrize(("facts", "ident", "certain"), ANSWERS.values(), ids=ANSWERS)
def test_the_answer(facts: Facts, ident: str, certain: str) -> None:
    assert told(facts) == (ident, certain)
    last = rules.diagnose(facts)[-1]
    assert (last.id, last.severity) == ("doctor.probe", "info")


def test_what_a_socket_of_ours_heard_cannot_be_lost_on_the_way() -> None:
    counters = world.counters(IpExt_InMcastPkts=50, Ip_InReceives=90)
    heard = Joined(False, "", heard=3)
    found = world.receiver(flows=Counter(), **LEGACY, **counters)
    assert told(found) == ("host.firewall_input", "inferred")
    early = {**LEGACY, **world.counters(Ip_InReceives=90)}
    inferred = world.silent(**early)
    assert told(inferred)[1] == "inferred"
    assert told(inferred._replace(probe=Probed("eth0", joined=heard))) == ("ok", "")


def test_a_throw_away_join_tells_what_is_missing() -> None:
    nobody = {"memberships": (), "applications": (world.app(joined=()),)}
    first, *_ = rules.diagnose(silent(facts=nobody, joined=FRESH))
    assert (first.id, first.certain) == ("rx.not_joined", "proved")
    assert "brought 5 datagrams: only the membership was missing" in first.evidence[-1]
    vain = rules.diagnose(silent(facts=nobody, joined=FRESH._replace(heard=0, came=0)))
    assert [(one.id, one.severity) for one in vain[:2]] == [
        ("rx.not_joined", "error"),
        ("net.not_on_wire", "warning"),
    ]


def parsed(frame: bytes) -> ip.Ip:
    cursor = Cursor(frame)
    header = link.decode(ETHERNET, cursor, {})
    return (ip.decode4 if header.ethertype == link.IPV4 else ip.decode6)(cursor, {})


def test_frames_of_datagrams_no_socket_gets() -> None:
    for source, group in ((S4, G4), (S6, G6)):
        frame = frames.datagram(source, 40000, group, PORT, b"probe")
        wire = Wire()
        wire.take("eth0", "multicast", 1, frame)
        (flow,) = wire.flows
        assert flow == Flow("eth0", "in", "", source, group, 40000, PORT, 1, "")
        packet = parsed(frame)
        pseudo = pseudo_header(packet.src, packet.dst, 17, len(packet.payload))
        assert not is_right(pseudo + packet.payload)
        assert packet.payload[6:8] != b"\0\0"
        if packet.dst[0] == 239:
            assert is_right(frame[14:34])


@pytest.mark.parametrize(
    ("source", "group", "version", "to"),
    [
        (ME4, G4, 3, "224.0.0.22"),
        (ME4, G4, 2, G4),
        (ME4, G4, 1, G4),
        (ME6, G6, 2, "ff02::16"),
        (ME6, G6, 1, G6),
    ],
)
def test_frames_of_reports_are_those_of_a_host(
    source: str, group: str, version: int, to: str
) -> None:
    six = ":" in group
    wanted = (S6 if six else S4,)
    frame = frames.report(source, group, version, frames.INCLUDE, wanted, b"\2mcast")
    packet = parsed(frame)
    assert (ip.text(packet.src), ip.text(packet.dst), packet.ttl) == (source, to, 1)
    pseudo = pseudo_header(packet.src, packet.dst, 58, len(packet.payload)) if six else b""
    assert is_right(pseudo + packet.payload)
    assert (b"\x94\x04\0\0" if not six else b"\x05\x02\0\0") in frame
    wire = Wire()
    wire.take("eth0", "out", 1, frame)
    (seen,) = wire.control
    assert (seen.kind, seen.version, seen.group) == ("report", version, group)


def test_frames_of_queries_change_nothing() -> None:
    for source in (S4, "fe80::1"):
        frame = frames.query(source)
        wire = Wire()
        wire.take("eth0", "multicast", 1, frame)
        (seen,) = wire.control
        assert (seen.kind, seen.group, seen.src) == ("query", "", source)
        packet = parsed(frame)
        six = ":" in source
        pseudo = pseudo_header(packet.src, packet.dst, 58, len(packet.payload)) if six else b""
        assert not is_right(pseudo + packet.payload)


def _trace(kind: int, *parts: bytes) -> bytes:
    body = attribute(1, b"t\0") + attribute(2, b"c\0") + attribute(4, struct.pack("!I", kind))
    body += b"".join(parts)
    return struct.pack("=IHHIIBBH", 20 + len(body), 0xA11, 0, 0, 0, 1, 0, 0) + body


def _verdict(code: int) -> bytes:
    return attribute(5, attribute(1, struct.pack("!i", code)))


HANDLE = attribute(3, struct.pack("!Q", 7))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (_trace(3, HANDLE, _verdict(0)), Verdict("inet", "t", "c", 7)),
        (_trace(3, HANDLE, _verdict(3)), Verdict("inet", "t", "c", 7)),
        (_trace(1, attribute(16, bytes(4))), Verdict("inet", "t", "c", None)),
        (_trace(1, attribute(16, bytes(3) + b"\1")), None),
        (_trace(3, HANDLE, _verdict(1)), None),
        (_trace(3, HANDLE, _verdict(-3)), None),
        (_trace(2, _verdict(-1)), None),
        (_trace(3, HANDLE), None),
        (_trace(3, HANDLE, _verdict(0))[:30], None),
        (b"\0" * 20, None),
    ],
)
def test_verdicts_of_a_trace(message: bytes, expected: Verdict | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="not dropped"):
            nftrace.parse(message)
    else:
        assert nftrace.parse(message) == expected

"""What `nft -j list ruleset` says of rules that drop, and of what comes before them."""

import json
from typing import Any

from mcastctl.doctor.rules.packetfilter import Packet, may_match, must_match
from mcastctl.host import firewall

OURS = Packet("10.9.1.10", "239.1.1.1", "udp", 5000, "eth0")
PORT = {"payload": {"protocol": "udp", "field": "dport"}}
SOURCE = {"payload": {"protocol": "ip", "field": "saddr"}}
STATE = {"ct": {"key": "state"}}


def match(left: Any, right: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": left, "right": right}}


def dropping(*rules: list[Any], policy: str = "accept") -> tuple[firewall.Rule, ...]:
    chain = {"family": "inet", "table": "t", "name": "c", "hook": "input", "policy": policy}
    place = {"family": "inet", "table": "t", "chain": "c"}
    made = [{"rule": {**place, "handle": n, "expr": expr}} for n, expr in enumerate(rules)]
    return firewall.parse(json.dumps({"nftables": [{"chain": chain}, *made]})).dropping


def test_a_verdict_map_drops_what_it_says() -> None:
    pairs = [[53, {"accept": None}], [5000, {"drop": None}], [{"range": [6, 7]}, {"drop": None}]]
    (rule,) = dropping([{"vmap": {"key": PORT, "data": {"set": pairs}}}])
    assert must_match(rule, OURS)
    assert must_match(rule, OURS._replace(dport=7))
    assert not may_match(rule, OURS._replace(dport=53))
    (named,) = dropping([{"vmap": {"key": PORT, "data": "@ports"}}])
    assert may_match(named, OURS)
    assert not must_match(named, OURS)
    assert dropping([{"vmap": {"key": PORT, "data": {"set": pairs[:1]}}}]) == ()


def test_what_was_accepted_before_is_not_dropped() -> None:
    drop = [match(PORT, 5000), {"drop": None}]
    for before, sure in (
        ([match(SOURCE, "10.9.1.10"), {"accept": None}], False),
        ([match(SOURCE, "10.9.1.11"), {"accept": None}], True),
        ([{"jump": {"target": "d"}}], False),
        ([match(STATE, ["established", "related"]), {"accept": None}], True),
        ([match(STATE, "new"), {"accept": None}], False),
    ):
        (rule,) = dropping(before, drop)
        assert must_match(rule, OURS) is sure, before
        (policy,) = dropping(before, policy="drop")
        assert must_match(policy, OURS) is sure, before

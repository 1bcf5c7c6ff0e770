"""`routes` says of every group what the kernel's routing code says, and what the number means."""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Pair
from members import Join, Socket, member
from streams import Json, check_schema
from world import Host, Place, World

from mcastctl.model import address, meaning, registry, rule
from mcastctl.model.link import Link, LinkAddress
from mcastctl.model.route import Route, fragile

ROOT = Path(__file__).parent.parent
SEED = 20_261_121
CASES = 200


class Case(NamedTuple):
    """A question: by an interface, from a source, or neither."""

    group: str
    iface: str | None
    source: str | None

    def words(self) -> str:
        line = self.group
        line += f" from {self.source}" if self.source else ""
        return line + (f" oif {self.iface}" if self.iface else "")


def ask(host: Host, *args: str, status: int = 0) -> list[Json]:
    """What we say."""
    outcome = host.mcastctl("routes", "-j", *args, timeout=30)
    assert (outcome.returncode, outcome.stderr) == (status, ""), outcome
    found: list[Json] = json.loads(outcome.stdout)
    check_schema(found)
    return found


def kernel(host: Host, cases: list[Case]) -> list[dict[str, Any] | str]:
    """What `ip -j route get` says: its object, or the error's words."""
    found: list[dict[str, Any] | str] = []
    for version in (4, 6):
        mine = [case for case in cases if address.family(case.group) == version]
        lines = "".join(f"route get {case.words()}\n" for case in mine)
        outcome = host.run(
            ["ip", f"-{version}", "-j", "-force", "-batch", "-"], input=lines, check=False
        )
        failed = re.findall(
            r"^(?:RTNETLINK answers|Error): (.*)\nCommand failed -:(\d+)$",
            outcome.stderr,
            re.MULTILINE,
        )
        errors = {int(line): words.rstrip(".") for words, line in failed}
        answers = iter(re.findall(r"^\[.*\]\s*$", outcome.stdout, re.MULTILINE))
        assert len(errors) + outcome.stdout.count("[{") == len(mine), outcome
        for number, _case in enumerate(mine, start=1):
            found.append(errors[number] if number in errors else json.loads(next(answers))[0])
    return found


ERRORS = {
    "Network is unreachable": "ENETUNREACH",
    "No route to host": "EHOSTUNREACH",
    "Permission denied": "EACCES",
    "Invalid argument": "EINVAL",
}


def same(ours: Json, theirs: dict[str, Any] | str) -> bool:
    """Whether an answer is the kernel's."""
    if isinstance(theirs, str):
        return (ours["iface"], ours["error"]) == (None, ERRORS[theirs])
    source = theirs.get("from")
    if source in (None, "::"):
        source = theirs.get("prefsrc")
    return (ours["iface"], ours["source"], ours["gateway"], ours["route_type"]) == (
        theirs["dev"],
        source,
        theirs.get("gateway"),
        theirs.get("type", "unicast"),
    ) and (ours["table"] or "main") == theirs.get("table", "main")


def crossroads(world: World) -> Host:
    """A host with three interfaces, many tables, rules, and routes of every type."""
    a = world.host("a")
    for name in "bcd":
        world.link(a, world.host(name))
    a.ip(
        "link add name bare type veth peer name peer",
        "link set bare up",
        "link set a2 down",
        "route add default via 10.0.1.2",
        "route add 239.1.0.0/16 dev a1",
        "route add multicast 239.2.0.0/16 dev a1",
        "route add unreachable 239.3.0.0/16",
        "route add prohibit 239.4.0.0/16",
        "route add blackhole 239.5.0.0/16",
        "route add throw 239.6.0.0/16",
        "route add 239.7.0.0/16 dev a1 src 10.0.1.1",
        "route add 239.8.0.0/16 via 10.0.2.2 metric 7",
        "route add 224.0.0.0/24 dev a1",
        "route add default via 10.0.2.2 table 77",
        "route add 239.9.1.0/24 dev a0 table 78",
        "route add unreachable default table 79",
        "rule add to 239.10.0.0/16 table 77 pref 100",
        "rule add to 239.9.0.0/16 table 78 pref 101",
        "rule add to 239.11.0.0/16 table 79 pref 102",
        "rule add to 239.12.0.0/16 prohibit pref 103",
        "rule add from 10.0.2.1 table 77 pref 104",
        "rule add oif a1 to 239.13.0.0/16 table 77 pref 105",
        "rule add to 239.14.0.0/16 unreachable pref 108",
        "rule add not to 224.0.0.0/4 table 79 pref 106",
        "rule add fwmark 7 table 79 pref 107",
    )
    lines = (
        "route add ff15:1::/32 dev a1 table local",
        "route add unreachable ff15:3::/32 table local",
        "route add prohibit ff15:4::/32 table local",
        "route add blackhole ff15:5::/32 table local",
        "route add local ff15:6::/32 dev lo table local",
        "route add ff15:7::/32 dev a0 table 77",
        "route add multicast ff15:8::/32 dev a1 table local metric 5",
        "rule add pref 0 to ff15:9::/32 table 77",
        "route add default via fd00:2::2 table 77",
        "rule del pref 0 from all table local",
        "rule add pref 10 table local",
    )
    a.run(["ip", "-6", "-batch", "-"], input="".join(f"{line}\n" for line in lines))
    return a


def generated() -> list[Case]:
    dice = random.Random(SEED)  # noqa: S311
    cases: set[Case] = set()
    while len(cases) < CASES:
        if dice.random() < 0.6:
            group = dice.choice(
                [
                    f"239.{dice.randrange(16)}.{dice.randrange(3)}.{dice.randrange(256)}",
                    f"{dice.randrange(224, 240)}.{dice.randrange(256)}.0.{dice.randrange(1, 256)}",
                    f"224.0.0.{dice.randrange(1, 256)}",
                ]
            )
            source = dice.choice([None, None, None, "10.0.1.1", "10.0.2.1", "9.9.9.9"])
        else:
            scope = dice.choice("2558e")
            group = f"ff1{scope}:{dice.randrange(12):x}::{dice.randrange(1, 1 << 16):x}"
            source = dice.choice([None, None, None, "fd00:1::1", "fd00:2::1"])
        iface = dice.choice([None, None, None, None, "a0", "a1", "a2", "bare", "lo"])
        cases.add(Case(address.canonical(group), iface, source))
    return sorted(cases, key=str)


def test_two_hundred_questions_have_the_kernels_answers(world: World) -> None:
    a = crossroads(world)
    together: dict[tuple[str | None, str | None], list[Case]] = defaultdict(list)
    for case in generated():
        together[case.iface, case.source].append(case)
    seen: set[str] = set()
    compared = 0
    for (iface, source), cases in together.items():
        ordered = sorted(cases, key=lambda case: address.family(case.group))
        options = [*(["-i", iface] if iface else []), *(["-S", source] if source else [])]
        outcome = a.mcastctl("routes", "-j", *(case.group for case in ordered), *options)
        ours = json.loads(outcome.stdout)
        check_schema(ours)
        theirs = kernel(a, ordered)
        for case, one, other in zip(ordered, ours, theirs, strict=True):
            assert one["group"] == case.group
            assert same(one, other), (case, one, other)
            seen.add(one["error"] or one["route_type"])
            compared += 1
        refused = any(isinstance(other, str) for other in theirs)
        unrouted = any(isinstance(o, dict) and o.get("type") in REFUSING for o in theirs)
        assert outcome.returncode == (1 if refused or unrouted else 0), outcome.stderr
    assert compared == CASES
    assert seen >= {"multicast", "unicast", "local", *ERRORS.values()}


REFUSING = {"unreachable", "prohibit", "blackhole"}


def test_the_rule_the_table_and_the_route_that_matched(world: World) -> None:
    a = crossroads(world)
    expected = {
        "239.1.2.3": (32766, "main", "239.1.0.0/16"),
        "239.10.0.1": (100, "77", "0.0.0.0/0"),
        "239.9.1.1": (101, "78", "239.9.1.0/24"),
        "239.9.2.1": (32766, "main", "0.0.0.0/0"),  # table 78 has no route: on to the next rule
        "239.13.0.1": (32766, "main", "0.0.0.0/0"),
        "239.8.1.1": (32766, "main", "239.8.0.0/16"),
    }
    for one in ask(a, *expected):
        assert (one["rule"], one["table"], one["prefix"]) == expected[one["group"]], one
    (one,) = ask(a, "239.13.0.1", "-i", "a1")
    assert (one["rule"], one["table"], one["prefix"]) == (105, "77", "0.0.0.0/0")
    (one,) = ask(a, "ff15:9::1")
    assert (one["rule"], one["table"]) == (0, "77")
    (one,) = ask(a, "239.1.1.1", "-S", "10.0.2.1")
    assert (one["rule"], one["table"], one["prefix"]) == (None, None, None)
    assert one["reason"] == "10.0.2.1 decides: the kernel asked no routing table"
    kinds = {"239.3.1.1": "unreachable", "239.4.1.1": "prohibit", "239.5.1.1": "blackhole"}
    kinds |= {"239.12.1.1": "prohibit", "ff15:3::1": "unreachable", "239.14.1.1": "unreachable"}
    for one in ask(a, *kinds, status=1):
        assert (one["route_type"], one["iface"]) == (kinds[one["group"]], None)
        assert one["error"]
        assert one["rule"] == (108 if one["group"] == "239.14.1.1" else None)


def test_what_is_fragile(world: World) -> None:
    a = world.host("a")
    assert codes(a, "239.1.1.1", status=1) == []  # no route at all
    world.link(a, world.host("b"))
    world.link(a, world.host("c"))
    a.ip("route add default via 10.0.1.2")
    assert codes(a, "239.1.1.1") == ["several-candidates"]
    assert codes(a, "239.1.1.1", "-i", "a1") == []
    assert codes(a, "ff02::1234") == ["no-zone"]
    assert codes(a, "ff02::1234%a1") == []
    a.ip("route add 239.1.1.0/24 dev a0", "route add 239.2.0.0/16 dev lo")
    assert codes(a, "239.1.1.1") == []
    assert codes(a, "239.2.1.1") == ["loopback"]
    a.ip("addr flush dev a0 scope global", "route add 239.1.1.0/24 dev a0")
    assert codes(a, "239.1.1.1") == ["no-address"]
    a.ip("tuntap add vpn0 mode tun", "addr add 10.9.0.1/24 dev vpn0", "link set vpn0 up")
    a.ip("route add default dev vpn0")
    assert codes(a, "239.3.1.1") == ["no-carrier", "default-route-vpn"]


def codes(host: Host, *args: str, status: int = 0) -> list[str]:
    (one,) = ask(host, *args, status=status)
    return [warning["code"] for warning in one["warnings"]]


def test_zones_interfaces_and_sources(pair: Pair) -> None:
    a = pair.a
    index = a.ifindex()
    for args in (["ff02::1%a0"], ["[ff02::1%a0]:5004"], ["ff02::1", "-i", str(index)]):
        (one,) = ask(a, *args)
        assert (one["iface"], one["ifindex"], one["source"]) == ("a0", index, a.lladdr())
    both = ask(a, "239.1.1.1", "-i", "a0", "-i", "lo")
    assert [one["iface"] for one in both] == ["a0", "lo"]
    assert len(ask(a, "239.1.1.0/30", "ff15::1+3", "-i", "a0")) == 8
    (one,) = ask(a, "10.0.1.2@232.1.1.1", "-i", "a0")
    assert one["reverse"] == {
        **{"source": "10.0.1.2", "iface": "a0", "ifindex": index, "gateway": None},
        "local": False,
    }
    (one,) = ask(a, "10.0.1.1@232.1.1.1", "-i", "a0")
    assert one["reverse"]["local"]
    (one,) = ask(a, "9.9.9.9@232.1.1.1", "-i", "a0")
    assert one["reverse"]["iface"] is None


def test_without_groups_all_joined_ones(pair: Pair) -> None:
    a = pair.a
    listener = a.start_mcastctl("listen", "239.1.1.1:5004", "ff15::9:5004", "-i", "a0", "-j")
    listener = a.start_mcastctl("listen", "239.1.1.1:5004", "[ff15::9]:5004", "-i", "a0", "-j")
    listener.wait_stdout('"joined"', count=2)
    found = {(one["group"], one["asked_iface"]) for one in ask(a)}
    assert {("239.1.1.1", None), ("ff15::9", None), ("224.0.0.1", None)} < found
    assert {("ff02::1", "a0"), ("ff02::1", "lo")} < found
    assert {one["asked_iface"] for one in ask(a, "-i", "a0")} == {"a0"}


ACCEPTS = """
import sys
from mcastctl.host import routes
with routes.open_routing() as routing:
    group, index, *sources = sys.argv[1:]
    print(*(routing.accepts(group, source, int(index)) for source in sources))
"""


def test_the_kernel_tells_whether_it_would_take_a_datagram_in(pair: Pair) -> None:
    a = pair.a
    index = a.ifindex()

    def accepts(group: str, *sources: str) -> list[str]:
        words = [sys.executable, "-c", ACCEPTS, group, str(index), *sources]
        return a.run(words, cwd=ROOT).stdout.split()

    assert accepts("239.1.1.1", "10.0.1.2") == ["False"]
    member(a, Socket((Join("239.1.1.1", index),)))
    assert accepts("239.1.1.1", "10.0.1.2") == ["True"]
    member(a, Socket((Join("232.1.1.1", index, "include", ("10.0.1.2",)),)))
    assert accepts("232.1.1.1", "10.0.1.2", "10.0.1.3") == ["True", "False"]
    a.sysctl("net.ipv4.conf.a0.rp_filter", 1)
    assert accepts("239.1.1.1", "10.0.1.2", "9.9.9.9") == ["True", "False"]
    assert accepts("ff15::1", "fd00:1::2") == ["None"]


def test_text(pair: Pair) -> None:
    a = pair.a
    a.ip("route add default via 10.0.1.2")
    text = a.mcastctl("routes", "239.1.1.1", check=True).stdout
    assert text.startswith(f"239.1.1.1 leaves by a0 (index {a.ifindex()}), source 10.0.1.1\n")
    assert "multicast via 10.0.1.2" not in text  # groups are never sent to a gateway
    for words in ("table main", "default route", "01:00:5e:01:01:01", "RFC 2365", "TTL 1"):
        assert words in re.sub(r"\s+", " ", text), words
    assert max(map(len, text.splitlines())) <= 80
    refused = a.mcastctl("routes", "ff02::1%lo")
    assert refused.returncode == 1
    assert "goes nowhere" in refused.stdout
    table = a.mcastctl("routes", check=True).stdout.splitlines()
    assert " ".join(table[0].split()) == "GROUP IFACE SOURCE GATEWAY TYPE TABLE RULE SCOPE NAME"
    assert any(line.startswith("224.0.0.1 ") and "all systems" in line for line in table)
    assert a.mcastctl("routes", "239.1.1.1", "-q", check=True).stdout == ""
    lines = a.mcastctl("routes", "239.1.1.1", "ff15::1", "-o", "jsonl").records
    check_schema(lines)
    assert len(lines) == 2


@pytest.mark.parametrize(
    "args",
    [
        ["10.0.0.1"],
        ["nonsense"],
        ["239.1.1.1", "-i", "nope"],
        ["ff02::1%nope"],
        ["239.1.1.1", "-S", "239.1.1.2"],
        ["239.1.1.1", "-S", "x"],
        ["239.1.1.1", "-S", "fd00::1"],
        ["239.1.1.1", "-o", "hex"],
        ["239.0.0.0/8"],
        ["239.1.1.1", "--netns", "../1"],
        ["239.1.1.1", "--netns", ""],
    ],
    ids=" ".join,
)
def test_bad_questions(pair: Pair, args: list[str]) -> None:
    outcome = pair.a.mcastctl("routes", *args)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    first, second = outcome.stderr.splitlines()
    assert first.startswith("mcastctl: error: ")
    assert second.startswith("hint: ")


def test_an_ordinary_user_asks_a_thousand_groups_in_a_second(pair: Pair) -> None:
    a = pair.a
    a.ip("route add default via 10.0.1.2")
    before = os.times()
    words = ["routes", "239.1.0.0+999", "-j"]
    outcome = a.mcastctl(*words, privileged=False, check=True, timeout=60)
    after = os.times()
    assert len(json.loads(outcome.stdout)) == 1000
    took = sum(after[2:4]) - sum(before[2:4])  # its own time; 0.45 s on an idle machine
    assert took < 1.5, took


# --- what a number means


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("224.0.0.251", {"scope": "link-local", "ttl_needed": 1, "name": "mDNS"}),
        ("224.0.1.129", {"scope": "global", "ttl_needed": 2, "name": "PTP primary"}),
        ("239.255.255.250", {"scope": "site-local", "name": "SSDP (UPnP)"}),
        ("239.195.1.1", {"scope": "organization-local"}),
        ("239.196.1.1", {"scope": "administrative"}),
        ("232.1.1.1", {"ssm": True, "block": "Source-Specific Multicast Block"}),
        ("233.1.2.3", {"glop_as": 258, "block": "GLOP Block"}),
        ("233.252.0.1", {"glop_as": None, "reference": "RFC 6676"}),
        ("234.192.0.2", {"unicast_prefix": "192.0.2.0/24"}),
        ("235.1.1.1", {"block": "Reserved"}),
        ("ff01::1", {"scope": "interface-local", "ttl_needed": 0, "name": "all nodes"}),
        ("ff02::fb", {"scope": "link-local", "ttl_needed": 1, "name": "mDNS"}),
        ("ff05::1:3", {"scope": "site-local", "name": "LLMNR"}),
        ("ff15::1", {"scope": "site-local", "name": None, "block": "Transient groups"}),
        ("ff3e::8000:1", {"ssm": True, "unicast_prefix": None, "reference": "RFC 4607"}),
        ("ff3e:30:2001:db8:1::5", {"ssm": False, "unicast_prefix": "2001:db8:1::/48"}),
        ("ff7e:140:2001:db8:beef:feed::1234", {"rendezvous_point": "2001:db8:beef:feed::1"}),
        ("ff7e:b20:2001:db8::1234", {"rendezvous_point": "2001:db8::b"}),
        ("ff7e:40:2001:db8::1234", {"rendezvous_point": None}),  # RIID 0 is reserved
        ("ff3e:ff:2001:db8::1", {"unicast_prefix": None}),  # longer than 64 bits
        ("ff02::1:ff28:9c5a", {"ethernet": "33:33:ff:28:9c:5a"}),
        ("ff1e::1", {"scope": "global"}),
        ("ff17::1", {"scope": "unassigned"}),
    ],
)
def test_meaning(group: str, expected: dict[str, object]) -> None:
    """Examples of RFC 2365, 3180, 3306, 3956 (section 8), 4291, 4607, 6034."""
    told = meaning.describe(group)._asdict()
    assert {key: told[key] for key in expected} == expected


def test_ethernet_addresses_are_shared_by_32_groups() -> None:
    told = meaning.describe("239.129.1.1")
    assert told.ethernet == "01:00:5e:01:01:01"
    assert len(told.ethernet_shared) == 31
    assert "239.129.1.1" not in told.ethernet_shared
    assert {meaning.ethernet(one) for one in told.ethernet_shared} == {told.ethernet}
    assert "224.1.1.1" in told.ethernet_shared
    assert meaning.describe("ff15::9:1234").ethernet == "33:33:00:09:12:34"


def test_every_group_has_a_meaning() -> None:
    dice = random.Random(SEED)  # noqa: S311
    for _ in range(2000):
        packed = bytes([dice.randrange(224, 240), *dice.randbytes(3)])
        assert meaning.describe(".".join(map(str, packed))).block
        group = address.canonical((b"\xff" + dice.randbytes(15)).hex(":", 2))
        assert meaning.describe(group).scope
    for name in registry.NAMES4:
        assert address.is_multicast(name)
        assert address.canonical(name) == name


# --- rules and warnings by value


def flow(group: str = "239.1.1.1", source: str | None = None, oif: str | None = None) -> rule.Flow:
    return rule.Flow(group, source, oif, 1000)


EVERYTHING = rule.Rule(100, 77, "table", False, None, None, None, None, 0, None, False)


@pytest.mark.parametrize(
    ("changed", "selects"),
    [
        ({}, True),
        ({"destination": "239.1.0.0/16"}, True),
        ({"destination": "239.2.0.0/16"}, False),
        ({"destination": "239.2.0.0/16", "invert": True}, True),
        ({"source": "10.0.0.0/8"}, False),  # no source yet
        ({"oif": "a0"}, False),
        ({"iif": "lo"}, True),
        ({"iif": "a0"}, False),
        ({"mark": 1}, False),
        ({"uids": (0, 999)}, False),
        ({"uids": (1000, 1000)}, True),
        ({"narrower": True}, False),
    ],
)
def test_rules_select(changed: dict[str, Any], selects: bool) -> None:
    assert rule.matches(EVERYTHING._replace(**changed), flow()) is selects


def test_the_first_rule_that_leads_to_a_table() -> None:
    rules = [
        EVERYTHING._replace(priority=300),
        EVERYTHING._replace(priority=200, destination="239.2.0.0/16"),
        EVERYTHING._replace(priority=50, table=78),
        EVERYTHING._replace(priority=40, action="goto"),
    ]
    found = rule.leading_to(rules, 77, flow())
    assert found
    assert found.priority == 300
    assert rule.leading_to(rules, 79, flow()) is None


def test_a_vpn_is_named_before_chance() -> None:
    up = frozenset({"up", "carrier", "multicast"})
    mine = (LinkAddress("10.0.0.1", 24, ()),)
    wired = Link(2, "eth0", None, 1, 1500, None, up, mine)
    tunnel = Link(3, "wg0", "wireguard", 0xFFFE, 1420, None, up, mine)
    route = Route(
        "239.1.1.1",
        "wg0",
        3,
        "10.0.0.1",
        None,
        "multicast",
        "main",
        1,
        "0.0.0.0/0",
        None,
        None,
        None,
        None,
        None,
        "",
    )
    (found,) = fragile(route, {2: wired, 3: tunnel})
    assert found[0] == "default-route-vpn"
    assert "eth0" in found[1]
    tentative = wired._replace(addresses=(LinkAddress("fe80::1", 64, ("tentative",)),))
    assert not tentative.has_address(6)
    assert [link.role for link in (wired, tunnel)] == ["ethernet", "vpn"]


def test_the_machine_itself(here: Place) -> None:
    outcome = here.mcastctl("routes", "239.1.1.1", "-j")
    assert outcome.returncode in (0, 1)
    check_schema(json.loads(outcome.stdout))


def test_verbose_explains_each_joined_group(pair: Pair) -> None:
    """As asking for each by name does; without a route the table says so in its column."""
    a = pair.a
    listed = a.mcastctl("routes")
    lo = next(one.split() for one in listed.stdout.splitlines() if one.startswith("ff01::1 "))
    assert lo[1:7] == ["lo", "-", "-", "no", "route", "-"]
    told = a.mcastctl("routes", "-v")
    assert told.returncode == 0
    groups = [one.split()[0] for one in listed.stdout.splitlines()[1:]]
    heads = [
        one.split()[0].partition("%")[0] for one in told.stdout.splitlines() if one[:1].strip()
    ]
    assert sorted(heads) == sorted(groups)
    assert told.stdout.count("  scope ") == len(groups)

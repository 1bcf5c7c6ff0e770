"""`doctor --self-test` tells whether multicast works here, and stays where it was sent."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import wire
from conftest import Pair
from streams import Json, check_schema
from world import Host, Outcome, World, need

CHECKS = ["any-source", "source-specific", "excluded source", "echo and ping"]
GROUPS = {"233.252.0.123", "232.252.0.123", "ff15::123", "ff35::8000:123"}


def self_test(host: Host, *args: str) -> tuple[int, list[Json]]:
    """Exit status and findings."""
    outcome = host.mcastctl("doctor", "--self-test", "-j", *args, timeout=30)
    assert "Traceback" not in outcome.stderr
    findings = json.loads(outcome.stdout)
    check_schema(findings)
    return outcome.returncode, findings


def lines(outcome: Outcome) -> list[tuple[str, str]]:
    """Mark and title of each line that is a check."""
    return re.findall(r"^(ok|skip|FAIL) +(IPv[46] \S+(?: \S+)*)", outcome.stdout, re.MULTILINE)


def test_all_pass(world: World) -> None:
    a = world.host("a")
    outcome = a.mcastctl("doctor", "--self-test")
    assert outcome.returncode == 0, outcome
    assert lines(outcome) == [
        ("ok", f"IPv{version} {check}") for version in (4, 6) for check in CHECKS
    ]
    assert len(outcome.stdout.splitlines()) == 8
    assert outcome.stderr == "8 checks passed, 0 not run, 0 failed\n"
    assert "sent 3, heard 3" in outcome.stdout.splitlines()[0]
    assert "\x1b" not in outcome.stdout

    status, findings = self_test(a)
    assert status == 0
    assert [one["title"] for one in findings] == [title for _, title in lines(outcome)]
    assert {one["severity"] for one in findings} == {"info"}
    assert {one["hint"] for one in findings} == {""}
    assert len({one["id"] for one in findings}) == 8
    assert {one["id"] for one in findings} >= {
        "self-test-ipv4-any-source",
        "self-test-ipv6-echo-and-ping",
    }
    assert all("on lo: " in one["evidence"][0] for one in findings)
    assert all(group in str(findings) for group in GROUPS)


def test_formats(world: World) -> None:
    a = world.host("a")
    outcome = a.mcastctl("doctor", "--self-test", "-o", "jsonl")
    check_schema(outcome.records)
    assert [one["type"] for one in outcome.records] == ["finding"] * 8
    quiet = a.mcastctl("doctor", "--self-test", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    colored = a.mcastctl("doctor", "--self-test", "--color", "always")
    assert colored.stdout.startswith("\x1b[32mok")
    # Once lo routes IPv6 groups no private namespace is needed.
    assert "private namespace" in outcome.stdout
    a.ip("route add local ff00::/8 dev lo table local")
    assert "private namespace" not in a.mcastctl("doctor", "--self-test").stdout


@pytest.mark.parametrize("privileged", [True, False])
def test_an_ordinary_user_needs_nothing_more(world: World, privileged: bool) -> None:
    outcome = world.host("a").mcastctl("doctor", "--self-test", privileged=privileged)
    assert outcome.returncode == 0
    assert "ok    IPv4 echo and ping" in outcome.stdout
    assert "FAIL" not in outcome.stdout


# --- what fails is said


def test_loopback_down(world: World) -> None:
    a = world.host("a")
    a.ip("link set lo down")
    outcome = a.mcastctl("doctor", "--self-test")
    assert outcome.returncode == 1
    assert lines(outcome) == [("FAIL", f"IPv4 {check}") for check in CHECKS] + [
        ("skip", "IPv6 not tested")
    ]
    assert outcome.stdout.count("network is unreachable (ENETUNREACH)") == 4
    assert outcome.stdout.count("      hint: ") == 4
    assert outcome.stderr == "0 checks passed, 1 not run, 4 failed\n"


def test_a_firewall_that_drops(world: World) -> None:
    need("nft")
    a = world.host("a")
    a.ip("route add local ff00::/8 dev lo table local")
    # Requests to the group are dropped by the kind that their sixth byte tells.
    a.sh(
        "nft 'table inet t { chain c { type filter hook input priority 0;"
        " ip daddr 233.252.0.123 @th,104,8 1 drop; ip6 daddr ff35::8000:123 drop; }; }'"
    )
    status, findings = self_test(a)
    assert status == 1
    failed = {one["title"]: one for one in findings if one["severity"] == "error"}
    assert list(failed) == ["IPv4 echo and ping", "IPv6 source-specific"]
    assert [one["evidence"] for one in failed.values()] == [
        ["no answer to a request by multicast on lo"],
        ["ff35::8000:123 on lo: sent 3, heard 0"],
    ]
    assert all("nft list ruleset" in one["hint"] for one in failed.values())
    assert len(findings) == 8


def test_joins_refused(world: World) -> None:
    a = world.host("a")
    a.sysctl("net.ipv4.igmp_max_memberships", 0)
    outcome = a.mcastctl("doctor", "--self-test")
    assert outcome.returncode == 1
    # Each check has one line, also the one that answers in a process of its own.
    assert lines(outcome) == [
        ("FAIL" if version == 4 else "ok", f"IPv{version} {check}")
        for version in (4, 6)
        for check in CHECKS
    ]
    assert outcome.stdout.count("no buffer space available (ENOBUFS)") == 4
    assert outcome.stderr == "4 checks passed, 0 not run, 4 failed\n"


def test_user_namespaces_forbidden(world: World) -> None:
    a = world.host("a")
    outside = Path("/proc/self/ns/user").readlink()
    # In a user namespace of its own: the limit is counted per namespace and set only there.
    script = f"""
        test "$(readlink /proc/self/ns/user)" != "{outside}"
        echo 0 > /proc/sys/user/max_user_namespaces
        exec {sys.executable} -m mcastctl doctor --self-test
    """
    unshare = ["unshare", "--user", "--map-root-user", "sh", "-euc", script]
    outcome = a.run(unshare, check=False)
    assert outcome.returncode == 0, outcome
    assert lines(outcome) == [("ok", f"IPv4 {check}") for check in CHECKS] + [
        ("skip", "IPv6 not tested")
    ]
    skip, hint = outcome.stdout.splitlines()[-2:]
    assert "cannot make a private network namespace: no space left on device (ENOSPC)" in skip
    assert hint.startswith("      hint: user namespaces are switched off here")
    assert outcome.stderr == "4 checks passed, 1 not run, 0 failed\n"


# --- where it goes


def test_on_an_interface_and_by_no_other(world: World) -> None:
    a, b, c = (world.host(name) for name in "abc")
    world.link(a, b)
    world.link(a, c)
    asked, other = wire.watch(b), wire.watch(c)
    status, findings = self_test(a, "-i", "a0")
    assert status == 0
    assert [one["severity"] for one in findings] == ["info"] * 8
    assert all("on a0: " in one["evidence"][0] for one in findings)
    seen = [one for one in wire.settled(asked, b) if one.protocol == wire.UDP]
    assert {one.dst for one in seen} == GROUPS
    assert {one.ttl for one in seen} == {1}
    assert {one.src for one in seen} == {a.addr4(), a.addr6()}
    assert strays(wire.settled(other, c)) == []
    status, findings = self_test(a, "-i", "a0", "-i", a.addr4("a1"))
    assert (status, len(findings)) == (0, 16)


def test_without_an_interface_nothing_leaves(pair: Pair) -> None:
    a, b = pair
    wired = wire.watch(b)
    assert self_test(a)[0] == 0
    assert strays(wire.settled(wired, b)) == []
    # The same watch does see what the test on the interface says.
    assert self_test(a, "-i", "a0")[0] == 0
    assert {one.dst for one in strays(wire.settled(wired, b))} >= GROUPS


def strays(seen: list[wire.Packet]) -> list[wire.Packet]:
    """UDP, and whatever names a group of the self-test, such as IGMP and MLD reports."""
    groups = [wire.packed(group) for group in GROUPS]
    return [
        one
        for one in seen
        if one.protocol == wire.UDP or any(group in one.payload for group in groups)
    ]


def test_an_interface_with_one_family_only(pair: Pair) -> None:
    a = pair.a
    a.ip("addr flush dev a0 scope global")
    status, findings = self_test(a, "-i", "a0")
    assert (status, findings[0]["severity"]) == (0, "warning")
    assert findings[0]["evidence"] == ["a0 has no IPv4 address"]
    assert [one["severity"] for one in findings[1:]] == ["info"] * 4
    assert f"{a.lladdr()}@ff35::8000:123" in str(findings)


def test_an_interface_that_is_down(pair: Pair) -> None:
    a = pair.a
    a.ip("link set a0 down")
    status, findings = self_test(a, "-i", "a0")
    assert status == 1
    assert {one["severity"] for one in findings[:4]} == {"error"}


# --- usage


@pytest.mark.parametrize("options", [["-i", "nope"], ["-o", "hex"], ["-j", "-o", "text"]])
def test_bad_options(world: World, options: list[str]) -> None:
    outcome = world.host("a").mcastctl("doctor", "--self-test", *options)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert len(outcome.stderr.splitlines()) == 2

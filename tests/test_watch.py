"""`groups --watch` tells joins and leaves as they happen; `--netns` looks into a namespace."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from subprocess import PIPE
from typing import Any

import pytest
from conftest import Pair
from members import ANY, Join, Socket, member
from place import BY_ROOT, ROOT
from streams import Json, Stream
from world import Host, Place, Running, World

from mcastctl.host import netlink, watching
from mcastctl.model.membership import GroupMembership, SourceCount, changes

# Joins an IPv4 group on an interface, leaves at once. argv: group, index.
BRIEF = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
request = struct.pack("@4s4si", socket.inet_aton(sys.argv[1]), b"", int(sys.argv[2]))
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, request)
"""


def watch(host: Host, *args: str) -> Running:
    running = host.start_mcastctl("groups", "--watch", "-j", *args)
    running.wait_stdout('"code":"watching"')
    return running


def ended(running: Running) -> Stream:
    running.signal(signal.SIGINT)
    stream = Stream.of(running.finish())
    assert stream.status == -signal.SIGINT
    return stream


def test_joins_and_leaves_as_they_happen(pair: Pair) -> None:
    a = pair.a
    index = a.ifindex()
    before, _ = member(a, Socket((Join("239.1.1.1", index),)))
    watching_ = watch(a)
    first, fds = member(a, Socket((Join("239.1.1.2", index),), 4, ANY, 5004))
    watching_.wait_stdout('"type":"joined".*239.1.1.2')
    second, _ = member(a, Socket((Join("239.1.1.2", index),), 4, ANY, 5005))
    watching_.wait_stdout('"type":"joined".*239.1.1.2', count=2)
    sources, _ = member(a, Socket((Join("ff35::8000:1", index, "include", ("2001:db8::1",)),), 6))
    watching_.wait_stdout('"type":"joined".*ff35::8000:1')
    for number, process in enumerate((second, sources, first, before), start=1):
        process.finish()
        watching_.wait_stdout('"type":"left"', count=number)  # two at once would be told as one
    stream = ended(watching_)
    joined = [one for one in stream.all("joined")]
    assert [one["group"] for one in joined] == ["239.1.1.2", "239.1.1.2", "ff35::8000:1"]
    assert [one["users"] for one in joined] == [1, 2, 1]
    assert [one["port"] for one in joined] == [5004, 5005, 0]
    assert [[owner["pid"] for owner in one["owners"]] for one in joined] == [
        [first.pid],
        [second.pid],
        [sources.pid],
    ]
    assert joined[0]["owners"][0]["fd"] == fds[0]
    assert (joined[2]["source"], joined[2]["mode"]) == ("2001:db8::1", "include")
    left = stream.all("left")
    assert sorted(one["group"] for one in left) == [
        *("239.1.1.1", "239.1.1.2", "239.1.1.2", "ff35::8000:1"),
    ]
    assert {owner["pid"] for one in left for owner in one["owners"]} == {
        *(first.pid, second.pid, sources.pid, before.pid),
    }
    assert {one["iface"] for one in joined + left} == {"a0"}
    assert (stream.summary["joins"], stream.summary["leaves"]) == (3, 4)


def test_a_membership_shorter_than_a_look(pair: Pair) -> None:
    """Linux announces memberships since 6.14; before, such a short one passes unseen."""
    a = pair.a
    watching_ = watch(a, "239.1.1.9")
    told = announces()
    for number in range(1, 4):
        a.run([sys.executable, "-c", BRIEF, "239.1.1.9", str(a.ifindex())])
        if told:
            watching_.wait_stdout('"type":"left"', count=number)
        a.run([sys.executable, "-c", BRIEF, "239.1.1.8", str(a.ifindex())])
    kept, _ = member(a, Socket((Join("239.1.1.9", a.ifindex()),)))
    watching_.wait_stdout('"type":"joined"', count=4 if told else 1)
    kept.finish()
    stream = ended(watching_)
    if not told:
        pytest.skip("this kernel does not announce memberships")
    assert {one["group"] for one in stream.all("joined")} == {"239.1.1.9"}
    assert len(stream.all("joined")) == 4
    assert len(stream.all("left")) >= 3


def announces() -> bool:
    try:
        netlink.Netlink(groups=(37, 38)).close()
    except OSError:
        return False
    return True


def test_limits_choice_and_text(pair: Pair) -> None:
    a = pair.a
    index = a.ifindex()
    running = a.start_mcastctl("groups", "239.1.1.3", "-i", "a0", "--watch", "-v")
    running.wait_stderr("watching 0 memberships")
    other, _ = member(a, Socket((Join("239.1.1.4", index),)))
    wanted, _ = member(a, Socket((Join("239.1.1.3", index, "include", ("192.0.2.1",)),)))
    running.wait_stdout(
        rf"^[0-9:.]+ joined 239\.1\.1\.3 on a0 \(index {index}\), only 192\.0\.2\.1, by "
        rf"python\S*\[{wanted.pid}\]$"
    )
    running.signal(signal.SIGTERM)
    outcome = running.finish()
    assert outcome.returncode == -signal.SIGTERM
    assert "239.1.1.4" not in outcome.stdout
    assert "1 joined, 0 left" in outcome.stderr
    other.finish()
    began = time.monotonic()
    stream = Stream.of(a.mcastctl("groups", "--watch", "-T", "300ms", "-j"))
    assert time.monotonic() - began < 20
    assert (stream.status, stream.summary["reason"]) == (0, "timeout")
    outcome = a.mcastctl("groups", "--watch", "-T", "0.2s", "-o", "raw")
    assert (outcome.returncode, len(outcome.stderr.splitlines())) == (2, 2)


def row(users: int, *filter_: SourceCount) -> GroupMembership:
    rest: dict[str, Any] = dict.fromkeys(GroupMembership._fields)
    return GroupMembership(**rest | {"users": users, "filter": filter_, "group": "239.1.1.1"})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, row(1), [("joined", None)]),
        (row(1), None, [("left", None)]),
        (row(1), row(3), [("joined", None)]),
        (row(2), row(1), [("left", None)]),
        (row(1), row(1), []),
        (row(1), row(1, SourceCount("s", 1, 0)), [("joined", "s")]),
        (
            row(1, SourceCount("s", 1, 0)),
            row(1, SourceCount("t", 1, 0)),
            [("left", "s"), ("joined", "t")],
        ),
        (row(1), row(1, SourceCount("s", 0, 1)), []),
    ],
)
def test_changes_between_two_looks(
    before: GroupMembership | None,
    after: GroupMembership | None,
    expected: list[tuple[str, str | None]],
) -> None:
    key = (2, "239.1.1.1")
    old, new = ({} if one is None else {key: one} for one in (before, after))
    assert [(event, source) for _, event, source in changes(old, new, [key])] == expected


def test_no_announcement_raises() -> None:
    dice = random.Random(1)  # noqa: S311
    for _ in range(500):
        watching.parse([(56, dice.randbytes(dice.randrange(60)))])
    whole = bytes(20) + (7).to_bytes(4, sys.byteorder) + netlink.attribute(7, bytes([239, 1, 1, 1]))
    assert watching.parse([(56, whole), (99, whole)]) == [
        watching.Announced(joined=True, key=(7, "239.1.1.1"))
    ]


# --- another network namespace


def asked(place: Place, *args: str, **options: Any) -> list[Json]:
    outcome = place.mcastctl(*args, "-j", **options)
    assert (outcome.returncode, outcome.stderr) == (0, ""), outcome
    found: list[Json] = json.loads(outcome.stdout)
    return found


def test_by_pid(pair: Pair) -> None:
    a, b = pair
    index = b.ifindex()
    theirs, _ = member(b, Socket((Join("239.1.1.5", index),), 4, ANY, 5004))
    pid = str(theirs.pid)
    (one,) = asked(a, "groups", "239.1.1.5", "--netns", pid)
    assert (one["iface"], one["ifindex"]) == ("b0", index)
    assert [owner["pid"] for owner in one["owners"]] == [theirs.pid]
    (route,) = asked(a, "routes", "ff15::1", "-i", "b0", "--netns", pid)
    assert route["iface"] == "b0"
    assert [one["name"] for one in asked(a, "ifaces", "--netns", pid)] == ["lo", "b0"]
    assert [one["name"] for one in asked(a, "ifaces")] == ["lo", "a0"]


def test_a_namespace_of_ones_own_needs_no_root(world: World) -> None:
    a = world.host("a")
    script = "echo ready; exec cat"
    holder = a.popen(["unshare", "-U", "-n", "sh", "-c", script], stdin=PIPE, privileged=False)
    holder.wait_stdout("ready")
    (lo,) = asked(a, "ifaces", "--netns", str(holder.pid), privileged=False)
    assert (lo["name"], lo["kind"], lo["up"]) == ("lo", "loopback", False)
    assert a.link("lo")["flags"].count("UP")


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
def test_by_name(here: Place) -> None:
    name = f"mcastctl-test-{os.getpid()}"
    here.run(["ip", "netns", "add", name])
    try:
        assert [one["name"] for one in asked(here, "ifaces", "--netns", name)] == ["lo"]
        assert asked(here, "groups", "--netns", name, "-i", "lo")
        outcome = here.mcastctl("routes", "239.1.1.1", "--netns", name, "-j")
        assert outcome.returncode == 1
        unknown = here.mcastctl("groups", "--netns", f"{name}-not")
        assert name in unknown.stderr.splitlines()[1]
    finally:
        here.run(["ip", "netns", "del", name])


@pytest.mark.parametrize("command", ["routes", "groups", "ifaces"])
@pytest.mark.parametrize("name", ["nope", "../../proc/1/ns/net", "4194305", "٣", ".", "", "1\n"])
def test_namespaces_that_are_none(pair: Pair, command: str, name: str) -> None:
    outcome = pair.a.mcastctl(command, "--netns", name)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    first, second = outcome.stderr.splitlines()
    assert first.startswith("mcastctl: error: ")
    assert second.startswith("hint: ")


def test_a_namespace_that_is_not_ours(pair: Pair) -> None:
    outcome = pair.a.mcastctl("groups", "--netns", "1", privileged=False)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert "cannot enter the network namespace '1'" in outcome.stderr
    assert "root" in outcome.stderr

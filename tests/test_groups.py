"""`groups` says who has joined what as the kernel has it, and names the process by its socket."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import members
import pytest
from conftest import Pair
from hypothesis import given, settings
from hypothesis import strategies as st
from members import ANY, Join, Socket, member
from streams import Json, check_schema
from world import Host, Place, World

from mcastctl.host import memberships, procnet, sockets
from mcastctl.model.membership import SourceCount, interface_filter

SEED = 20_261_122


def show(host: Host, *args: str, status: int = 0, **options: Any) -> list[Json]:
    """What we say."""
    outcome = host.mcastctl("groups", "-j", *args, timeout=30, **options)
    assert (outcome.returncode, outcome.stderr) == (status, ""), outcome
    found: list[Json] = json.loads(outcome.stdout)
    check_schema(found)
    return found


def one_of(host: Host, group: str, *args: str, **options: Any) -> Json:
    (found,) = show(host, group, *args, **options)
    return found


def kernel(host: Host) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """(interface, group) and (interface, link-layer address) that `ip -j maddr` lists."""
    listed = json.loads(host.run(["ip", "-j", "maddr"]).stdout)
    groups, links = set(), set()
    for one in listed:
        for entry in one["maddr"]:
            if "link" in entry:
                links.add((one["ifname"], entry["link"]))
            else:
                groups.add((one["ifname"], entry["address"]))
    return groups, links


def crowded(world: World) -> tuple[Host, list[int]]:
    a = world.host("a")
    for name in "bc":
        world.link(a, world.host(name))
    a.sysctl("net.ipv4.igmp_max_memberships", 100)
    return a, [a.ifindex("a0"), a.ifindex("a1")]


def test_generated_joins_of_every_mode_and_family(world: World) -> None:
    a, ifindexes = crowded(world)
    dice = random.Random(SEED)  # noqa: S311
    both: set[str] = set()
    for _round in range(4):
        generated = [members.some(dice, ifindexes, 4) for _ in range(3)]
        running = [member(a, *sockets_) for sockets_ in generated]
        together = [one for sockets_ in generated for one in sockets_]
        wanted = members.expected(together)
        found = show(a)
        by_key = {(one["ifindex"], one["group"]): one for one in found}
        groups, _links = kernel(a)
        assert {(one["iface"], one["group"]) for one in found} == groups
        assert len(found) == len(groups)
        for key, (mode, sources) in wanted.items():
            one = by_key[key]
            assert (one["mode"], set(one["sources"])) == (mode, sources), (key, one)
            assert one["mode_certain"]
            both.add(mode)
        holders = Counter((join.ifindex, join.group) for one in together for join in one.joins)
        for key, one in by_key.items():
            assert one["users"] == holders[key] + one["by_kernel"], one
            assert len({owner["inode"] for owner in one["owners"]}) == holders[key], one
        check_owners(found, generated, [(each.pid, fds) for each, fds in running])
        check_counts(a, found)
        for each, _fds in running:
            each.finish()
    assert both == {"include", "exclude"}


def check_owners(
    found: list[Json], generated: list[list[Socket]], processes: list[tuple[int, list[int]]]
) -> None:
    """Each socket of each process is named with its own filter, and no other."""
    wanted = {
        (join.ifindex, join.group, pid, fd, join.mode, tuple(sorted(join.sources)), one.port)
        for sockets_, (pid, fds) in zip(generated, processes, strict=True)
        for one, fd in zip(sockets_, fds, strict=True)
        for join in one.joins
    }
    told = {
        (
            *(one["ifindex"], one["group"], owner["pid"], owner["fd"], owner["mode"]),
            *(tuple(sorted(owner["sources"])), owner["port"]),
        )
        for one in found
        for owner in one["owners"]
    }
    assert told == wanted
    assert {owner["evidence"] for one in found for owner in one["owners"]} == {"asked"}


def check_counts(host: Host, found: list[Json]) -> None:
    """The counts per source are those of mcfilter and mcfilter6, read here in another way."""
    theirs = set()
    for line in host.proc("mcfilter").splitlines()[1:]:
        index, _, group, source, including, excluding = line.split()
        numbers = [bytes.fromhex(word.removeprefix("0x")) for word in (group, source)]
        texts = [".".join(map(str, number)) for number in numbers]
        theirs.add((int(index), *texts, int(including), int(excluding)))
    for line in host.proc("mcfilter6").splitlines()[1:]:
        index, _, group, source, including, excluding = line.split()
        texts = [procnet._address6(word) for word in (group, source)]
        theirs.add((int(index), *texts, int(including), int(excluding)))
    ours = {
        (one["ifindex"], one["group"], each["source"], each["including"], each["excluding"])
        for one in found
        for each in one["filter"]
    }
    assert ours == theirs


def test_owners_of_every_kind(pair: Pair) -> None:
    a = pair.a
    index = a.ifindex()
    wildcard, fds = member(a, Socket((Join("239.1.1.1", index),), 4, ANY, 5004))
    unbound, _ = member(a, Socket((Join("239.1.1.1", index, "include", ("192.0.2.1",)),)))
    (one,) = show(a, "239.1.1.1")
    assert (one["users"], one["mode"], one["sources"]) == (2, "exclude", [])
    owners = {owner["pid"]: owner for owner in one["owners"]}
    assert set(owners) == {wildcard.pid, unbound.pid}
    first, second = owners[wildcard.pid], owners[unbound.pid]
    assert (first["fd"], first["local"], first["port"]) == (fds[0], ANY, 5004)
    assert (first["mode"], first["sources"], first["protocol"]) == ("exclude", [], "udp")
    assert (second["local"], second["port"], second["protocol"]) == (None, 0, "udp")
    assert (second["mode"], second["sources"]) == ("include", ["192.0.2.1"])
    assert first["name"].startswith("python")
    unbound.finish()
    assert [owner["pid"] for owner in one_of(a, "239.1.1.1")["owners"]] == [wildcard.pid]


def test_sockets_that_are_not_of_the_groups_family(pair: Pair) -> None:
    """An IPv6 socket joins an IPv4 group (as Java does); a raw socket joins too."""
    a = pair.a
    index = a.ifindex()
    dual, _ = member(a, Socket((Join("239.1.1.2", index),), 6, "::", 5004))
    raw, _ = member(a, Socket((Join("224.0.0.5", index),), 4, raw=89))
    found = one_of(a, "239.1.1.2")["owners"]
    assert [(owner["pid"], owner["protocol"]) for owner in found] == [(dual.pid, "udp6")]
    found = one_of(a, "224.0.0.5")["owners"]
    assert [(owner["pid"], owner["protocol"]) for owner in found] == [(raw.pid, "raw")]


def test_a_socket_shared_by_two_processes(pair: Pair) -> None:
    a = pair.a
    script = (
        "import os, socket, sys, struct, signal\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.setsockopt(0, 35, struct.pack('@4s4si', bytes([239, 1, 1, 3]), b'', int(sys.argv[1])))\n"
        "child = os.fork()\n"
        "print('forked', child, flush=True) if child else None\n"
        "signal.pause()\n"
    )
    parent = a.popen([sys.executable, "-c", script, str(a.ifindex())])
    child = int(parent.wait_stdout(r"forked (\d+)")[1])
    one = one_of(a, "239.1.1.3")
    assert one["users"] == 1
    assert {owner["pid"] for owner in one["owners"]} == {parent.pid, child}
    assert len({owner["inode"] for owner in one["owners"]}) == 1
    assert one["notes"] == []


def test_sockets_of_another_namespace_are_not_ours(pair: Pair) -> None:
    a, b = pair
    theirs, _ = member(b, Socket((Join("239.1.1.4", b.ifindex()),), 4, ANY, 5004))
    assert show(a, "239.1.1.4", status=1) == []
    ours, _ = member(a, Socket((Join("239.1.1.4", a.ifindex()),), 4, ANY, 5004))
    assert [owner["pid"] for owner in one_of(a, "239.1.1.4")["owners"]] == [ours.pid]
    assert [owner["pid"] for owner in one_of(b, "239.1.1.4")["owners"]] == [theirs.pid]


def test_what_may_not_be_asked_is_said(pair: Pair) -> None:
    """Without rights to trace: a privileged process's socket, bound to the group or to nothing."""
    a = pair.a
    index = a.ifindex()
    member(a, Socket((Join("239.1.1.5", index),), 4, "239.1.1.5", 5004))
    member(a, Socket((Join("239.1.1.6", index),), 4))
    for group in ("239.1.1.5", "239.1.1.6"):
        one = one_of(a, group, privileged=False)
        assert (one["users"], one["mode"], one["sources"]) == (1, "exclude", [])
        assert not [owner for owner in one["owners"] if owner["evidence"] == "asked"]
        (note,) = one["notes"]
        assert f"{group} on a0: 1 of 1 users could not be asked" in note
        assert "root" in note
    outcome = a.mcastctl("groups", "239.1.1.5", privileged=False)
    assert outcome.returncode == 0
    assert "note: 239.1.1.5 on a0: 1 of 1 users" in outcome.stderr


def test_an_ordinary_user_finds_his_own(pair: Pair) -> None:
    a = pair.a
    join = Join("239.1.1.7", a.ifindex(), "include", ("192.0.2.7",))
    mine, fds = member(a, Socket((join,), 4, ANY, 5004), privileged=False)
    one = one_of(a, "239.1.1.7", privileged=False)
    (owner,) = one["owners"]
    assert (owner["pid"], owner["fd"], owner["sources"]) == (mine.pid, fds[0], ["192.0.2.7"])
    assert one["notes"] == []


def test_filters_that_the_kernel_does_not_list(pair: Pair) -> None:
    """An interface whose newest group has no sources: of the others nothing is asserted."""
    a, index = pair.a, pair.a.ifindex()
    joins = {
        "232.1.1.8": (4, "include", ("192.0.2.7",)),
        "ff35::8000:8": (6, "include", ("2001:db8::7",)),
    }
    for group, (version, mode, sources) in joins.items():
        member(a, Socket((Join(group, index, mode, sources),), version))
        one = one_of(a, group, privileged=False)
        assert (one["mode"], one["sources"]) == (mode, list(sources))
    for group, version in (("239.1.1.9", 4), ("ff15::9", 6)):
        member(a, Socket((Join(group, index),), version))
    for group in joins:
        assert not one_of(a, group, privileged=False)["mode_certain"]
        told = one_of(a, group)  # who may ask the sockets knows all the same
        assert (told["mode"], told["mode_certain"]) == ("include", True)
    for group in ("239.1.1.9", "ff15::9", "224.0.0.1"):
        assert one_of(a, group, "-i", "a0", privileged=False)["mode_certain"]


def test_versions_timers_and_link_layer(pair: Pair) -> None:
    a, b = pair
    a.sysctl("net.ipv4.conf.a0.force_igmp_version", 2)
    a.sysctl("net.ipv6.conf.a0.force_mld_version", 1)
    index = a.ifindex()
    member(a, Socket((Join("239.1.1.8", index),)), Socket((Join("ff15::8", index),), 6))
    four, six = one_of(a, "239.1.1.8"), one_of(a, "ff15::8")
    assert (four["protocol"], four["forced"], four["older_querier"]) == ("IGMPv2", True, False)
    assert (six["protocol"], six["forced"]) == ("MLDv1", True)
    assert (four["ethernet"], four["ethernet_filtered"]) == ("01:00:5e:01:01:08", True)
    assert (six["ethernet"], six["ethernet_filtered"]) == ("33:33:00:00:00:08", True)
    assert four["timer_s"] is not None  # an IGMPv2 report is repeated (RFC 2236 section 3)
    assert 0 <= four["timer_s"] <= 10
    everything = show(a, "--all")
    _groups, links = kernel(a)
    ours = {(one["iface"], one["group"]) for one in everything if one["family"] == "link"}
    assert ours == links
    assert one_of(b, "224.0.0.1", "-i", "b0")["protocol"] == "IGMPv3"
    assert one_of(b, "224.0.0.1", "-i", "b0")["by_kernel"]


def test_choosing_and_text(pair: Pair) -> None:
    a = pair.a
    index = a.ifindex()
    join = Join("232.1.1.9", index, "include", ("192.0.2.1", "192.0.2.2"))
    running, _ = member(a, Socket((join,), 4, ANY, 5004))
    assert {one["iface"] for one in show(a, "-i", "a0")} == {"a0"}
    assert {one["iface"] for one in show(a, "-i", str(index), "-i", "lo")} == {"a0", "lo"}
    assert len(show(a, "232.1.1.8+1", status=1)) == 1
    assert show(a, "239.9.9.9", status=1) == []
    assert a.mcastctl("groups", "232.1.1.9", "-q").returncode == 0
    text = a.mcastctl("groups", "232.1.1.9", check=True)
    heading, line = text.stdout.splitlines()
    assert heading.split() == ["IFACE", "GROUP", "FILTER", "USERS", "TIMER", "BY", "OWNERS"]
    assert "only 192.0.2.1 192.0.2.2" in line
    assert re.search(rf"python\S*\[{running.pid}\]:5004$", line)
    assert text.stderr == ""
    for args in (["10.0.0.1"], ["x"], ["-i", "nope"], ["-o", "raw"], ["-T", "60s"]):
        outcome = a.mcastctl("groups", *args)
        assert (outcome.returncode, outcome.stdout) == (2, "")
        assert len(outcome.stderr.splitlines()) == 2


def test_a_thousand_memberships_in_a_second(pair: Pair) -> None:
    a = pair.a
    a.sysctl("net.ipv4.igmp_max_memberships", 1000)
    index = a.ifindex()
    sockets_ = [
        Socket(tuple(Join(f"239.7.{high}.{low}", index) for low in range(20)), 4, ANY, 5004)
        for high in range(50)
    ]
    running, _ = member(a, *sockets_)
    for privileged in (True, False):
        before = os.times()
        found = show(a, privileged=privileged)
        after = os.times()
        assert len(found) >= 1000
        # Its own time, whatever else this machine does: 0.2 s and the same again for the kernel's.
        took = sum(after[2:4]) - sum(before[2:4])
        assert took < 1, took
        if privileged:
            owners = [one["owners"] for one in found if one["group"].startswith("239.7.")]
            assert {owner["pid"] for (owner,) in owners} == {running.pid}


EVIL = """
import ctypes, signal, socket, struct, sys
ctypes.CDLL(None).prctl(15, b"ev\\x1b[31m\\xff il")  # PR_SET_NAME
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(0, 35, struct.pack("@4s4si", bytes([239, 1, 1, 1]), b"", int(sys.argv[1])))
print("joined", flush=True)
signal.pause()
"""


def test_strange_names_do_no_harm(world: World) -> None:
    a = world.host("a")
    names = ["\udcff\udcfe", "e\x1b[31mX", "\u202ebidi", "x\x1cy", "-j"]
    for number, name in enumerate(names):
        a.run(["ip", "link", "add", "name", name, "type", "veth", "peer", "name", f"p{number}"])
        a.run(["ip", "link", "set", "dev", name, "up"])
        a.run(["ip", "addr", "add", f"10.0.{number}.1/24", "dev", name])
    a.run(["ip", "link", "add", "name", "br\x1b[0m", "type", "bridge"])
    a.run(["ip", "link", "set", "p0", "master", "br\x1b[0m"])
    index = show_interfaces(a)["e\x1b[31mX"]
    a.popen([sys.executable, "-c", EVIL, str(index)]).wait_stdout("joined")
    for args in (["groups"], ["routes"], ["ifaces"], ["routes", "--bridge", "--forwarding"]):
        outcome = a.mcastctl(*args)
        assert outcome.returncode == 0, outcome
        shown = (outcome.stdout + outcome.stderr).replace("\n", "")
        assert shown.isprintable(), args
    text = a.mcastctl("groups", "239.1.1.1").stdout
    assert "ev\\x1b[31m" in text
    assert "e\\x1b[31mX" in text
    for name in names:
        for command in (["groups"], ["routes", "239.1.1.1"]):
            assert a.mcastctl(*command, "-i", name).returncode == 0, (command, name)


def show_interfaces(host: Host) -> dict[str, int]:
    found = json.loads(host.mcastctl("ifaces", "-j").stdout)
    return {one["name"]: one["index"] for one in found}


# --- text of /proc that is not what it should be

IGMP = (
    "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
    "1\tlo        :     1      V3\n"
    "\t\t\t\t010000E0     1 0:00000000\t\t0\n"
    "12\ta0        :     2      V2\n"
    "\t\t\t\t010101EF     3 1:00000064\t\t1\n"
    "13\tenp0s31f6u1u2d3:   1      V1\n"
    "14\tbad       :     1      V9\n"
    "\t\t\t\t020101EF     1 0:00000000\t\t0\n"
    "15\tcut       :\n"
    "٣\tarabic    :     1      V3\n"
    "99999999999\tbig       :     1      V3\n"
    "garbage\n"
)


@pytest.mark.skipif(sys.byteorder != "little", reason="written on a little-endian machine")
def test_igmp_text() -> None:
    assert procnet.igmp_versions(IGMP) == {1: 3, 12: 2, 13: 1}
    ticks = os.sysconf("SC_CLK_TCK")
    assert procnet.igmp(IGMP) == [
        procnet.Joined(1, "224.0.0.1", 1, None),
        procnet.Joined(12, "239.1.1.1", 3, 100 / ticks),
    ]


def test_other_texts() -> None:
    group = "ff150000000000000000000000000001"
    source = "20010db8000000000000000000000009"
    assert procnet.igmp6(f"12   a b c           {group}     2 00000001 50\nx\n") == [
        procnet.Joined(12, "ff15::1", 2, 50 / os.sysconf("SC_CLK_TCK"))
    ]
    assert procnet.mcfilter(
        "Idx Device        MCA        SRC    INC    EXC\n"
        "  2 a0        0xef010101 0xc0000201      1      0\n  2 a0 0xef010101\n"
    ) == [procnet.Filtered(2, "239.1.1.1", "192.0.2.1", 1, 0)]
    assert procnet.mcfilter6(f"  2 veryla {group} {source}      0      2\n") == [
        procnet.Filtered(2, "ff15::1", "2001:db8::9", 0, 2)
    ]
    assert procnet.dev_mcast("2    a0              1     0     01005e000001\n") == [
        procnet.LinkLayer(2, "01:00:5e:00:00:01", 1, 0)
    ]
    line = (
        "   73: 00000000:138C 00000000:0000 07 00000000:00000300 00:00000000 00000000"
        "  1000        0 4711 2 0000000000000000 5\n"
    )
    (one,) = sockets.parse("udp", f"  sl  local_address\n{line}")
    assert (one.port, one.uid, one.inode, one.drops, one.receive_queue) == (
        5004,
        1000,
        4711,
        5,
        768,
    )
    assert one.wildcard


def test_sockets_as_sock_diag_has_them() -> None:
    """Sockets of this process on loopback; nothing is sent."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        four.bind(("127.0.0.1", 0))
        four.connect(("127.0.0.1", 9))
        four.setsockopt(socket.IPPROTO_IP, 49, 0)  # IP_MULTICAST_ALL
        four.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        six.bind(("::", 0))
        found = sockets.bound()
        one = found[os.fstat(four.fileno()).st_ino]
        assert (one.local, one.port) == four.getsockname()
        assert (one.remote, one.remote_port, one.wildcard) == ("127.0.0.1", 9, False)
        assert (one.multicast_all, one.multicast_loop, one.option_bytes) == (False, False, 0)
        four.setsockopt(socket.IPPROTO_IP, 49, 1)
        assert sockets.bound()[one.inode].multicast_all is True
        with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
            others = sockets.of_other_kinds()
            assert {os.fstat(one.fileno()).st_ino for one in (unix, tcp)} <= others
        assert not others & found.keys()
        other = found[os.fstat(six.fileno()).st_ino]
        assert (other.protocol, other.wildcard, other.v6only) == ("udp6", True, True)
        assert other.multicast_all is None


@given(st.binary(min_size=88, max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_answer_of_sock_diag_raises(message: bytes) -> None:
    sockets.detail(message)


PARSERS: list[Callable[[str], object]] = [
    *(procnet.igmp, procnet.igmp_versions, procnet.igmp6, procnet.mcfilter, procnet.mcfilter6),
    *(procnet.dev_mcast, lambda text: sockets.parse("udp", text)),
]


@given(st.text() | st.text("0123456789abcdefABCDEFV:x \t\n.-٣", max_size=400))
@settings(max_examples=300, deadline=None)
def test_no_text_raises(text: str) -> None:
    for parser in PARSERS:
        parser(text)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_damaged_text_raises(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([IGMP, "12   a0   " + "f" * 32 + "     2 00000001 50\n"]))
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + data.draw(st.text(max_size=5)) + whole[at + 1 :]
    for parser in PARSERS:
        parser(damaged)


def test_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(procnet, "ROOT", tmp_path)
    with pytest.raises(procnet.ProcError, match="cannot read the memberships"):
        memberships.memberships()
    assert memberships.link_layer_memberships() == []
    (tmp_path / "igmp").write_bytes(b"\xff\xfe\x00" * 100)
    (tmp_path / "igmp6").mkdir()
    assert memberships.memberships() == []


# --- what the counts alone allow to say


@pytest.mark.parametrize(
    ("users", "counts", "expected"),
    [
        (1, [], ("exclude", (), True)),
        (1, [("a", 1, 0)], ("include", ("a",), True)),
        (2, [("a", 2, 0), ("b", 1, 0)], ("include", ("a", "b"), True)),
        (2, [("a", 1, 0)], ("exclude", (), True)),  # the other socket joined from anywhere
        (2, [("a", 1, 0), ("b", 1, 0)], ("include", ("a", "b"), False)),  # or one of each
        (1, [("a", 0, 1)], ("exclude", ("a",), True)),
        (2, [("a", 0, 1)], ("exclude", (), True)),
        (2, [("a", 0, 2), ("b", 0, 1)], ("exclude", ("a",), True)),
        (2, [("a", 1, 1)], ("exclude", (), True)),
        (2, [("a", 1, 0), ("b", 0, 1)], ("exclude", ("b",), True)),
        (0, [], ("exclude", (), True)),
    ],
)
def test_filters_by_counts(
    users: int, counts: list[tuple[str, int, int]], expected: tuple[str, tuple[str, ...], bool]
) -> None:
    assert interface_filter(users, [SourceCount(*one) for one in counts]) == expected


@given(
    st.lists(
        st.tuples(st.booleans(), st.sets(st.sampled_from("abc"), max_size=3)),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=500, deadline=None)
def test_a_certain_filter_is_the_true_one(filters: list[tuple[bool, set[str]]]) -> None:
    """Counted as the kernel counts, and judged by RFC 3376 section 3.2."""
    filters = [(include, sources) for include, sources in filters if sources or not include]
    counts = [
        SourceCount(
            source,
            sum(include and source in sources for include, sources in filters),
            sum(not include and source in sources for include, sources in filters),
        )
        for source in "abc"
    ]
    counts = [one for one in counts if one.including or one.excluding]
    mode, sources, certain = interface_filter(len(filters), counts)
    excluding = [each for include, each in filters if not include]
    included = {one for include, each in filters if include for one in each}
    if certain and filters:
        truth = ("exclude", set.intersection(*excluding) - included) if excluding else ()
        assert (mode, set(sources)) == (truth or ("include", included))


def test_the_machine_itself(here: Place) -> None:
    outcome = here.mcastctl("groups", "-j")
    assert outcome.returncode == 0
    check_schema(json.loads(outcome.stdout))

"""`routes --forwarding` and `--bridge` say what iproute2 says, of real daemons and real bridges."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wire
from frr import speaking_pim
from hypothesis import given, settings
from hypothesis import strategies as st
from members import Join, Socket, member
from place import BY_ROOT, ROOT, until
from streams import Json, check_schema
from world import Host, Place, Running, World, need

from mcastctl.host import forwarding, netlink

# Holds the routing socket and adds what static daemons never do: a register interface, an entry
# that leads nowhere. argv: index of the incoming and of the outgoing interface.
DAEMON = """
import signal, socket, struct, sys
incoming, outgoing = map(int, sys.argv[1:])
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
sock.setsockopt(0, 200, 1)  # MRT_INIT
sock.setsockopt(0, 208, 1)  # MRT_PIM
for vif, (flags, threshold, index) in enumerate([(8, 1, incoming), (8, 5, outgoing), (4, 1, 0)]):
    value = struct.pack("@HBBIi4s", vif, flags, threshold, 0, index, bytes(4))
    sock.setsockopt(0, 202, value)  # MRT_ADD_VIF, struct vifctl
def entry(source, group, parent, thresholds):
    ttls = bytes(thresholds).ljust(32, bytes(1))
    value = socket.inet_aton(source) + socket.inet_aton(group) + struct.pack("@H", parent) + ttls
    sock.setsockopt(0, 204, value.ljust(60, bytes(1)))  # MRT_ADD_MFC, struct mfcctl
entry("10.0.1.2", "239.1.1.1", 0, [0, 5, 1])
entry("10.0.1.2", "239.1.1.2", 0, [])
entry("10.0.9.9", "239.1.1.3", 1, [1])
print("ready", flush=True)
signal.pause()
"""


def show(host: Host, *args: str, **options: Any) -> dict[str, list[Json]]:
    """What we say, by type."""
    outcome = host.mcastctl("routes", "-j", *args, **options)
    assert (outcome.returncode, outcome.stderr) == (0, ""), outcome
    records = json.loads(outcome.stdout)
    check_schema(records)
    found: dict[str, list[Json]] = {}
    for one in records:
        found.setdefault(one["type"], []).append(one)
    return found


def router(world: World) -> Host:
    """A host between three networks."""
    r = world.host("r")
    for name in "abc":
        world.link(r, world.host(name))
    return r


def mroutes(host: Host) -> set[tuple[Any, ...]]:
    """The forwarding cache as `ip -j mroute` has it."""
    found = set()
    for family in ("-4", "-6"):
        listed = json.loads(host.run(["ip", family, "-j", "-s", "mroute"]).stdout)
        for one in listed:
            oifs = tuple((hop["oif"], hop.get("ttl", 1)) for hop in one.get("multipath", []))
            incoming = None if one.get("iif") == "unresolved" else one.get("iif")
            found.add(
                (
                    *(one["src"], one["dst"], incoming, oifs, one["state"]),
                    *(one.get("packets"), one.get("bytes"), one.get("wrong_if", 0)),
                )
            )
    return found


def ours(found: dict[str, list[Json]]) -> set[tuple[Any, ...]]:
    return {
        (
            *(one["source"], one["group"], one["iface"]),
            tuple((oif["iface"], oif["threshold"]) for oif in one["oifs"]),
            *(one["state"], one["packets"], one["bytes"], one["wrong_iif"] or 0),
        )
        for one in found.get("forwarding_entry", [])
    }


def test_a_host_that_forwards_nothing(world: World) -> None:
    found = show(world.host("a"), "--forwarding")
    assert set(found) == {"forwarding"}
    for one, family in zip(found["forwarding"], ("ipv4", "ipv6"), strict=True):
        assert (one["family"], one["mc_forwarding"], one["entries"]) == (family, False, 0)
        assert one["holders"] == one["interfaces"] == []
        assert "nothing is forwarded" in one["notes"][0]


def smcroute(host: Host, folder: Path) -> Running:
    (folder / "conf").write_text(
        "phyint r0 enable\nphyint r1 enable ttl-threshold 3\nphyint r2 enable\n"
    )
    daemon = host.popen(
        [
            *("smcrouted", "-n", "-N", "-l", "none", "-f", folder / "conf"),
            *("-P", folder / "pid", "-u", folder / "socket"),
        ]
    )
    until((folder / "socket").exists)
    return daemon


def test_what_smcroute_forwards(world: World, tmp_path: Path) -> None:
    need("smcrouted", "smcroutectl")
    r = router(world)
    daemon = smcroute(r, tmp_path)

    def control(*words: str) -> None:
        r.run(["smcroutectl", "-u", tmp_path / "socket", *words])

    control("add", "r0", "10.0.1.2", "239.1.1.1", "r1", "r2")
    control("add", "r1", "239.1.1.9", "r0")
    control("add", "r0", "fd00:1::2", "ff15::1", "r1")
    frames = [wire.udp("10.0.1.2", 9, "239.1.1.1", 9, bytes(50))] * 20
    wire.inject(world._hosts["a"], frames)
    until(lambda: any(one[5] == 20 for one in mroutes(r)))
    found = show(r, "--forwarding")
    theirs = mroutes(r)
    assert ours(found) == theirs
    assert len(theirs) >= 2
    assert {one[0] for one in theirs} >= {"10.0.1.2", "fd00:1::2"}
    four, six = found["forwarding"]
    for one in (four, six):
        assert one["mc_forwarding"] is True
        assert one["interfaces"] == ["r0", "r1", "r2"]
        assert [holder["pid"] for holder in one["holders"]] == [daemon.pid]
        assert one["holders"][0]["name"] == "smcrouted"
    vifs = {(one["family"], one["vif"], one["iface"]) for one in found["forwarding_interface"]}
    assert vifs == {(family, vif, f"r{vif}") for family in ("ipv4", "ipv6") for vif in range(3)}
    passed = {
        one["iface"]: (one["packets_in"], one["packets_out"])
        for one in found["forwarding_interface"]
        if one["family"] == "ipv4"
    }
    assert passed["r0"][0] >= 20
    only = show(r, "--forwarding", "ff15::1", "-i", "r0")
    assert [one["group"] for one in only["forwarding_entry"]] == ["ff15::1"]
    text = r.mcastctl("routes", "--forwarding", check=True).stdout
    assert f"smcrouted[{daemon.pid}]" in text
    assert re.search(r"10\.0\.1\.2 +239\.1\.1\.1 +r0 +r1>3 r2>1 +20 +0 ", text), text


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
def test_what_frr_forwards(world: World, here: Place) -> None:
    need("vtysh")
    r = router(world)
    with speaking_pim(here, r, "r0", "r1") as pimd:
        until(lambda: "r1" in r.proc("ip_mr_vif"), 30)
        b = world._hosts["b"]
        member(b, Socket((Join("232.1.1.1", b.ifindex(), "include", ("10.0.1.2",)),)))
        until(lambda: bool(mroutes(r)), 30)
        wire.inject(world._hosts["a"], [wire.udp("10.0.1.2", 9, "232.1.1.1", 9, bytes(50))] * 9)
        until(lambda: any(one[5] == 9 for one in mroutes(r)))
        found = show(r, "--forwarding")
        assert ours(found) == mroutes(r)
        (entry,) = found["forwarding_entry"]
        assert (entry["source"], entry["group"], entry["iface"]) == ("10.0.1.2", "232.1.1.1", "r0")
        assert [oif["iface"] for oif in entry["oifs"]] == ["r1"]
        kinds = {one["iface"]: one["kind"] for one in found["forwarding_interface"]}
        assert kinds == {"pimreg": "register", "r0": "physical", "r1": "physical"}
        seen = here.mcastctl("routes", "--forwarding", "--netns", str(r.pid), "-j", check=True)
        holders = json.loads(seen.stdout)[0]["holders"]
        assert {(one["name"], one["pid"]) for one in holders} == {("pimd", pimd.pid)}


def test_registers_dead_ends_and_wrong_interfaces(world: World) -> None:
    r = router(world)
    indexes = [str(r.ifindex(name)) for name in ("r0", "r1")]
    daemon = r.popen([sys.executable, "-c", DAEMON, *indexes])
    daemon.wait_stdout("ready")
    a = world._hosts["a"]
    wire.inject(a, [wire.udp("10.0.1.2", 9, "239.1.1.2", 9, bytes(9))] * 3)
    wire.inject(a, [wire.udp("10.0.9.9", 9, "239.1.1.3", 9, bytes(9))] * 4)
    wire.inject(a, [wire.udp("10.0.1.2", 9, "239.1.1.7", 9, bytes(9))])  # nobody resolves this
    until(lambda: any(one[7] == 4 for one in mroutes(r)))
    until(lambda: any(one[4] == "unresolved" for one in mroutes(r)))
    found = show(r, "--forwarding")
    assert ours(found) == mroutes(r)
    entries = {one["group"]: one for one in found["forwarding_entry"]}
    assert entries["239.1.1.1"]["oifs"][0]["threshold"] == 5
    assert entries["239.1.1.2"]["oifs"] == []
    assert entries["239.1.1.3"]["wrong_iif"] == 4
    assert (entries["239.1.1.7"]["state"], entries["239.1.1.7"]["iface"]) == ("unresolved", None)
    kinds = {one["vif"]: one["kind"] for one in found["forwarding_interface"]}
    assert kinds == {0: "physical", 1: "physical", 2: "register"}
    four = found["forwarding"][0]
    assert (four["entries"], four["unresolved"]) == (4, 1)
    assert [holder["pid"] for holder in four["holders"]] == [daemon.pid]
    hidden = show(r, "--forwarding", privileged=False)["forwarding"][0]
    assert hidden["mc_forwarding"] is True
    assert hidden["holders"] == []
    assert "root" in hidden["notes"][0] or "pid namespace" in hidden["notes"][0]


# --- bridges


def mdb(host: Host) -> set[tuple[Any, ...]]:
    """The multicast database as `bridge -j mdb` has it."""
    (listed,) = json.loads(host.run(["bridge", "-d", "-j", "mdb"]).stdout)
    return {
        (
            *(one["dev"], one["port"], one["grp"], one.get("src"), one.get("vid")),
            *(one["state"], tuple(one["flags"]), one.get("filter_mode")),
            tuple(sorted(source["address"] for source in one.get("source_list", []))),
        )
        for one in listed["mdb"]
    }


def our_mdb(found: dict[str, list[Json]]) -> set[tuple[Any, ...]]:
    return {
        (
            *(one["bridge"], one["port"], one["group"], one["source"], one["vlan"]),
            *(one["state"], tuple(one["flags"]), one["mode"], tuple(sorted(one["sources"]))),
        )
        for one in found.get("mdb", [])
    }


@pytest.mark.parametrize(
    ("snooping", "querier", "version"),
    [(0, 0, 2), (1, 0, 2), (1, 1, 2), (1, 1, 3)],
    ids=["off", "no querier", "querier", "querier v3"],
)
def test_what_a_bridge_knows(world: World, snooping: int, querier: int, version: int) -> None:
    hosts = [world.host(name) for name in "abc"]
    world.bridge("sw", *hosts, snooping=bool(snooping))
    anchor = world.anchor
    versions = f"mcast_igmp_version {version} mcast_mld_version {version - 1}"
    anchor.ip(f"link set sw type bridge {versions} mcast_querier {querier}")
    b = hosts[1]
    index = b.ifindex()
    member(
        b,
        Socket((Join("239.1.1.1", index),)),
        Socket((Join("232.1.1.1", index, "include", ("192.0.2.1", "192.0.2.2")),)),
        Socket((Join("239.1.1.2", index, "exclude", ("192.0.2.3",)),)),
        Socket((Join("ff15::1", index),), 6),
    )
    if snooping:
        anchor.sh("bridge mdb add dev sw port sw-c0 grp 239.9.9.9 permanent")
        until(lambda: {"239.1.1.1", "232.1.1.1", "ff15::1"} <= {one[2] for one in mdb(anchor)})
    settle(lambda: mdb(anchor))
    found = show(anchor, "--bridge")
    theirs = mdb(anchor)
    assert our_mdb(found) == theirs
    assert bool(theirs) == bool(snooping)
    (bridge,) = found["bridge"]
    assert (bridge["iface"], bridge["snooping"], bridge["querier"]) == (
        "sw",
        bool(snooping),
        bool(querier),
    )
    assert (bridge["igmp_version"], bridge["mld_version"]) == (version, version - 1)
    assert {port["iface"] for port in bridge["ports"]} == {"sw-a0", "sw-b0", "sw-c0"}
    assert {port["state"] for port in bridge["ports"]} == {"forwarding"}
    assert all(port["flood"] for port in bridge["ports"])
    assert bool(bridge["notes"]) == (not querier)
    if querier:
        assert [one["port"] for one in bridge["queriers"] if one["family"] == "ipv4"] == [None]
    if version == 3 and querier:
        sources = {one["source"] for one in found["mdb"] if one["group"] == "232.1.1.1"}
        assert {"192.0.2.1", "192.0.2.2"} <= sources
    text = anchor.mcastctl("routes", "--bridge", check=True).stdout
    assert f"snooping {'on' if snooping else 'off'}" in text


def settle(look: Callable[[], object]) -> None:
    """Wait until two looks see the same: reports of the joins are still on their way."""
    before = look()
    deadline = time.monotonic() + 30
    same = 0
    while same < 5:
        time.sleep(0.1)
        now = look()
        same = same + 1 if now == before else 0
        before = now
        assert time.monotonic() < deadline


def test_port_flags_and_a_querier_elsewhere(world: World) -> None:
    hosts = [world.host(name) for name in "ab"]
    world.bridge("sw", *hosts, snooping=True)
    anchor = world.anchor
    anchor.sh(
        "bridge link set dev sw-a0 mcast_flood off fastleave on\n"
        "ip link set dev sw-b0 type bridge_slave mcast_router 2"
    )
    query = bytes.fromhex("1164ee9b00000000")
    head = bytes.fromhex("46c00020000040000102") + bytes(2) + bytes([10, 0, 1, 1, 224, 0, 0, 1])
    head += bytes.fromhex("94040000")
    frame = bytes.fromhex("01005e000001020000000101") + b"\x08\x00" + head[:10]
    wire.inject(hosts[0], [frame + wire.checksum(head).to_bytes(2) + head[12:] + query])
    until(lambda: bool(show(anchor, "--bridge")["bridge"][0]["queriers"]))
    (bridge,) = show(anchor, "--bridge")["bridge"]
    ports = {port["iface"]: port for port in bridge["ports"]}
    assert (ports["sw-a0"]["flood"], ports["sw-a0"]["fast_leave"]) == (False, True)
    assert (ports["sw-b0"]["flood"], ports["sw-b0"]["router"]) == (True, "always")
    assert set(bridge["router_ports"]) == {"sw-a0", "sw-b0"}
    (querier,) = bridge["queriers"]
    assert (querier["address"], querier["port"]) == ("10.0.1.1", "sw-a0")
    assert bridge["notes"] == []
    assert show(hosts[0], "--bridge") == {}
    assert hosts[0].mcastctl("routes", "--bridge").stdout == "no bridge\n"


def test_an_ordinary_user_sees_the_same(world: World) -> None:
    hosts = [world.host(name) for name in "ab"]
    world.bridge("sw", *hosts, snooping=True, querier=True)
    root, user = (show(world.anchor, "--bridge", privileged=way)["bridge"] for way in (True, False))
    for one in (*root, *user):
        one["queriers"] = []  # their timers run
    assert root == user


# --- damaged answers


@given(st.binary(max_size=200), st.sampled_from([4, 6]))
@settings(max_examples=300, deadline=None)
def test_no_message_raises(data: bytes, version: int) -> None:
    forwarding.entry(bytes(28) + data, version, {})
    list(forwarding._vifs(bytes(32) + data, {}))
    list(netlink.attributes(data))
    list(netlink.messages(data))


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_no_text_raises(text: str) -> None:
    forwarding.vifs_of_text(4, text, {})


def test_interfaces_by_text() -> None:
    text = (
        "Interface      BytesIn  PktsIn  BytesOut PktsOut Flags Local    Remote\n"
        " 0 a0               29       1         0       0 00008 00000003 00000000\n"
        " 1 pimreg            0       0        58       2 00004 00000005 00000000\n"
    )
    first, second = forwarding.vifs_of_text(4, text, {3: "a0"})
    assert (first.iface, first.ifindex, first.bytes_in, first.kind) == ("a0", 3, 29, "physical")
    assert (second.iface, second.packets_out, second.kind) == ("pimreg", 2, "register")

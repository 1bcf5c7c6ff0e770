"""`ifaces` says of every interface what the kernel says, whatever the interface is called."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import psutil
import pytest
import wire
from conftest import Pair
from streams import Json, Stream, check_schema
from world import Host, Place, World, need

from mcastctl.host import interfaces, knobs, procnet

LONG = "2001:db8:1:2:a8bb:ccff:fedd:eeff"


def show(host: Host, *args: str) -> dict[str, Json]:
    """The interfaces by name, as JSON has them."""
    outcome = host.mcastctl("ifaces", "-j", *args)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    found = json.loads(outcome.stdout)
    check_schema(found)
    return {one["name"]: one for one in found}


def kernel(host: Host, *options: str) -> dict[str, Json]:
    """The interfaces by name, as iproute2 has them."""
    text = host.run(["ip", "-j", "-d", *options, "addr"]).stdout
    return {one["ifname"]: one for one in json.loads(text) if one}


def test_every_key_is_what_the_kernel_says(world: World) -> None:
    a, b = world.host("a"), world.host("b")
    for _ in range(3):
        world.link(a, b)
    b.ip("link set b1 down")  # no carrier at a1
    a.ip(
        "link set a2 down mtu 1280",
        "link set a0 mtu 9000",
        "addr add 192.168.7.1/25 dev a0",
        "addr add 169.254.3.4/16 dev a0 scope link",
        f"addr add {LONG}/60 dev a0 nodad",
        "link add name bare type veth peer name peer",
        "tuntap add t0 mode tun",
        "addr add 10.9.0.1 peer 10.9.0.2 dev t0",
    )
    a.sh("until ip -o link show a1 | grep -q NO-CARRIER; do sleep 0.01; done")
    ours, theirs = show(a), kernel(a)
    assert list(ours) == list(theirs)
    assert set(ours) == {"lo", "a0", "a1", "a2", "bare", "peer", "t0"}
    for name, one in ours.items():
        told = theirs[name]
        flags = set(told["flags"])
        assert one["type"] == "interface"
        assert (one["index"], one["mtu"]) == (told["ifindex"], told["mtu"]), name
        assert one["mac"] == told.get("address"), name
        assert one["up"] == ("UP" in flags), name
        assert one["multicast"] == ("MULTICAST" in flags), name
        assert one["loopback"] == ("LOOPBACK" in flags), name
        assert one["point_to_point"] == ("POINTOPOINT" in flags), name
        works = told["operstate"] == "UP" or (name == "lo" and "LOWER_UP" in flags)
        assert one["carrier"] == works, (name, told)
        assert sorted(map(address, one["addresses"])) == sorted(
            (
                {"inet": "ipv4", "inet6": "ipv6"}[entry["family"]],
                entry["local"],
                entry["prefixlen"],
                entry["scope"],
                name if entry["family"] == "inet6" and entry["scope"] == "link" else None,
            )
            for entry in told["addr_info"]
        ), name
    # The cases above are not all alike.
    assert {name for name, one in ours.items() if one["carrier"]} == {"lo", "a0"}
    assert {name for name, one in ours.items() if one["up"]} == {"lo", "a0", "a1"}
    assert ours["t0"]["point_to_point"]
    assert not ours["a0"]["point_to_point"]
    assert ours["lo"]["loopback"]
    assert (ours["a0"]["mtu"], ours["a2"]["mtu"]) == (9000, 1280)
    assert ours["bare"]["addresses"] == []
    text = a.mcastctl("ifaces").stdout
    states = {line.split()[1]: line.split()[2] for line in text.splitlines()[1:]}
    assert states["a0"] == "up,carrier,multicast"
    assert states["a1"] == "up,no-carrier,multicast"
    assert states["a2"] == "down,multicast"
    assert states["t0"] == "down,multicast,point-to-point"


def address(one: Json) -> tuple[Any, ...]:
    return one["family"], one["address"], one["prefixlen"], one["scope"], one["zone"]


def test_counters(pair: Pair) -> None:
    a, b = pair
    wire.inject(a, [wire.udp("10.0.1.1", 1, "239.1.1.1", 9, bytes(100))] * 50)
    # Between two looks of theirs ours must lie: other traffic of the kernel may pass meanwhile.
    names = {"bytes": "bytes", "packets": "packets", "errors": "errors", "dropped": "dropped"}
    for host in (a, b):
        before, now, after = kernel(host, "-s"), show(host), kernel(host, "-s")
        for name, one in now.items():
            expected = {f"{way}_{word}" for way in ("rx", "tx") for word in names}
            expected |= {"rx_multicast", "ip6_in_multicast", "ip6_out_multicast"}
            assert set(one["counters"]) == expected
            low, high = (each[name]["stats64"]["rx"]["multicast"] for each in (before, after))
            assert low <= one["counters"]["rx_multicast"] <= high
            for way in ("rx", "tx"):
                for word in names:
                    low, high = (each[name]["stats64"][way][word] for each in (before, after))
                    assert low <= one["counters"][f"{way}_{word}"] <= high, (name, way, word)
    assert show(a)["a0"]["counters"]["tx_packets"] >= 50
    assert show(b)["b0"]["counters"]["rx_bytes"] >= 50 * 142


def test_the_igmp_version_in_force(pair: Pair) -> None:
    a, b = pair
    assert show(a)["a0"]["igmp_version"] == 3
    a.sysctl("net.ipv4.conf.a0.force_igmp_version", 2)
    assert (show(a)["a0"]["igmp_version"], show(a)["lo"]["igmp_version"]) == (2, 3)
    a.sysctl("net.ipv4.conf.a0.force_igmp_version", 0)
    # An IGMPv2 general query (RFC 2236 section 2) is heard on b's side of the cable.
    query = bytes.fromhex("1164ee9b00000000")
    head = bytes.fromhex("46c00020000040000102") + bytes(2) + bytes([10, 0, 1, 1, 224, 0, 0, 1])
    head += bytes.fromhex("94040000")
    checksum = wire.checksum(head)
    frame = bytes.fromhex("01005e000001020000000101") + b"\x08\x00"
    wire.inject(a, [frame + head[:10] + struct.pack("!H", checksum) + head[12:] + query])
    b.sh("until grep -q 'b0.*V2' /proc/net/igmp; do sleep 0.01; done")
    assert (show(b)["b0"]["igmp_version"], show(a)["a0"]["igmp_version"]) == (2, 3)
    assert re.search(r"b0 .* v2 +v2 +off ", b.mcastctl("ifaces").stdout)


def test_knobs(pair: Pair) -> None:
    a = pair.a
    for both, own, effective, word in ((0, 0, 0, "off"), (1, 0, 1, "strict"), (1, 2, 2, "loose")):
        a.sysctl("net.ipv4.conf.all.rp_filter", both)
        a.sysctl("net.ipv4.conf.a0.rp_filter", own)
        a.sysctl("net.ipv6.conf.a0.force_mld_version", own)
        one = show(a, "a0")["a0"]
        assert (one["rp_filter"], one["mld_version"]) == (effective, 2)
        assert a.mcastctl("ifaces", "a0").stdout.splitlines()[1].split()[7] == word
    a.sysctl("net.ipv4.conf.all.rp_filter", 2)
    a.sysctl("net.ipv4.conf.a0.rp_filter", 1)
    a.sysctl("net.ipv6.conf.a0.force_mld_version", 1)
    one = show(a, "a0")["a0"]
    assert (one["rp_filter"], one["mld_version"]) == (2, 1)


def test_kinds_masters_and_states_of_addresses(world: World) -> None:
    a = world.host("a")
    world.link(a, world.host("b"))
    a.sysctl("net.ipv6.conf.all.accept_dad", 1)
    a.sysctl("net.ipv6.conf.a0.accept_dad", 1)
    a.sysctl("net.ipv6.conf.a0.dad_transmits", 100)  # tentative for as long as the test looks
    a.ip(
        "link add sw type bridge",
        "link add name port type veth peer name other",
        "link set port master sw",
        "tuntap add vpn0 mode tun",
        "tuntap add tap0 mode tap",
        "link add mv0 link a0 type macvlan mode bridge",
        "addr add 2001:db8::1/64 dev a0",
        "addr add 2001:db8::2/64 dev a0 nodad preferred_lft 0",
        "addr add 10.0.1.9/24 dev a0",
    )
    found = show(a)
    kinds = {name: one["kind"] for name, one in found.items()}
    assert kinds == {
        **{"lo": "loopback", "a0": "veth", "sw": "bridge", "port": "veth", "other": "veth"},
        **{"vpn0": "vpn", "tap0": "tap", "mv0": "macvlan"},
    }
    for name, one in kernel(a, "-d").items():
        assert found[name]["master"] == one.get("master"), name
    states = {one["address"]: one["states"] for one in found["a0"]["addresses"]}
    assert states["2001:db8::1"] == ["tentative"]
    assert states["2001:db8::2"] == ["deprecated"]
    assert states["10.0.1.9"] == ["secondary"]
    assert states["10.0.1.1"] == []
    text = a.mcastctl("ifaces").stdout
    assert "2001:db8::1/64(tentative)" in text
    assert "2001:db8::2/64(deprecated)" in text
    assert "veth@sw" in text
    counted = found["a0"]["memberships"]
    assert counted["ipv4"] + counted["ipv6"] == len(found["a0"]["groups"])
    assert counted["ipv4"] == sum(":" not in group for group in found["a0"]["groups"]) == 1


def test_forwarding_is_seen(world: World) -> None:
    a = world.host("a")
    world.link(a, world.host("b"))
    assert (show(a)["a0"]["mc_forwarding"], show(a)["lo"]["mc_forwarding6"]) == (False, False)
    script = (
        "import signal, socket, struct, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 2)\n"
        "s.setsockopt(0, 200, 1)\n"  # MRT_INIT, then MRT_ADD_VIF
        "s.setsockopt(0, 202, struct.pack('@HBBIi4s', 0, 8, 1, 0, int(sys.argv[1]), bytes(4)))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    a.popen([sys.executable, "-c", script, str(a.ifindex())]).wait_stdout("ready")
    assert (show(a)["a0"]["mc_forwarding"], show(a)["lo"]["mc_forwarding"]) == (True, False)


def test_live_rates(pair: Pair) -> None:
    a, b = pair
    running = b.start_mcastctl("ifaces", "b0", "--live", "--interval", "500ms", "-j")
    running.wait_stdout('"interface_rates"')
    frames = [wire.udp("10.0.1.1", 1, "239.1.1.1", 9, bytes(100))] * 400
    wire.inject(a, frames)
    seen = running.stdout.count('"interface_rates"')
    running.wait_stdout(
        '"interface_rates"', count=seen + 2
    )  # the second began after the last frame
    running.signal(2)
    stream = Stream.of(running.finish())
    rates = stream.all("interface_rates")
    assert {one["name"] for one in rates} == {"b0"}
    passed = sum(one["rx_packets_per_s"] * one["elapsed_s"] for one in rates)
    assert 400 <= round(passed) < 450  # and what the hosts say of themselves
    assert sum(one["rx_bits_per_s"] * one["elapsed_s"] for one in rates) >= 400 * 142 * 8
    assert stream.status == -2
    text = b.mcastctl("ifaces", "b0", "--live", "--interval", "200ms", "-T", "2s", check=True)
    assert 1 <= len(text.stdout.splitlines()) <= 10
    assert re.search(r" b0 in \d+ packets/s \d", text.stdout)
    assert {one["rx_multicast_per_s"] for one in rates} == {None}  # veth does not count them
    for args in (["--interval", "0"], ["-o", "index"]):
        outcome = b.mcastctl("ifaces", "--live", *args)
        assert (outcome.returncode, len(outcome.stderr.splitlines())) == (2, 2)


# --- which, and how they are shown


def test_by_name_index_and_address(pair: Pair) -> None:
    a = pair.a
    a.ip(f"addr add {LONG}/64 dev a0 nodad")
    index = a.ifindex()
    names = ["a0", str(index), "10.0.1.1", "fd00:1::1", a.lladdr(), f"{a.lladdr()}%a0", LONG]
    for name in names:
        assert a.mcastctl("ifaces", name, "-o", "index").stdout == f"{index}\n", name
    assert a.mcastctl("ifaces", "lo", "a0", "-o", "index").stdout == f"1\n{index}\n"
    assert a.mcastctl("ifaces", "-o", "index").stdout == f"1\n{index}\n"
    assert list(show(a, "127.0.0.1")) == ["lo"]


@pytest.mark.parametrize("name", ["nope", "999", "10.0.1.2", "", "a0x", "../a0", "٣"])
def test_an_unknown_interface(pair: Pair, name: str) -> None:
    outcome = pair.a.mcastctl("ifaces", name)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        f"mcastctl: error: no interface has the name, index or address '{name}'\n"
        "hint: this host has: lo, a0\n"
    )


def test_the_index_makes_a_zone(pair: Pair) -> None:
    need("ping")
    a = pair.a
    script = f"ping -c 1 -W 2 ff02::1%$({sys.executable} -m mcastctl ifaces a0 -o index)"
    assert "1 received" in a.sh(script).stdout


def test_formats(pair: Pair) -> None:
    a = pair.a
    lines = a.mcastctl("ifaces", "-o", "jsonl").records
    check_schema(lines)
    assert [one["name"] for one in lines] == ["lo", "a0"]
    assert [one["index"] for one in lines] == [one["index"] for one in show(a).values()]
    for options in (["-o", "hex"], ["-j", "-o", "index"], ["-T", "60s"]):
        outcome = a.mcastctl("ifaces", *options)
        assert (outcome.returncode, outcome.stdout) == (2, "")
        assert len(outcome.stderr.splitlines()) == 2
    assert a.mcastctl("ifaces", "-qq").stdout == ""


def test_a_pipe_gets_everything_however_narrow(pair: Pair) -> None:
    a = pair.a
    more = [f"2001:db8:{number:x}:2:a8bb:ccff:fedd:eeff" for number in range(0x1000, 0x1008)]
    a.ip(*(f"addr add {one}/64 dev a0 nodad" for one in more))
    outcome = a.mcastctl("ifaces", env={"COLUMNS": "20", "TERM": "xterm", "FORCE_COLOR": "1"})
    heading, *lines = outcome.stdout.splitlines()
    columns = "INDEX NAME STATE MTU MAC IGMP MLD RP_FILTER KIND GROUPS ADDRESSES"
    assert heading.split() == columns.split()
    assert len(lines) == 2
    wanted = [*(f"{one}/64" for one in more), "10.0.1.1/24", f"{a.lladdr()}%a0/64", "fd00:1::1/64"]
    assert sorted(lines[1].split()[10:]) == sorted(wanted)
    assert lines[1].split()[4] == a.link()["address"]
    assert "\x1b" not in outcome.stdout


def on_terminal(host: Host, *args: str, columns: int = 80) -> str:
    """What the command shows on a terminal of this width."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        running = host.start_mcastctl("ifaces", *args, stdout=theirs, env={"TERM": "xterm"})
    finally:
        os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError as error:  # Linux tells so that the other end is closed
        assert error.errno == errno.EIO
    finally:
        os.close(ours)
    assert running.finish().returncode == 0
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_of_80_columns_shows_whole_addresses(pair: Pair) -> None:
    a = pair.a
    a.ip(f"addr add {LONG}/64 dev a0 nodad")
    shown = on_terminal(a)
    for text in (f"{LONG}/64", "10.0.1.1/24", f"{a.lladdr()}%a0/64", "::1/128", "127.0.0.1/8"):
        assert text in shown, shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 80
    assert "\x1b[" in shown
    assert "\x1b[" not in on_terminal(a, "--color", "never")
    assert a.link()["address"] in on_terminal(a, columns=160)
    assert json.loads(on_terminal(a, "-j"))[1]["name"] == "a0"
    assert on_terminal(a, "a0", "-o", "index") == f"{a.ifindex()}\n"


STRANGE = {
    "we[ird]": "we[ird]",
    "[bold]x": "[bold]x",
    "[link=x]": "[link=x]",
    ":smile:".replace(":", ";"): ";smile;",
    "e\x1b[31mX": "e\\x1b[31mX",
    "\u202ebidi": "\\u{202e}bidi",
    "a,b": "a,b",
    "x\x1cy": "x\\x1cy",
    "-j": "-j",
    "über": "über",
}


def test_strange_names_do_no_harm(world: World) -> None:
    a = world.host("a")
    for number, name in enumerate(STRANGE):
        a.run(["ip", "link", "add", "name", name, "type", "veth", "peer", "name", f"p{number}"])
    found = show(a)
    assert set(STRANGE) < set(found)
    text = a.mcastctl("ifaces").stdout
    terminal = on_terminal(a, "--color", "never", columns=200)
    assert "\x1b" not in text + terminal
    names = [line.split()[1] for line in text.splitlines()[1:]]
    assert set(STRANGE.values()) < set(names)
    assert len(names) == len(found) == 2 * len(STRANGE) + 1
    for shown in STRANGE.values():
        assert shown in terminal or "," in shown
    for name in STRANGE:
        assert found[name]["up"] is False
        index = a.mcastctl("ifaces", "-o", "index", "--", name).stdout
        assert index == f"{found[name]['index']}\n"


def test_a_name_that_is_no_text(world: World) -> None:
    a = world.host("a")
    a.run(["ip", "link", "add", "name", "\udcff\udcfe", "type", "veth", "peer", "name", "p0"])
    outcome = a.mcastctl("ifaces", "-o", "jsonl")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    indexes = {one["name"]: one["index"] for one in outcome.records}
    assert indexes == {
        one["ifname"]: one["ifindex"] for one in json.loads(a.run(["ip", "-j", "link"]).stdout)
    }
    assert "\\xff\\xfe" in a.mcastctl("ifaces").stdout


# --- where the host does not tell


def test_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the interfaces of this machine are looked at, nothing is sent."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    monkeypatch.setattr(knobs, "_SYSCTL", tmp_path / "sys")
    monkeypatch.setattr(procnet, "ROOT", tmp_path)
    assert knobs.mld_version("lo") is knobs.rp_filter("lo") is None
    found = {one.name: one for one in interfaces.interfaces()}
    lo = found["lo"]
    assert lo.ifindex == 1
    assert "127.0.0.1" in [one.address for one in lo.addresses]
    assert {lo.mtu, lo.up, lo.carrier, lo.multicast, lo.loopback, lo.point_to_point} == {None}
    assert {lo.igmp_version, lo.mld_version, lo.rp_filter} == {None}
    assert set(lo.counters) <= {"rx_multicast"}  # that comes by netlink
    assert json.loads(json.dumps(lo.to_dict()))["rp_filter"] is None


def test_settings_that_are_no_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(knobs, "_SYSCTL", tmp_path)
    for name, text in (("all", "2\n"), ("good", "1\n"), ("bad", "x\n"), ("signed", "-1\n")):
        folder = tmp_path / "ipv4" / "conf" / name
        folder.mkdir(parents=True)
        (folder / "rp_filter").write_text(text)
    (tmp_path / "ipv4" / "rp_filter").write_text("1\n")
    assert knobs.rp_filter("good") == 2
    for name in ("bad", "signed", "missing", "..", ".", "", "../conf/good", "/"):
        assert knobs.rp_filter(name) is None, name


def test_the_machine_itself(here: Place) -> None:
    """A look at real interfaces: whatever they are, the records are as they must be."""
    outcome = here.mcastctl("ifaces", "-j")
    assert outcome.returncode == 0
    found = json.loads(outcome.stdout)
    check_schema(found)
    assert [one["index"] for one in found] == sorted(one["index"] for one in found)

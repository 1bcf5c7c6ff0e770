"""Live captures beside a witness: what other programs do on the wire, told the same."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Pair
from frr import speaking_pim
from place import BY_ROOT, ROOT
from streams import Stream
from world import Host, Outcome, Place, Running, need

# As on a system without packet rings: scapy's sockets capture.
ELSEWHERE = """
from mcastctl.capture import live
live.RINGS = False
from mcastctl.cli.app import main
main()
"""
WITNESS = "tcpdump" if ROOT else "dumpcap"
FILTER = "udp port 5004 or igmp or ip6 protochain 58 or pim"


def packets(outcome: Outcome) -> list[dict[str, Any]]:
    """The packets, without what differs between two captures of the same."""
    kept = ("proto", "src", "dst", "sport", "dport", "ttl", "length", "info", "fields")
    return [{key: one[key] for key in kept} for one in Stream.of(outcome).all("packet")]


def start_sniff(host: Host, *args: str | Path) -> Running:
    running = host.start_mcastctl("sniff", "-j", "-i", host.ports[0], *args)
    running.wait_stdout('"code":"capturing"')
    return running


def start_witness(host: Host, here: Place, path: Path) -> Running:
    """tcpdump as the machine's own root; else dumpcap, for a user namespace forbids what it does.

    (tcpdump changes its groups, and must not where root alone exists.)
    """
    path.touch()
    port = host.ports[0]
    if not ROOT:
        witness = host.popen(["dumpcap", "-q", "-p", "-i", port, "-f", FILTER, "-w", str(path)])
        witness.wait_stderr("File: ")
        return witness
    inside = ["nsenter", f"--net=/proc/{host.pid}/ns/net", "setpriv", "--pdeathsig=KILL"]
    command = ["tcpdump", "-Z", "root", "-U", "-p", "--immediate-mode", "-i", port]
    command += ["-w", str(path), FILTER]
    witness = here.popen([*inside, *command])
    witness.wait_stderr("listening on")
    return witness


def test_other_programs_as_a_witness_saw_them(pair: Pair, here: Place, tmp_path: Path) -> None:
    need("socat", "iperf", WITNESS)
    a, b = pair
    seen = tmp_path / "witness.pcap"
    capture = start_sniff(b, FILTER)
    written = start_sniff(b, FILTER, "-w", tmp_path / "own.pcap")
    witness = start_witness(b, here, seen)
    member = a.popen(["socat", "-u", "UDP4-RECV:5004,ip-add-membership=239.1.1.5:a0", "-"])
    capture.wait_stdout('"239.1.1.5"')
    six = a.popen(["socat", "-u", "UDP6-RECV:5004,ipv6-join-group=[ff15::5]:a0", "-"])
    capture.wait_stdout('"ff15::5"')
    a.run(["socat", "-u", "-", "UDP4-DATAGRAM:239.1.1.6:5004,ip-multicast-if=10.0.1.1"],
          input="by socat")  # fmt: skip
    a.ip("route add 224.0.0.0/4 dev a0")
    rate = ["-t", "1", "-b", "2M", "-l", "500"]
    a.run(["iperf", "-u", "-c", "239.1.1.7", "-p", "5004", *rate], timeout=15)
    for one in (member, six):
        one.stop()
    capture.wait_stdout('"mode":"to_in","group":"239.1.1.5"')
    found = ends(capture, written, witness)
    own = packets(b.mcastctl("sniff", "-j", "-r", tmp_path / "own.pcap"))
    told = packets(b.mcastctl("sniff", "-j", "-r", seen))
    # They do not begin and end at the same moment.
    found, own, told = (since(one, "239.1.1.5") for one in (found, own, told))
    common = min(len(found), len(own), len(told))
    assert common > 100
    assert found[:common] == told[:common]
    assert own[:common] == told[:common]
    assert {one["proto"] for one in found} >= {"igmp", "mld", "udp"}


def since(found: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    """The packets from the first that says so."""
    return found[next(at for at, one in enumerate(found) if words in one["info"]) :]


def ends(capture: Running, *others: Running) -> list[dict[str, Any]]:
    """End all; return what the first has shown."""
    for one in others:
        one.signal(2)
        one.finish()
    capture.signal(2)
    return packets(capture.finish())


def test_a_static_member_and_a_routing_daemon(pair: Pair, here: Place, tmp_path: Path) -> None:
    need("smcrouted", "smcroutectl", WITNESS)
    a, b = pair
    seen = tmp_path / "witness.pcap"
    capture = start_sniff(b, FILTER)
    comments = start_sniff(b, "--control")
    witness = start_witness(b, here, seen)
    a.ip("maddr add 01:00:5e:01:01:09 dev a0")  # the link layer alone: nothing is said
    a.ip("address add 239.1.1.10/32 dev a0 autojoin")  # the kernel joins by itself
    comments.wait_stdout("10.0.1.1 joins 239.1.1.10")
    ident = f"test-{a.pid}"
    daemon = a.popen(["smcrouted", "-n", "-N", "-I", ident])
    deadline = time.monotonic() + 40
    while a.run(["smcroutectl", "-I", ident, "join", "a0", "239.1.1.8"], check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    comments.wait_stdout("10.0.1.1 joins 239.1.1.8")
    daemon.stop()
    comments.wait_stdout("10.0.1.1 leaves 239.1.1.8")
    comments.signal(2)
    comments.finish()
    found = ends(capture, witness)
    told = packets(b.mcastctl("sniff", "-j", "-r", seen))
    groups, witnessed = (
        [one["info"] for one in seen_by if "239.1.1.8" in one["info"]] for seen_by in (found, told)
    )
    common = min(len(groups), len(witnessed))  # they do not end at the same moment
    assert groups[:common] == witnessed[:common]
    assert "to_ex" in groups[0]
    assert "to_in" in groups[common - 1]
    assert not [one for one in found if "239.1.1.9" in one["info"]]


@pytest.mark.parametrize("write", [False, True], ids=["shown", "written"])
@pytest.mark.parametrize("filtered", [False, True])
def test_where_there_are_no_rings(pair: Pair, tmp_path: Path, write: bool, filtered: bool) -> None:
    a, b = pair
    path = tmp_path / "x.pcap"
    args = ["-j", "-i", "b0", "-c", "3", "-T", "60s", *(["-w", str(path)] if write else [])]
    if filtered:
        args.append("udp port 5004")
    capture = b.popen([sys.executable, "-c", ELSEWHERE, "sniff", *args])
    capture.wait_stdout('"code":"capturing"', timeout=20)
    for _ in range(3):
        assert a.mcastctl("send", "239.1.1.1:5004", "x", "-i", "a0").returncode == 0
    outcome = capture.finish()
    assert Stream.of(outcome).summary["reason"] == "count"
    if write:
        outcome = b.mcastctl("sniff", "-j", "-r", path)
    found = packets(outcome)
    assert len(found) == 3
    assert "239.1.1.1" in {one["dst"] for one in found}


def test_silence_ends_on_time_without_rings(pair: Pair) -> None:
    b = pair.b
    outcome = b.run(
        [sys.executable, "-c", ELSEWHERE, "sniff", "-i", "lo", "-T", "0.3s", "udp"], check=False
    )
    assert outcome.returncode == 1, outcome


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
def test_frr_speaks_pim_and_asks(pair: Pair, here: Place, tmp_path: Path) -> None:
    need("vtysh", WITNESS)
    a, b = pair
    seen = tmp_path / "witness.pcap"
    capture = start_sniff(b)
    comments = start_sniff(b, "--control")
    witness = start_witness(b, here, seen)
    with speaking_pim(here, a, "a0"):
        capture.wait_stdout('"proto":"pim".*"hello"', timeout=40)
        capture.wait_stdout('"proto":"igmp".*query', timeout=40)
        comments.wait_stdout("10.0.1.1 is the querier: IGMPv3", timeout=40)
    comments.signal(2)
    comments.finish()
    found = [one for one in ends(capture, witness) if one["src"] == "10.0.1.1"]
    told = packets(b.mcastctl("sniff", "-j", "-r", seen))
    told = [one for one in told if one["src"] == "10.0.1.1"]
    common = min(len(found), len(told))
    assert common >= 2
    assert found[:common] == told[:common]

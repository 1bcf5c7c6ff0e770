"""The tools people have: what they send is heard, what we send they hear, and the counts agree."""

from __future__ import annotations

import re
import signal
import sys
from ipaddress import IPv4Address, IPv6Address
from subprocess import PIPE

import pytest
from conftest import Pair
from flood import heard_out
from place import UNROOTED
from streams import Stream
from world import Host, Place, Running, need


def listen(host: Host, *args: str) -> Running:
    """A listener that prints JSON and has joined."""
    listener = host.start_mcastctl("listen", "-j", "-T", "60s", *args)
    listener.wait_stdout('"joined"')
    return listener


def wait_for_group(host: Host, group: str, running: Running) -> None:
    """Wait until a peer that does not tell is in its group (as /proc/net/igmp spells it)."""
    spelled = bytes(map(int, group.split(".")))[::-1].hex().upper()
    for _ in range(5000):
        if spelled in host.proc("igmp"):
            return
        assert running.process.poll() is None, running.stderr
    raise AssertionError(f"nobody joined {group}")


def test_socat_sends(pair: Pair) -> None:
    need("socat")
    a, b = pair
    listener = listen(b, "224.0.0.123:7777", "-i", "b0", "-c", "2")
    socat = a.popen(
        ["socat", "STDIO", f"UDP4-DATAGRAM:224.0.0.123:7777,ip-multicast-if={a.addr4()}"],
        stdin=PIPE,
    )
    socat.write("hello\n")
    listener.wait_stdout(r'"payload":"hello\\n"')
    socat.write("again\n")
    heard = Stream.of(listener.finish())
    assert heard.payloads == ["hello\n", "again\n"]
    assert {one["src"] for one in heard.datagrams} == {a.addr4()}
    assert len({one["sport"] for one in heard.datagrams}) == 1


def test_socat_sends_over_ipv6(pair: Pair) -> None:
    need("socat")
    a, b = pair
    listener = listen(b, "[ff02::123%b0]:7777", "-c", "1")
    a.run(["socat", "-u", "STDIN", "UDP6-DATAGRAM:[ff02::123%a0]:7777"], input="six")
    heard = Stream.of(listener.finish()).only("datagram")
    assert (heard["payload"], heard["src"]) == ("six", a.lladdr())


def test_socat_receives(pair: Pair) -> None:
    need("socat")
    a, b = pair
    address = f"UDP4-RECVFROM:7777,ip-add-membership=224.0.0.123:{b.addr4()},fork"
    socat = b.popen(["socat", "-u", address, "-"])
    wait_for_group(b, "224.0.0.123", socat)
    for word in ("one", "two"):
        assert a.mcastctl("send", "224.0.0.123:7777", word, "-i", "a0").returncode == 0
        socat.wait_stdout(word)
    assert sorted(re.findall("one|two", socat.stdout)) == ["one", "two"]


def test_socat_answers(pair: Pair) -> None:
    """The reply socat's child gives comes back to the sending socket and is printed."""
    need("socat")
    a, b = pair
    address = f"UDP4-RECVFROM:7777,ip-add-membership=224.0.0.123:{b.addr4()},fork"
    socat = b.popen(["socat", address, "SYSTEM:read line; echo pong $line"])
    wait_for_group(b, "224.0.0.123", socat)
    sender = a.start_mcastctl("send", "224.0.0.123:7777", "-i", "a0", "-j", stdin=PIPE)
    sender.write("ping\n")
    sender.wait_stdout('"payload":"pong ping')
    sent = Stream.of(sender.finish())
    (reply,) = (one for one in sent.datagrams if one["direction"] == "rx")
    assert (reply["src"], reply["dst"], sent.summary["replies"]) == (b.addr4(), a.addr4(), 1)


def test_both_listen_on_one_port(pair: Pair) -> None:
    """A shared port is shared: socat and listen each get every datagram."""
    need("socat")
    a, b = pair
    address = f"UDP4-RECV:7777,reuseaddr,ip-add-membership=239.1.1.1:{b.addr4()}"
    socat = b.popen(["socat", "-u", address, "-"])
    wait_for_group(b, "239.1.1.1", socat)
    listener = listen(b, "239.1.1.1:7777", "-c", "1")
    assert a.mcastctl("send", "239.1.1.1:7777", "both").returncode == 0
    assert Stream.of(listener.finish()).payloads == ["both"]
    socat.wait_stdout("both")


def udp_sent(host: Host) -> int:
    """How many UDP datagrams the kernel of a host sent since it was made."""
    names, values = (line.split() for line in host.proc("snmp").splitlines() if "Udp: " in line)
    return int(values[names.index("OutDatagrams")])


def test_iperf_is_heard_and_counted(pair: Pair) -> None:
    need("iperf")
    a, b = pair
    a.ip("route add 224.0.0.0/4 dev a0")
    listener = listen(b, "239.1.1.1:5001", "-q")
    args = ["-u", "-T", "3", "-t", "1", "-b", "2M", "-l", "500"]
    iperf = a.run(["iperf", "-c", "239.1.1.1", *args])
    heard = heard_out(listener, b, 5001)
    (stream,) = heard.summary["streams"]
    sent = re.search(r"Sent (\d+) datagrams", iperf.stdout)
    assert sent, iperf.stdout
    assert stream["packets"] == udp_sent(a) > 400
    # iperf counts its last one, which says that it is the last, in its own way.
    assert abs(stream["packets"] - int(sent[1])) <= 1
    assert stream["bytes"] == 500 * stream["packets"]
    assert (stream["src"], stream["dport"], stream["ttl"]) == (a.addr4(), 5001, 3)
    assert (heard.summary["kernel_drops"], heard.summary["skipped"]) == (0, 0)
    # Its sequence numbers are not ours to read: nothing may be taken for loss.
    assert (heard.summary["lost"], stream["kind"]) == (0, "plain")


def test_iperf_hears_and_counts(pair: Pair) -> None:
    need("iperf")
    a, b = pair
    args = ["-s", "-u", "-B", "239.1.1.1%b0", "-p", "5002", "-i", "1", "-t", "20"]
    iperf = b.popen(["iperf", *args])
    wait_for_group(b, "239.1.1.1", iperf)
    iperf.wait_stdout("Server listening")
    client = b"\x00\x00\x00\x00" + bytes(28)  # number 0, then a time of zero
    assert a.mcastctl("send", "239.1.1.1:5002", "--hex", client.hex()).returncode == 0
    iperf.wait_stdout("connected with 10.0.1.1")
    iperf.signal(signal.SIGINT)


# argv: interface, then words; copies frames to a pcap on stdout until each word was in one. tcpdump
# itself gives up root, which a namespace of one user cannot; it explains what was copied.
COPY = """
import os, socket, struct, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind((sys.argv[1], 3))
print("copying", file=sys.stderr, flush=True)
os.write(1, struct.pack("@IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
words = {bytes.fromhex(word) for word in sys.argv[2:]}
while words:
    frame = sock.recv(65535)
    os.write(1, struct.pack("@IIII", 0, 0, len(frame), len(frame)) + frame)
    words = {word for word in words if word not in frame}
"""


def copy(host: Host, *words: bytes) -> Running:
    """Start copying the frames of the first port until each word was seen."""
    args = [sys.executable, "-c", COPY, host.ports[0], *(word.hex() for word in words)]
    copying = host.popen(args)
    copying.wait_stderr("copying")
    return copying


def explain(here: Place, copying: Running) -> str:
    """What tcpdump says of the frames; it only reads."""
    command = [*UNROOTED, "tcpdump", "-n", "-v", "-r", "-"]
    return here.run(command, input=copying.finish().raw).stdout


@pytest.mark.parametrize(
    ("group", "wanted"),
    [
        ("239.1.1.1:5004", r"tos 0x88, ttl 7, "),
        ("[ff15::1]:5004", r"class 0x88, .*hlim 7, "),
    ],
)
def test_tcpdump_sees_what_was_asked_for(pair: Pair, here: Place, group: str, wanted: str) -> None:
    need("tcpdump")
    a, b = pair
    copying = copy(b, b"hello")
    options = ["-t", "7", "-Q", "af41", "--bind", ":4321"]
    assert a.mcastctl("send", group, "hello", *options).returncode == 0
    seen = explain(here, copying)
    assert re.search(wanted, seen), seen
    assert re.search(r"[.:]1\.4321 > .*\.5004: .*length 5$", seen, re.MULTILINE), seen


def test_tcpdump_sees_the_reports(pair: Pair, here: Place) -> None:
    """A join is reported to the network with its filter, by IGMPv3 and MLDv2."""
    need("tcpdump")
    _, b = pair
    group4, group6 = IPv4Address("232.1.1.1"), IPv6Address("ff35::1")
    copying = copy(b, group4.packed, group6.packed)
    listen(b, "10.0.1.1@232.1.1.1:5004", "fd00:1::1@[ff35::1]:5004", "-i", "b0")
    seen = explain(here, copying)
    assert re.search(r"igmp v3 report.*gaddr 232\.1\.1\.1 allow, 1 source", seen), seen
    assert re.search(r"report v2.*gaddr ff35::1 allow, 1 source", seen), seen

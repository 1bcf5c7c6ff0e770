"""`listen` hears what was sent to its groups, all of it and nothing else, and says exactly what."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Pair
from flood import all_read, heard_out
from streams import Stream, check_all_heard, inject
from world import Host, Running, World

from mcastctl.model import probe

# argv: group, port, interface index; joins like any careless program: bound to the wildcard
STRANGER = """
import socket, struct, sys
group, port, index = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
version6 = ":" in group
family = socket.AF_INET6 if version6 else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("::" if version6 else "0.0.0.0", port))
raw = socket.inet_pton(family, group)
if version6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, raw + struct.pack("@I", index))
else:
    request = struct.pack("@4s4si", raw, b"", index)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
print("joined", flush=True)
while True:
    print(sock.recv(65535).decode(), flush=True)
"""

# mcastctl as on a system where a socket cannot be bound to a group nor closed to other groups
ELSEWHERE = """
from mcastctl.net import platforms
platforms.HERE = platforms.HERE._replace(
    binds_to_group=False, ip_multicast_all=None, ipv6_multicast_all=None)
from mcastctl.cli.app import main
main()
"""


def listen(host: Host, *args: str | Path, joined: int = 1, **options: Any) -> Running:
    """A listener that prints JSON and has joined everything."""
    listener = host.start_mcastctl("listen", "-j", *args, **options)
    listener.wait_stdout('^{"type":"joined"', count=joined)
    return listener


def send(host: Host, *args: str) -> Stream:
    """Send, and see to it that it went well."""
    sent = Stream.of(host.mcastctl("send", "-j", *args))
    assert sent.status == 0, sent
    return sent


def probes(*numbers: int, stream: int = 1) -> list[bytes]:
    """Probes with these sequence numbers."""
    return [probe.encode(probe.Probe(probe.DATA, 1, 0, stream, n, time.time_ns())) for n in numbers]


# --- what is heard


def test_every_listener_on_a_host_hears_both_families(pair: Pair) -> None:
    a, b = pair
    groups = ["224.0.0.123:7645", "[ff02::123]:7645"]
    listeners = [
        b.start_mcastctl("listen", *groups, "-i", "b0", "-c", "2", "-T", "60s", "-j")
        for _ in range(3)
    ]
    for listener in listeners:
        listener.wait_stdout('"joined"', count=2)
    send(a, groups[0], "four", "-i", "a0")
    send(a, groups[1], "six", "-i", "a0")
    for listener in listeners:
        heard = Stream.of(listener.finish())
        assert heard.status == 0
        assert heard.payloads == ["four", "six"]
        assert [one["src"] for one in heard.datagrams] == [a.addr4(), a.lladdr()]
        assert [one["dst"] for one in heard.datagrams] == ["224.0.0.123", "ff02::123"]
        assert {one["dport"] for one in heard.datagrams} == {7645}
        assert heard.summary["reason"] == "count"
        for record in heard.datagrams + heard.all("joined"):
            assert (record["iface"], record["ifindex"]) == ("b0", b.ifindex())


def test_several_interfaces_at_once(world: World) -> None:
    a, b, c = (world.host(name) for name in "abc")
    world.link(a, b)
    world.link(b, c)
    groups = ["239.1.1.1:5004", "[ff02::42]:5004"]
    both = listen(b, *groups, "-i", "b0", "-i", "b1", "-c", "4", "-T", "60s", joined=4)
    one = listen(b, *groups, "-i", "b1", "-c", "2", "-T", "60s", joined=2)
    for group in groups:
        send(a, group, "from a")
        send(c, group, "from c")
    heard = Stream.of(both.finish())
    assert [(d["iface"], d["payload"]) for d in heard.datagrams] == [
        ("b0", "from a"),
        ("b1", "from c"),
    ] * 2
    # The same group and port on the other interface is none of this one's business.
    assert Stream.of(one.finish()).payloads == ["from c"] * 2


@pytest.mark.parametrize(
    ("first", "last"), [("239.1.1.0", "239.1.1.63"), ("ff15::100", "ff15::13f")]
)
def test_more_groups_than_one_socket_may_join(pair: Pair, first: str, last: str) -> None:
    a, b = pair
    b.sysctl("net.ipv4.igmp_max_memberships", 20)
    endpoint = f"[{first}]:5004+63" if ":" in first else f"{first}:5004+63"
    listener = listen(b, endpoint, "-c", "64", "-T", "60s", joined=64)
    assert send(a, endpoint, "x", "-i", "a0").summary["sent"] == 64
    heard = Stream.of(listener.finish())
    groups = [one["dst"] for one in heard.datagrams]
    assert (len(set(groups)), groups[0], groups[-1]) == (64, first, last)


@pytest.mark.parametrize(
    ("own", "foreign"), [("239.1.1.1", "239.9.9.9"), ("[ff15::1]", "[ff15::9]")]
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_groups_of_other_programs_never_show_up(
    pair: Pair, own: str, foreign: str, elsewhere: bool
) -> None:
    a, b = pair
    program = ["-c", ELSEWHERE] if elsewhere else ["-m", "mcastctl"]
    options = ["listen", "-j", "-i", "b0", "-c", "1", "-T", "60s"]
    listener = b.popen([sys.executable, *program, *options, f"{own}:5004"])
    listener.wait_stdout('"joined"')
    neighbour = b.popen([sys.executable, *program, *options, f"{foreign}:5004"])
    neighbour.wait_stdout('"joined"')
    group = foreign.strip("[]")
    stranger = b.popen([sys.executable, "-c", STRANGER, group, "5004", str(b.ifindex())])
    stranger.wait_stdout("joined")
    send(a, f"{foreign}:5004", "foreign", "-i", "a0")
    send(a, f"{own}:5004", "own", "-i", "a0")
    stranger.wait_stdout("foreign")
    heard, other = Stream.of(listener.finish()), Stream.of(neighbour.finish())
    assert (heard.payloads, other.payloads) == (["own"], ["foreign"])
    # Linux keeps them away; where a system cannot, the destination check must have.
    assert heard.summary["skipped"] == (1 if elsewhere else 0)


def test_a_group_on_another_interface_is_not_heard_twice(world: World) -> None:
    """Two interfaces of one host on one switch: every datagram comes in by both."""
    a, b = world.host("a"), world.host("b")
    world.bridge("sw", a, b, b)
    listener = listen(b, "239.1.1.1:5004", "[ff02::5]:5004", "-i", "b0", "-c", "2", "-T", "60s")
    listener.wait_stdout('"joined"', count=2)
    b.sysctl("net.ipv4.conf.all.rp_filter", 0)
    other = listen(b, "239.1.1.1:5004", "[ff02::5]:5004", "-i", "b1", "-c", "2", joined=2)
    send(a, "239.1.1.1:5004", "4")
    send(a, "[ff02::5]:5004", "6")
    for one, name in ((listener, "b0"), (other, "b1")):
        heard = Stream.of(one.finish())
        assert [(d["iface"], d["payload"]) for d in heard.datagrams] == [(name, "4"), (name, "6")]


# --- who is heard


@pytest.mark.parametrize("version", [4, 6])
def test_sources_are_filtered(pair: Pair, version: int) -> None:
    a, b = pair
    if version == 4:
        a.ip("addr add 10.0.1.77/24 dev a0")
        first, second, groups = "10.0.1.1", "10.0.1.77", [f"239.1.1.{n}" for n in range(1, 6)]
    else:
        a.ip("addr add fd00:1::77/64 dev a0 nodad")
        first, second, groups = "fd00:1::1", "fd00:1::77", [f"ff15::{n}" for n in range(1, 6)]
    ports = [f"[{group}]:5004" if version == 6 else f"{group}:5004" for group in groups]
    stop = ["-i", "b0", "-T", "60s", "-c"]
    listeners = {"any": b.start_mcastctl("listen", ports[0], *stop, "2", "-j")}
    # First: the kernel lists no filters of an interface whose newest group has none.
    listeners["any"].wait_stdout('"joined"')
    listeners |= {
        "include": b.start_mcastctl("listen", f"{second}@{ports[1]}", *stop, "1", "-j"),
        "-S": b.start_mcastctl("listen", ports[2], "-S", second, *stop, "1", "-j"),
        "exclude": b.start_mcastctl("listen", f"!{first}@{ports[3]}", *stop, "1", "-j"),
        "both": b.start_mcastctl("listen", f"{first},{second}@{ports[4]}", *stop, "2", "-j"),
    }
    for name, listener in listeners.items():
        listener.wait_stdout('"joined"', count=2 if name == "both" else 1)
    assert filters(b, version) == {
        (groups[1], second, 1, 0),
        (groups[2], second, 1, 0),
        (groups[3], first, 0, 1),
        (groups[4], first, 1, 0),
        (groups[4], second, 1, 0),
    }
    for source in (first, second):  # the unwanted one first
        send(a, f"{ports[0]}+4", source, "--bind", source, "-i", "a0")
    heard = {name: Stream.of(listener.finish()) for name, listener in listeners.items()}
    assert {name: one.payloads for name, one in heard.items()} == {
        "any": [first, second],
        "include": [second],
        "-S": [second],
        "exclude": [second],
        "both": [first, second],
    }
    joined = heard["exclude"].only("joined")
    assert (joined["mode"], joined["source"]) == ("exclude", first)
    assert heard["include"].only("joined")["mode"] == "include"
    assert heard["any"].only("joined")["source"] is None
    for name, one in heard.items():
        assert [d["src"] for d in one.datagrams] == one.payloads, name


@pytest.mark.parametrize("version", [4, 6])
def test_each_listener_of_a_group_has_its_own_source(pair: Pair, version: int) -> None:
    a, b = pair
    a.ip("addr add 10.0.1.77/24 dev a0", "addr add fd00:1::77/64 dev a0 nodad")
    group, *sources = {
        4: ("232.1.1.1:5004", "10.0.1.1", "10.0.1.77"),
        6: ("[ff35::1]:5004", "fd00:1::1", "fd00:1::77"),
    }[version]
    listeners = [listen(b, f"{one}@{group}", "-i", "b0", "-c2", "-T5s") for one in sources]
    for _ in range(2):
        for source in sources:
            send(a, group, source, "--bind", source)
    for listener, source in zip(listeners, sources, strict=True):
        heard = Stream.of(listener.finish())
        assert heard.payloads == [source] * 2
        assert heard.summary["skipped"] == 0


def filters(host: Host, version: int) -> set[tuple[str, str, int, int]]:
    """What the kernel filters on the first port: (group, source, includes, excludes)."""
    found = set()
    for line in host.proc("mcfilter" if version == 4 else "mcfilter6").splitlines():
        fields = line.split()
        if fields[1] != host.ports[0]:
            continue
        group, source = (address(version, field) for field in fields[2:4])
        found.add((group, source, int(fields[4]), int(fields[5])))
    return found


def address(version: int, field: str) -> str:
    import ipaddress

    if version == 6:
        return str(ipaddress.IPv6Address(bytes.fromhex(field)))
    return str(ipaddress.IPv4Address(int(field, 16)))


@pytest.mark.parametrize(
    ("group", "source"),
    [
        ("232.1.1.1", "10.0.1.1"),
        ("[ff32::8000:1%b0]", "fe80::ff:fe00:101"),
        ("[ff35::8000:1]", "fd00:1::1"),
        ("[ff3e::8000:1%b0]", "fd00:1::1"),
        ("[ff3e::8000:1]%b0", "fd00:1::1"),
    ],
)
def test_source_specific_groups(pair: Pair, group: str, source: str) -> None:
    a, b = pair
    iface = [] if "%" in group else ["-i", "b0"]
    listener = listen(b, f"{source}@{group}:5004", *iface, "-c", "1", "-T", "60s")
    deaf = listen(b, f"{source}9@{group}:5004", *iface, "-T", "30s")
    bare = group.replace("%b0", "")
    sent = send(a, f"{source}@{bare}:5004", "x", "-i", "a0")
    assert sent.only("datagram")["src"] == source
    heard = Stream.of(listener.finish())
    assert heard.only("datagram")["src"] == source
    assert heard.only("joined")["mode"] == "include"
    assert {notice["code"] for notice in heard.all("notice")} <= {"rcvbuf"}
    deaf.signal(signal.SIGINT)
    assert Stream.of(deaf.finish()).datagrams == []


def test_an_interface_local_source_specific_group_stays_in_its_host(pair: Pair) -> None:
    a, b = pair
    there = listen(b, "fd00:1::1@[ff31::8000:1%b0]:5004", "[ff15::1%b0]:5004", joined=2)
    here = listen(a, "fd00:1::1@[ff31::8000:1%a0]:5004", "-c", "1", "-T", "60s")
    send(a, "fd00:1::1@[ff31::8000:1%a0]:5004", "mine")
    assert Stream.of(here.finish()).payloads == ["mine"]
    send(a, "[ff15::1%a0]:5004", "the end")
    there.wait_stdout("the end")
    there.signal(signal.SIGINT)
    assert Stream.of(there.finish()).payloads == ["the end"]


@pytest.mark.parametrize(
    ("group", "warned"),
    [
        ("232.1.1.1", True),
        ("[ff35::8000:1]", True),
        ("[ff12::1]", False),
        ("[ff15::1]", False),
        ("239.232.1.1", False),
    ],
)
def test_only_source_specific_groups_need_a_source(pair: Pair, group: str, warned: bool) -> None:
    a, b = pair
    listener = listen(b, f"{group}:5004", "-i", "b0", "-c", "1", "-T", "60s")
    send(a, f"{group}:5004", "x", "-i", "a0")
    heard = Stream.of(listener.finish())
    assert heard.payloads == ["x"]
    codes = {notice["code"] for notice in heard.all("notice")}
    assert ("ssm-without-source" in codes) == warned


# --- what is said about each datagram


@pytest.mark.parametrize("group", ["239.1.1.1", "[ff15::1]"])
def test_everything_known_about_a_datagram(pair: Pair, group: str) -> None:
    a, b = pair
    listener = listen(b, f"{group}:5004", "-c", "1", "-T", "60s")
    before = time.time()
    send(a, f"{group}:5004", "hello", "-i", "a0", "-t", "7", "-Q", "af41", "--bind", ":4321")
    after = time.time()
    datagram = Stream.of(listener.finish()).only("datagram")
    assert before < datagram.pop("ts") < after
    version = 6 if ":" in group else 4
    assert datagram == {
        "type": "datagram",
        "direction": "rx",
        "iface": "b0",
        "ifindex": b.ifindex(),
        "src": a.addr4() if version == 4 else a.addr6(),
        "sport": 4321,
        "dst": group.strip("[]"),
        "dport": 5004,
        "ttl": 7,
        "dscp": 34,
        "length": 5,
        "payload": "hello",
    }


def test_the_time_is_the_kernels(pair: Pair) -> None:
    """A listener that was busy elsewhere still tells when the datagram came."""
    a, b = pair
    listener = listen(b, "239.1.1.1:5004", "-c", "1", "-T", "60s")
    listener.signal(signal.SIGSTOP)
    inject(a, "239.1.1.1", [b"x"])
    sent = time.time()
    time.sleep(0.2)  # how late it is read
    listener.signal(signal.SIGCONT)
    assert Stream.of(listener.finish()).only("datagram")["ts"] < sent


def test_the_length_is_the_true_one(pair: Pair) -> None:
    a, b = pair
    groups = ["239.1.1.1:5004", "[ff15::1]:5004"]
    listener = listen(b, *groups, "-c", "5", "-T", "60s", joined=2)
    send(a, groups[0], "")
    send(a, groups[0], "--probe", "-s", "65507", "-c", "1")
    send(a, groups[1], "")
    send(a, groups[1], "--probe", "-s", "65527", "-c", "1")
    send(a, groups[1], "ü")
    heard = Stream.of(listener.finish())
    assert [one["length"] for one in heard.datagrams] == [0, 65507, 0, 65527, 2]
    assert heard.summary["bytes"] == 65507 + 65527 + 2
    assert heard.datagrams[0]["payload"] == ""
    big = base64.b64decode(heard.datagrams[3]["payload_b64"])
    assert big[32:] == probe.filling(65527 - 32)


def test_payloads_in_json(pair: Pair) -> None:
    a, b = pair
    texts = ["plain", "tab\tand\r\nline", 'grüße \u4f60 \\ "quoted" \'', ""]
    others = [b"\x00", b"\xff\xfe", b"esc\x1b[31m", "\u202ebidi".encode(), b"\x7f", b"caf\xe9"]
    listener = listen(b, "239.1.1.1:5004", "-c", str(len(texts + others)), "-T", "60s")
    inject(a, "239.1.1.1", [text.encode() for text in texts] + others)
    outcome = listener.finish()
    assert outcome.stdout.isascii()
    heard = Stream.of(outcome).datagrams
    assert [one["payload"] for one in heard[: len(texts)]] == texts
    assert [base64.b64decode(one["payload_b64"]) for one in heard[len(texts) :]] == others


def test_text_is_for_people_and_harmless(pair: Pair) -> None:
    a, b = pair
    listener = b.start_mcastctl("listen", "239.1.1.1:5004", "-c", "3")
    listener.wait_stderr(r"^joined 239\.1\.1\.1:5004 on b0 \(index \d+\)")
    inject(a, "239.1.1.1", [b"hello", b"evil\x1b]0;title\x07\xe2\x80\xae", b"\x00\x01"], sport=4000)
    outcome = listener.finish()
    lines = outcome.stdout.splitlines()
    assert outcome.stdout.isprintable() or outcome.stdout.replace("\n", "").isprintable()
    assert lines[0].endswith("b0 In 10.0.1.1:4000 > 239.1.1.1:5004 ttl 1 length 5 hello")
    assert r"evil\x1b]0;title\x07\u{202e}" in lines[1]
    assert lines[2].endswith("length 2 binary")
    assert "heard 3 datagrams, 24 bytes" in outcome.stderr


BINARY = [bytes(range(256)), b"", b"line\n", b"\xff\x00\r\n", b"mcst but no probe"]


def test_output_formats(pair: Pair) -> None:
    """One wire, a listener per format."""
    a, b = pair
    wanted = ["raw", "hex", "dots=10", "text", "json", "jsonl", "-x", "-X", "-A", "-q", "-qq"]
    listeners = {}
    for name in wanted:
        options = [name] if name.startswith("-") else ["-o", name]
        listeners[name] = b.start_mcastctl(
            "listen", "239.1.1.1:5004", "-i", "b0", "-c", str(len(BINARY)), "-T", "60s", *options
        )
    for name, listener in listeners.items():
        if name in ("json", "jsonl"):
            listener.wait_stdout('"joined"')
        elif name not in ("-q", "-qq"):
            listener.wait_stderr("^joined")
        else:
            wait_for_member(b, listener)
    inject(a, "239.1.1.1", BINARY)
    ended = {name: listener.finish() for name, listener in listeners.items()}
    assert {outcome.returncode for outcome in ended.values()} == {0}
    assert ended["raw"].raw == b"".join(BINARY)
    assert [bytes.fromhex(line) for line in ended["hex"].stdout.splitlines()] == BINARY
    size = sum(map(len, BINARY))
    assert ended["dots=10"].stdout == "." * (size // 10) + "\n"
    for name in ("json", "jsonl"):
        stream = Stream.of(ended[name])
        told = [one["type"] for one in stream.records if one.get("code") != "rcvbuf"]
        assert told == [
            "start",
            "joined",
            *["datagram"] * len(BINARY),
            "left",
            "summary",
        ]
        assert ended[name].stderr == ""
    assert len(ended["text"].stdout.splitlines()) == len(BINARY)
    assert "\t0x0000:  6c69 6e65 0a\n" in ended["-x"].stdout
    assert "\t0x0010:  1011 1213" in ended["-x"].stdout
    assert f"\t0x0000:  6c69 6e65 0a{'':27}  line.\n" in ended["-X"].stdout
    assert "\t0x0040:  4041 4243 4445 4647 4849 4a4b 4c4d 4e4f  @ABCDEFGHIJKLMNO" in (
        ended["-X"].stdout
    )
    assert "mcst but no probe\n" in ended["-A"].stdout
    assert "0x0000" not in ended["-A"].stdout
    assert (ended["-q"].stdout, ended["-qq"].stdout) == ("", "")
    assert f"heard {len(BINARY)} datagrams, {size} bytes" in ended["-q"].stderr
    assert ended["-qq"].stderr == ""


def wait_for_member(host: Host, running: Running) -> None:
    """Wait until a silent listener has its socket: nothing else tells that it joined."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if any("socket:" in link for link in descriptors(running.pid)):
            inodes = {link[8:-1] for link in descriptors(running.pid) if "socket:" in link}
            bound = {line.split()[9] for line in host.proc("udp").splitlines()[1:]}
            joined = "010101EF" in host.proc("igmp")
            if inodes & bound and joined:
                return
        time.sleep(0.005)
    raise AssertionError("never joined")


def descriptors(pid: int) -> list[str]:
    """What the descriptors of a process are."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return found


def test_marks_come_as_the_bytes_do(pair: Pair) -> None:
    a, b = pair
    listener = b.start_mcastctl("listen", "239.1.1.1:5004", "-o", "dots=10")
    listener.wait_stderr("^joined")
    sender = a.start_mcastctl(
        "send",
        "239.1.1.1:5004",
        "0123456789abcde",
        "--interval",
        "50ms",
        "--bind",
        ":4000",
        "-c",
        "4",
    )
    listener.wait_stdout(r"\A\.\.")  # while the sender still sends: 15 bytes are one mark
    assert sender.process.poll() is None
    assert sender.finish().returncode == 0
    listener.wait_stdout(r"\A\.{6}\Z")
    listener.signal(signal.SIGINT)
    assert listener.finish().stdout == "......\n"


def test_what_was_heard_in_hex_can_be_sent_again(pair: Pair) -> None:
    a, b = pair
    for payload in (bytes(range(256)), b"\x00"):
        first = b.start_mcastctl("listen", "239.1.1.1:5004", "-o", "hex", "-c", "1")
        first.wait_stderr("^joined")
        inject(a, "239.1.1.1", [payload])
        line = first.finish().stdout.strip()
        again = b.start_mcastctl("listen", "239.1.1.1:5004", "-o", "raw", "-c", "1")
        again.wait_stderr("^joined")
        send(a, "239.1.1.1:5004", "--hex", line)
        assert again.finish().raw == payload


def test_a_program_for_each_datagram(pair: Pair) -> None:
    a, b = pair
    command = "sh -c 'echo $MCASTCTL_SRC $MCASTCTL_GROUP $MCASTCTL_TTL $(cat)'"
    listener = b.start_mcastctl("listen", "239.1.1.1:5004", "-q", "-c", "2", "--exec", command)
    wait_for_member(b, listener)
    inject(a, "239.1.1.1", [b"$(reboot)", b"two"])
    ended = listener.finish()
    assert ended.returncode == 0
    assert sorted(ended.stdout.splitlines()) == [
        "10.0.1.1 239.1.1.1 1 $(reboot)",
        "10.0.1.1 239.1.1.1 1 two",
    ]


# --- statistics


def test_loss_duplicates_and_reordering_of_probes(pair: Pair) -> None:
    a, b = pair
    numbers = [0, 1, 2, 4, 3, 6, 7, 7, 7, 10, 9, 11]  # 5 and 8 never came
    listener = listen(b, "239.1.1.1:5004", "-c", str(len(numbers) + 3), "-T", "60s")
    inject(a, "239.1.1.1", probes(*numbers), sport=4000)
    inject(a, "239.1.1.1", probes(70, 72, 71, stream=2), sport=4000)
    heard = Stream.of(listener.finish())
    one, two = heard.summary["streams"]
    expected = {"lost": 2, "duplicates": 2, "reordered": 2, "first_seq": 0, "last_seq": 11}
    assert {key: one[key] for key in expected} == expected
    assert (one["packets"], one["kind"], one["src"], one["sport"]) == (12, "probe", a.addr4(), 4000)
    expected = {"lost": 0, "duplicates": 0, "reordered": 1, "first_seq": 70, "last_seq": 72}
    assert {key: two[key] for key in expected} == expected
    totals = {"packets": 15, "lost": 2, "duplicates": 2, "reordered": 3, "kernel_drops": 0}
    assert {key: heard.summary[key] for key in totals} == totals
    assert [d["seq"] for d in heard.datagrams] == [*numbers, 70, 72, 71]
    assert len({d["stream"] for d in heard.datagrams}) == 2


def rtp(seq: int, ticks: int) -> bytes:
    header = bytes([0x80, 33]) + seq.to_bytes(2, "big") + ticks.to_bytes(4, "big")
    return header + b"\xca\xfe\xba\xbe" + b"media"


def transport(counter: int, pid: int = 256) -> bytes:
    head = bytes([0x47, pid >> 8, pid & 255, 0x10 | counter & 15])
    return head + bytes(184)


def test_rtp_is_recognised(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, "239.1.1.1:5004", "-c", "7", "-T", "60s")
    numbers = [65533, 65534, 0, 65535, 1, 1, 4]  # wraps; 2 and 3 never came
    inject(a, "239.1.1.1", [rtp(n, 900 * i) for i, n in enumerate(numbers)], gap_s=0.01)
    heard = Stream.of(listener.finish())
    (stream,) = heard.summary["streams"]
    expected = {"kind": "rtp", "stream": "cafebabe", "lost": 2, "duplicates": 1, "reordered": 1}
    assert {key: stream[key] for key in expected} == expected
    assert 0 < stream["jitter_ms"] < 20
    assert [d["seq"] for d in heard.datagrams[:2]] == [65533, 65534]


def test_mpeg_ts_is_recognised(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, "239.1.1.1:5004", "-c", "4", "-T", "60s")
    counters = [(13, 14, 15), (0, 1, 2), (5, 6, 6), (7, 8, 9)]  # 3 and 4 lost, 6 twice
    inject(a, "239.1.1.1", [b"".join(map(transport, three)) for three in counters])
    heard = Stream.of(listener.finish())
    (stream,) = heard.summary["streams"]
    expected = {"kind": "mpegts", "packets": 4, "lost": 2, "duplicates": 1, "reordered": 0}
    assert {key: stream[key] for key in expected} == expected


def test_any_other_stream_has_a_rate_and_gaps(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, "239.1.1.1:5004", "-c", "5", "-T", "60s")
    inject(a, "239.1.1.1", [b"tick"] * 5, gap_s=0.05)
    (stream,) = Stream.of(listener.finish()).summary["streams"]
    assert stream["kind"] == "plain"
    assert (stream["first_seq"], stream["last_seq"], stream["lost"]) == (None, None, 0)
    assert 50 <= stream["max_gap_ms"] < 10_000
    assert 0.4 < stream["packets_per_s"] <= 20


def test_what_the_kernel_dropped_is_told_apart(pair: Pair) -> None:
    a, b = pair
    total = 400
    listener = listen(b, "239.1.1.1:5004", "--rcvbuf", "16k")
    joined = listener.wait_stdout('"rcvbuf_bytes":([0-9]+)')
    assert int(joined[1]) <= 16000 + 4096  # what it got, not what is usual
    listener.signal(signal.SIGSTOP)
    inject(a, "239.1.1.1", probes(*range(total)), sport=4000)
    listener.signal(signal.SIGCONT)
    all_read(b)
    for number in range(total, total + 3):  # which it has room for
        inject(a, "239.1.1.1", probes(number), sport=4000)
    heard = heard_out(listener, b)
    (stream,) = heard.summary["streams"]
    assert (stream["first_seq"], stream["last_seq"]) == (0, total + 2)
    assert heard.summary["kernel_drops"] > total // 2
    assert stream["lost"] == heard.summary["kernel_drops"] == total + 3 - stream["packets"]
    assert "kernel-drops" in {notice["code"] for notice in heard.all("notice")}


def test_a_group_that_stays_silent_beside_others_is_named(pair: Pair) -> None:
    a, b = pair
    groups = ("239.1.1.1:5004", "[ff15::1]:5004", "239.1.1.3:5004")
    listener = listen(b, *groups, "-i", "b0", "-q", "--idle", "2.5s", joined=3)
    send(a, "239.1.1.3:5004", "-c", "2", "--interval", "1ms", "-i", "a0", "x")
    heard = Stream.of(listener.finish())
    (notice,) = [one for one in heard.all("notice") if one["code"] == "silent"]
    assert notice["text"] == "nothing heard of 239.1.1.1:5004 on b0, [ff15::1]:5004 on b0"
    assert "doctor 239.1.1.1:5004 -i b0" in notice["hint"]


def test_a_smaller_buffer_than_asked_for_is_told(pair: Pair) -> None:
    _, b = pair
    outcome = b.mcastctl(
        "listen", "239.1.1.1:5004", "-T", "0.1s", "-j", "--rcvbuf", "1000GiB", privileged=False
    )
    heard = Stream.of(outcome)
    (notice,) = (one for one in heard.all("notice") if one["code"] == "rcvbuf")
    granted = heard.only("joined")["rcvbuf_bytes"]
    assert 0 < granted < 1 << 31
    assert str(granted) in notice["text"]


def test_intervals_add_up(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, "239.1.1.1:5004", "--interval", "100ms", "-q")
    send(a, "239.1.1.1:5004", "--probe", "--pps", "100", "-c", "50", "-i", "a0")
    heard = heard_out(listener, b)
    assert heard.datagrams == []  # -q leaves the data out
    intervals = heard.all("interval")
    assert heard.summary["packets"] == sum(one["packets"] for one in intervals) == 50
    assert sum(stream["packets"] for one in intervals for stream in one["streams"]) == 50
    whole = [one["elapsed_s"] for one in intervals[:-1]]
    assert min(whole) >= 0.1
    assert min(whole) < 0.15  # others as late as the machine may be
    for one in intervals:
        assert one["packets_per_s"] == pytest.approx(one["packets"] / one["elapsed_s"], rel=0.01)


def test_twenty_thousand_a_second_for_ten_seconds(pair: Pair) -> None:
    a, b = pair
    listener = listen(b, "239.1.1.1:5004", "-q")
    sent = Stream.of(
        a.mcastctl(
            "send",
            "239.1.1.1:5004",
            "--probe",
            "--pps",
            "20k",
            "-s",
            "200",
            "-T",
            "10s",
            "-i",
            "a0",
            "-q",
            "-j",
            timeout=60,
        )
    )
    heard = heard_out(listener, b)
    assert sent.status == 0
    assert 180_000 < sent.summary["sent"] <= 202_000
    assert sent.summary["refused"] == 0
    (stream,) = heard.summary["streams"]
    assert stream["bytes"] == 200 * stream["packets"]
    check_all_heard(heard.summary, sent.summary["sent"])


# --- verdicts

SEQUENCE = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]  # one of eleven is lost
VERDICTS = [
    ("-c 10 -T 60s", 0),
    ("-c 11 -T 1.5s", 1),
    ("--expect 10 -c 10", 0),
    ("--expect 11 -T 1.5s", 1),
    ("--expect 10", 0),
    ("--expect-none -T 60s", 1),
    ("--expect-none -T 1.5s -p 5006", 0),
    ("-T 1.5s -p 5006", 1),
    ("--idle 0.5s -p 5006", 1),
    ("--expect-from 10.0.1.1 -c 10", 0),
    ("--expect-from 10.0.1.1 --expect-from 10.0.1.9 -c 10", 1),
    ("--max-loss 9.1% -c 10", 0),
    ("--max-loss 9 -c 10", 1),
    ("--max-jitter 5s -c 10", 0),
    ("--max-jitter 0.000000001s -c 10", 1),
    ("--max-loss 0 -c 1 -p 5005", 2),
]


def test_verdicts(pair: Pair) -> None:
    """One wire, a listener per question, each answered by its exit status."""
    a, b = pair
    listeners = []
    for options, _ in VERDICTS:
        given = options if "-p" in options else f"{options} -p 5004"
        listener = b.start_mcastctl("listen", "239.1.1.1", "-j", "-i", "b0", *given.split())
        listeners.append(listener)
    for listener in listeners:
        listener.wait_stdout('"joined"')
    inject(a, "239.1.1.1", probes(*SEQUENCE), gap_s=0.003)
    inject(a, "239.1.1.1", [b"without numbers"], port=5005)
    for listener, (options, status) in zip(listeners, VERDICTS, strict=True):
        heard = Stream.of(listener.finish())
        assert heard.status == status, (options, heard.summary)
        assert bool(heard.summary["unmet"]) == (status == 1), options
        errors = [one for one in heard.records if one.get("level") == "error"]
        assert bool(errors) == (status == 2), options


def test_the_verdict_says_why(pair: Pair) -> None:
    _, b = pair
    outcome = b.mcastctl(
        "listen", "239.1.1.1:5004", "-T", "0.1s", "--expect", "2", "--expect-from", "10.9.9.9"
    )
    assert outcome.returncode == 1
    assert re.search("^not met: heard .* 2 ", outcome.stderr, re.MULTILINE)
    assert "not met: heard nothing from 10.9.9.9\n" in outcome.stderr
    assert outcome.stdout == ""


def test_reasons_to_stop(pair: Pair) -> None:
    a, b = pair
    idle = listen(b, "239.1.1.1:5004", "--idle", "2.5s")
    inject(a, "239.1.1.1", [b"x"] * 4, gap_s=0.1)
    heard = Stream.of(idle.finish())
    assert (heard.summary["reason"], heard.summary["packets"], heard.status) == ("idle", 4, 0)
    assert 2.4 < heard.summary["ts"] - heard.datagrams[-1]["ts"] < 10
    heard = Stream.of(b.mcastctl("listen", "239.1.1.1:5004", "-T", "300ms", "-j"))
    assert (heard.summary["reason"], heard.status) == ("timeout", 1)
    assert 0.3 <= heard.summary["elapsed_s"] < 3


# --- signals, pipes and descriptors


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_it_after_the_summary(pair: Pair, name: str) -> None:
    a, b = pair
    number = getattr(signal, name)
    listener = listen(b, "239.1.1.1:5004")
    people = b.start_mcastctl("listen", "239.1.1.1:5004")
    people.wait_stderr("^joined")
    inject(a, "239.1.1.1", [b"x"])
    listener.wait_stdout('"datagram"')
    people.wait_stdout(" x$")
    listener.signal(number)
    people.signal(number)
    heard = Stream.of(listener.finish())
    assert heard.status == -number
    assert (heard.summary["reason"], heard.summary["packets"]) == ("signal", 1)
    ended = people.finish()
    assert ended.returncode == -number
    assert "heard 1 datagram, 1 byte" in ended.stderr


@pytest.mark.parametrize("options", [["-q"], []], ids=["quiet", "shown"])
def test_what_came_before_the_end_is_counted(pair: Pair, options: list[str]) -> None:
    """Neither a signal nor a deadline takes back what waits in the socket by then."""
    a, b = pair
    timed = listen(b, "239.1.1.1:5004", "-T", "1s", *options)
    interrupted = listen(b, "239.1.1.1:5004", *options)
    for one in (timed, interrupted):
        one.signal(signal.SIGSTOP)
    inject(a, "239.1.1.1", [b"x"] * 300)
    interrupted.signal(signal.SIGINT)
    interrupted.signal(signal.SIGCONT)
    heard = Stream.of(interrupted.finish())
    assert (heard.summary["packets"], heard.status) == (300, -signal.SIGINT)
    time.sleep(1)  # until its time is up
    timed.signal(signal.SIGCONT)
    heard = Stream.of(timed.finish())
    assert (heard.summary["packets"], heard.summary["reason"], heard.status) == (300, "timeout", 0)
    assert len(heard.datagrams) == (0 if options else 300)


def test_a_flood_does_not_delay_the_end(pair: Pair) -> None:
    a, b = pair
    group = "239.1.1.1:5004"
    flood = a.start_mcastctl("send", group, "--probe", "--flood", "-T", "5s", "-q")
    listener = listen(b, group, "-T", "500ms", "-q", "--rcvbuf", "32M")
    heard = Stream.of(listener.finish()).summary
    flood.stop()
    assert heard["packets"] > 1000
    assert heard["elapsed_s"] < 1.5


def test_a_background_job_can_be_interrupted(pair: Pair) -> None:
    """A shell without job control ignores SIGINT in what it starts with '&'."""
    _, b = pair
    script = f"trap '' INT; exec {sys.executable} -m mcastctl listen 239.1.1.1:5004 -j"
    listener = b.popen(["sh", "-c", script])
    listener.wait_stdout('"joined"')
    listener.signal(signal.SIGINT)
    assert Stream.of(listener.finish()).status == -signal.SIGINT


def test_nohup_is_respected(pair: Pair) -> None:
    a, b = pair
    script = f"trap '' HUP; exec {sys.executable} -m mcastctl listen 239.1.1.1:5004 -c 1 -j"
    listener = b.popen(["sh", "-c", script])
    listener.wait_stdout('"joined"')
    listener.signal(signal.SIGHUP)
    inject(a, "239.1.1.1", [b"still here"])
    assert Stream.of(listener.finish()).payloads == ["still here"]


@pytest.mark.parametrize("form", [[], ["-j"], ["-o", "raw"]])
def test_a_reader_that_goes_away_ends_it(pair: Pair, form: list[str]) -> None:
    a, b = pair
    reading, writing = os.pipe()
    listener = b.start_mcastctl("listen", "239.1.1.1:5004", *form, stdout=writing)
    os.close(writing)
    try:
        wait_for_member(b, listener)
        inject(a, "239.1.1.1", [b"one"])
        assert os.read(reading, 1)
    finally:
        os.close(reading)
    inject(a, "239.1.1.1", [b"two"])
    ended = listener.finish()
    assert ended.returncode == -signal.SIGPIPE
    assert "Traceback" not in ended.stderr
    assert "rror" not in ended.stderr


@pytest.mark.parametrize("form", [[], ["-j"], ["-o", "raw"]])
def test_a_full_disk_is_an_error(pair: Pair, form: list[str]) -> None:
    a, b = pair
    with Path("/dev/full").open("wb") as full:
        listener = b.start_mcastctl("listen", "239.1.1.1:5004", "-c1", *form, stdout=full.fileno())
    if form != ["-j"]:
        wait_for_member(b, listener)
        inject(a, "239.1.1.1", [b"x"])
    ended = listener.finish()
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    errors = [n for n, line in enumerate(lines) if line.startswith("mcastctl: error: ")]
    assert len(errors) == 1, ended.stderr
    assert "no space left on device" in lines[errors[0]]
    assert lines[errors[0] + 1].startswith("hint: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_do_no_harm(pair: Pair, closed: str) -> None:
    a, b = pair
    script = f"exec {sys.executable} -m mcastctl listen 239.1.1.1:5004 -i b0 -c 1 -T 5s {closed}"
    listener = b.popen(["sh", "-c", script])
    wait_for_member(b, listener)
    inject(a, "239.1.1.1", [b"hello"])
    ended = listener.finish()
    without = ">&-" in closed.replace("2>&-", "")
    assert ended.returncode == (2 if without else 0)
    assert ("hello" in ended.stdout) == (not without)
    assert "Traceback" not in ended.stderr


# --- settings


def test_settings_of_environment_and_file(pair: Pair) -> None:
    a, b = pair
    folder = b.config_home / "mcastctl"
    folder.mkdir()
    (folder / "config.toml").write_text(
        '[groups]\nvideo = "239.1.1.1:5004"\nradio = "[ff15::1]:5004"\n'
        '[listen]\niface = ["b0"]\ncount = 3\njson = true\n[send]\nttl = 9\n'
    )
    listener = b.start_mcastctl("listen", "video", "radio", env={"MCASTCTL_LISTEN_COUNT": "2"})
    listener.wait_stdout('"joined"', count=2)
    send(a, "video", "one")
    send(a, "radio", "two", "-t", "5")
    heard = Stream.of(listener.finish())
    assert [(d["payload"], d["ttl"]) for d in heard.datagrams] == [("one", 9), ("two", 5)]
    assert heard.records[0]["endpoints"] == ["239.1.1.1:5004", "[ff15::1]:5004"]
    listener = b.start_mcastctl(
        "listen", "video", "-c", "1", env={"MCASTCTL_LISTEN_COUNT": "2"}, stdin=subprocess.DEVNULL
    )
    listener.wait_stdout('"joined"')
    send(a, "video", "three")
    assert Stream.of(listener.finish()).payloads == ["three"]  # the command line wins

"""`echo` answers requests by unicast as the asker can use it, and can never be kept busy."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
from contextlib import suppress
from itertools import product
from pathlib import Path
from subprocess import PIPE

import pytest
import wire
from conftest import Pair, Trio
from streams import Stream
from world import Host, Running, World, need

from mcastctl.model import probe

GROUP4, GROUP6 = "239.1.1.1:5004", "[ff15::1]:5004"

# argv: own address, group, port, interface index; "TTL payload-in-hex" lines on stdin, one asker.
# Prints what is answered to each, an empty line where nothing is within 0.5 s.
ASK_AGAIN = """
import socket, struct, sys
own, there, port, index = sys.argv[1:]
version6 = ":" in there
sock = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((own, 4000))
sock.settimeout(0.5)
for line in sys.stdin:
    ttl, payload = line.split()
    if version6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, int(index))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, int(ttl))
    else:
        request = struct.pack("@4s4si", b"", b"", int(index))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, int(ttl))
    sock.sendto(bytes.fromhex(payload), (there, int(port)))
    try:
        print(sock.recv(65535).hex(), flush=True)
    except TimeoutError:
        print(flush=True)
"""

# Binds a port and lets nobody share it.
OCCUPY = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", int(sys.argv[1])))
print("bound", flush=True)
sys.stdin.read()
"""


def start(host: Host, *args: str, joined: int = 1) -> Running:
    """An echo that prints JSON and has joined everything."""
    echo = host.start_mcastctl("echo", "-j", "-T", "60s", *args)
    echo.wait_stdout('^{"type":"joined"', count=joined)
    return echo


def end(echo: Running) -> Stream:
    """Interrupt it and read what it said."""
    echo.signal(signal.SIGINT)
    return Stream.of(echo.finish())


def request(number: int = 0, kind: int = probe.REQUEST) -> bytes:
    """A probe, told apart by its number."""
    return probe.encode(probe.Probe(kind, 1, 0, 77, number, 1), 40)


def ping(host: Host, *args: str) -> Stream:
    """One request, a short wait."""
    return Stream.of(host.mcastctl("ping", "-j", "-c", "1", "--wait", "0.6s", *args))


# --- the answer


@pytest.mark.parametrize(
    ("endpoint", "bind", "asker", "answerer"),
    [
        ("224.0.0.123:7645", ":4000", "10.0.1.1", "10.0.1.2"),
        (GROUP4, "10.0.1.1:4000", "10.0.1.1", "10.0.1.2"),
        ("[ff02::123]:7645", ":4000", "fe80::ff:fe00:101", "fe80::ff:fe00:102"),
        ("[ff02::123]:7645", "[fd00:1::1]:4000", "fd00:1::1", "fd00:1::2"),
        (GROUP6, ":4000", "fd00:1::1", "fd00:1::2"),
        ("[ff1e::1]:5004", "[fe80::ff:fe00:101]:4000", "fe80::ff:fe00:101", "fe80::ff:fe00:102"),
    ],
)
def test_a_request_is_answered_to_the_address_and_port_it_came_from(
    pair: Pair, endpoint: str, bind: str, asker: str, answerer: str
) -> None:
    a, b = pair
    port = int(endpoint.rpartition(":")[2])
    echo = start(b, f"{endpoint}" if "ff02" not in endpoint else "[ff02::123%b0]:7645")
    wired = wire.watch(a)
    asked = ping(a, endpoint, "-i", "a0", "--bind", bind)
    assert asked.status == 0
    kinds = {reply["kind"]: (reply["responder"], reply["port"]) for reply in asked.all("reply")}
    assert kinds == {"multicast": (answerer, port), "unicast": (answerer, port)}
    seen = [one for one in wire.settled(wired, a) if one.protocol == wire.UDP]
    answers = [one for one in seen if not one.outgoing]
    assert len(answers) == 2
    for one in answers:
        assert (one.src, one.sport, one.dst, one.dport) == (answerer, port, asker, 4000)
        header = probe.decode(one.payload)
        assert header is not None
        assert header.kind == probe.REPLY
    # Each is its request turned into a reply, byte for byte.
    requests = [one.payload for one in seen if one.outgoing]
    assert [one.payload[8:] for one in answers] == [one[8:] for one in requests]
    said = end(echo)
    assert said.summary["replies_sent"] == 2
    received = said.datagrams[0]
    assert (received["direction"], received["src"], received["sport"]) == ("rx", asker, 4000)
    assert (received["iface"], received["ifindex"]) == ("b0", b.ifindex())


def test_both_families_at_once_and_by_either_interface(world: World) -> None:
    a, b, c = (world.host(name) for name in "abc")
    world.link(a, b)
    world.link(c, b)
    echo = start(b, GROUP4, "[ff02::9]:5004", "-i", "b0", "-i", "b1", joined=4)
    for host, number, four, six in (
        (a, 0, "10.0.1.2", "fe80::ff:fe00:102"),
        (c, 1, "10.0.2.2", "fe80::ff:fe00:202"),
    ):
        assert wire.ask(host, "239.1.1.1", 5004, request(number))[0][:2] == (four, 5004)
        assert wire.ask(host, "ff02::9", 5004, request(number))[0][:2] == (six, 5004)
    heard = [(one["iface"], one["seq"]) for one in end(echo).datagrams if one["direction"] == "rx"]
    assert heard == [("b0", 0), ("b0", 0), ("b1", 1), ("b1", 1)]


def test_what_comes_by_two_interfaces_is_two_streams(world: World) -> None:
    a, b = world.host("a"), world.host("b")
    world.link(a, b)
    world.link(a, b)
    echo = start(b, GROUP4, "-i", "b0", "-i", "b1", joined=2)
    by_both = ("-i", "a0", "-i", "a1", "--bind", "10.0.1.1:4000")
    ping(a, GROUP4, *by_both, "-c", "3", "--interval", "9ms")
    found = end(echo).summary
    groups = [one for one in found["streams"] if one["dst"] == "239.1.1.1"]
    assert [(one["iface"], one["packets"]) for one in groups] == [("b0", 3), ("b1", 3)]
    assert (found["duplicates"], found["lost"], found["reordered"]) == (0, 0, 0)


@pytest.mark.parametrize("address", ["10.0.1.77", "fd00:1::77", "10.0.9.77", "fd00:9::77"])
def test_a_unicast_request_is_answered_from_the_address_it_was_sent_to(
    pair: Pair, address: str
) -> None:
    a, b = pair
    length, via = (64, "fd00:1::2") if ":" in address else (24, "10.0.1.2")
    b.ip(f"addr add {address}/{length} dev b0 {'nodad' if ':' in address else ''}")
    a.ip(f"route replace {address} via {via}")
    echo = start(b, GROUP4, GROUP6, joined=2)
    assert [one[:2] for one in wire.ask(a, address, 5004, request())] == [(address, 5004)]
    assert end(echo).summary["replies_sent"] == 1


def test_an_asker_behind_a_router_is_answered(world: World) -> None:
    a, router, b = (world.host(name) for name in ("a", "router", "b"))
    world.link(a, router)
    world.link(b, router)
    router.sysctl("net.ipv4.ip_forward", 1)
    a.ip("route add default via 10.0.1.2")
    b.ip("route add default via 10.0.2.2")
    echo = start(b, GROUP4, "-i", "b0")
    # The request comes as a multicast router would pass it on: one TTL less.
    frame = wire.udp("10.0.1.1", 4000, "239.1.1.1", 5004, request(), ttl=6)
    wired = wire.watch(a)
    wire.inject(router, [frame], "router1")
    wired.wait_stdout(request()[8:].hex())
    (answer,) = [one for one in wire.packets(wired) if one.protocol == wire.UDP]
    assert (answer.src, answer.dst, answer.dport) == ("10.0.2.1", "10.0.1.1", 4000)
    header = probe.decode(answer.payload)
    assert header is not None
    assert header.seen_ttl == 6
    end(echo)


# --- what is answered


def test_text_to_a_request_and_to_anything(pair: Pair) -> None:
    a, b = pair
    echo = start(b, GROUP4, "--text", "here am I: ü", "--any")
    replies = ping(a, GROUP4).all("reply")
    assert [reply["payload"] for reply in replies] == ["here am I: ü"] * 2
    sent = Stream.of(a.mcastctl("send", GROUP4, "who?", "-j", "--wait", "1s"))
    assert sent.summary["replies"] == 1
    answer = sent.datagrams[-1]
    assert (answer["direction"], answer["payload"]) == ("rx", "here am I: ü")
    assert (answer["src"], answer["sport"]) == ("10.0.1.2", 5004)
    assert end(echo).summary["replies_sent"] == 3


def test_exec_hostname_does_what_socat_does(trio: Trio) -> None:
    need("socat", "hostname")
    asker, (x, y, _) = trio
    join = f"UDP4-RECVFROM:7777,ip-add-membership=224.0.0.123:{y.addr4()},fork"
    socat = y.popen(["socat", "-v", join, "EXEC:hostname"])
    echo = start(x, "224.0.0.123:7777", "-i", "x0", "--exec", "hostname", "--any")
    y.sh("until ip maddr show dev y0 | grep -q 224.0.0.123; do sleep 0.01; done")
    hostname = x.run(["hostname"]).stdout

    # The same sender to both. hostname does not read: now and then it has ended before socat wrote
    # to it, and that time socat gives no answer.
    sender = asker.start_mcastctl("send", "-j", "224.0.0.123:7777", "-i", "a0", stdin=PIPE)
    lines = until_both_answered(sender, "hello\n", '"direction":"rx"')
    replies = [one for one in Stream.of(sender.finish()).datagrams if one["direction"] == "rx"]
    sources = [(one["src"], one["sport"]) for one in replies]
    assert sources.count((x.addr4(), 7777)) == lines
    assert sources.count((y.addr4(), 7777)) == len(sources) - lines > 0
    assert {one["payload"] for one in replies} == {hostname}

    target = f"UDP4-DATAGRAM:224.0.0.123:7777,ip-multicast-if={asker.addr4()}"
    peer = asker.popen(["socat", "STDIO", target], stdin=PIPE)
    more = until_both_answered(peer, "hello", re.escape(hostname))
    peer.stop()
    assert peer.stdout == hostname * (more + 1)
    assert "hello" in socat.stderr
    assert end(echo).summary["replies_sent"] == lines + more


def until_both_answered(sender: Running, line: str, answer: str) -> int:
    """Send, once more as often as only one of two answers; returns how often."""
    for sent in range(1, 20):
        sender.write(line)
        sender.wait_stdout(answer, count=sent)
        with suppress(AssertionError):
            sender.wait_stdout(answer, timeout=1, count=sent + 1)
            return sent
    raise AssertionError(f"only one answers: {sender.stdout}{sender.stderr}")


def test_exec_gets_the_payload_and_answers_with_the_output(pair: Pair) -> None:
    a, b = pair
    echo = start(b, GROUP4, GROUP6, "--exec", "cat", "--any", joined=2)
    for payload in (bytes(range(256)), b"", b"x" * 1400, b"$(reboot); `id`\n"):
        for group in ("239.1.1.1", "ff15::1"):
            assert [one.payload for one in wire.ask(a, group, 5004, payload)] == [payload]
    (answer,) = wire.ask(a, "239.1.1.1", 5004, request(5))
    header = probe.decode(answer.payload)
    assert header is not None
    assert (header.kind, header.seq) == (probe.REPLY, 5)
    assert answer.payload[probe.MIN_SIZE :] == request(5)
    assert end(echo).summary["replies_sent"] == 9


def test_exec_is_told_who_asked(pair: Pair) -> None:
    a, b = pair
    told = "sh -c 'echo $MCASTCTL_SRC $MCASTCTL_SPORT $MCASTCTL_GROUP $MCASTCTL_IFACE'"
    echo = start(b, GROUP4, "--exec", told, "--any")
    (answer,) = wire.ask(a, "239.1.1.1", 5004, b"?", sport=4000)
    assert answer.payload == b"10.0.1.1 4000 239.1.1.1 b0\n"
    end(echo)


def test_a_command_that_fails_gives_no_answer(pair: Pair) -> None:
    a, b = pair
    echo = start(b, GROUP4, "--any", "--exec", "sh -c 'read word; echo $word; test $word != bad'")
    asker = wire.start_ask(a, "239.1.1.1", 5004, b"bad\n", sport=4000)
    echo.wait_stdout('"payload":"bad')
    assert wire.ask(a, "239.1.1.1", 5004, b"good\n", sport=4001)[0].payload == b"good\n"
    assert asker.stdout == ""
    said = end(echo).summary
    assert (said["replies_sent"], said["ignored"]) == (1, {"exec-failed": 1})


def test_no_child_outlives_the_echo(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    command = f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60'"
    echo = start(b, GROUP4, "--exec", command, "--any")
    wire.start_ask(a, "239.1.1.1", 5004, b"?")
    b.sh(f"until test -s {tmp_path}/pid; do sleep 0.01; done")
    child = os.pidfd_open(int((tmp_path / "pid").read_text()))
    try:
        end(echo)
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(child, 0)
    finally:
        os.close(child)


def test_text_and_exec_contradict_each_other(here: Host) -> None:
    outcome = here.mcastctl("echo", GROUP4, "--text", "x", "--exec", "hostname")
    assert outcome.returncode == 2
    assert (
        outcome.stderr.splitlines()[0] == "mcastctl: error: --text and --exec contradict each other"
    )


def test_a_program_that_is_not_there(pair: Pair) -> None:
    outcome = pair.b.mcastctl("echo", GROUP4, "--exec", "no-such-program -x", "-T", "1s")
    assert outcome.returncode == 2
    assert outcome.stderr.splitlines()[0] == (
        "mcastctl: error: cannot run 'no-such-program': no such program"
    )
    assert len(outcome.stderr.splitlines()) == 2


# --- what is not answered


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_plain_datagrams_get_no_answer_unless_asked_for(pair: Pair, group: str) -> None:
    a, b = pair
    echo = start(b, group, "-c", "1")
    sent = Stream.of(a.mcastctl("send", "-j", group, "x", "-c", "1000", "--pps", "5000"))
    assert sent.summary["sent"] == 1000
    probes = ["--probe", "-c", "10", "--interval", "1ms", "--wait", "0.1s"]
    assert Stream.of(a.mcastctl("send", "-j", group, *probes)).summary["replies"] == 0
    address = group.rpartition(":")[0].strip("[]")
    assert len(wire.ask(a, address, 5004, request())) == 1
    said = Stream.of(echo.finish())
    assert (said.status, said.summary["reason"]) == (0, "count")
    assert said.summary["replies_sent"] == 1
    assert said.summary["ignored"] == {"not-a-request": 1010}
    assert said.summary["packets"] == 1011


def test_answers_to_plain_datagrams_are_few_and_requests_go_on(pair: Pair) -> None:
    a, b = pair
    echo = start(b, GROUP4, "--any")
    args = ["x", "-c", "1000", "--pps", "2000", "--wait", "0.6s"]
    sent = Stream.of(a.mcastctl("send", "-j", GROUP4, *args)).summary
    assert 10 <= sent["replies"] <= 10 + 10 * sent["elapsed_s"]
    often = ["-c", "50", "--interval", "2ms", "--wait", "0.6s"]
    asked = Stream.of(a.mcastctl("ping", "-j", GROUP4, *often)).summary
    (responder,) = asked["responders"]
    assert responder["multicast"]["received"] == 50
    unicast = responder["unicast"]  # asked from the first answer on, however late that was
    assert unicast["received"] == unicast["sent"] > 25
    said = end(echo).summary
    assert said["ignored"] == {"rate": 1000 - sent["replies"]}
    assert said["replies_sent"] == sent["replies"] + 50 + unicast["sent"]


@pytest.mark.parametrize(
    ("group", "asker", "answerer"),
    [("239.1.1.1", "10.0.1.1", "10.0.1.2"), ("ff15::1", "fd00:1::1", "fd00:1::2")],
)
@pytest.mark.parametrize("options", [[], ["--any"]])
def test_never_answered(
    pair: Pair, group: str, asker: str, answerer: str, options: list[str]
) -> None:
    a, b = pair
    mac = b.link()["address"]
    endpoint = f"[{group}]:5004" if ":" in group else f"{group}:5004"
    echo = start(b, endpoint, "-i", "b0", *options)
    wired = wire.watch(a)
    frames = []
    for there in (group, answerer):
        frames += [
            wire.udp(asker, 0, there, 5004, request(1), mac=mac),
            wire.udp(asker, 5004, there, 5004, request(2), mac=mac),
            wire.udp(asker, 4000, there, 5004, request(3, probe.REPLY), mac=mac),
            wire.udp(asker, 0, there, 5004, b"plain", mac=mac),
            wire.udp(asker, 5004, there, 5004, b"plain", mac=mac),
        ]
    frames.append(wire.udp(asker, 4000, answerer, 5004, b"plain", mac=mac))
    if ":" not in group:
        frames.append(wire.udp("240.0.0.1", 4000, group, 5004, request(4)))
        frames.append(wire.udp("10.0.1.255", 4000, group, 5004, request(5)))
    wire.inject(a, frames)
    assert len(wire.ask(a, group, 5004, request(9), sport=4001)) == 1
    seen = [one for one in wire.settled(wired, a) if one.protocol == wire.UDP]
    assert [one.dport for one in seen if not one.outgoing] == [4001]
    said = end(echo).summary
    ignored = said["ignored"]
    assert ignored["port-0"] == 4
    assert ignored["service-port"] == 4
    assert ignored["answer"] == 2
    assert ignored["not-a-request"] == 1
    if ":" not in group:
        assert said["errors"] == {"ENETUNREACH": 1, "EACCES": 1}  # and nobody was hurt


@pytest.mark.parametrize(("group", "own"), [(GROUP4, "10.0.1.1"), (GROUP6, "fd00:1::1")])
def test_a_known_asker_is_judged_anew_where_anything_differs(
    pair: Pair, group: str, own: str
) -> None:
    a, b = pair
    echo = start(b, group)
    long = request(9) + b"y" * 1000
    cases = [
        (1, request(0), True),
        (1, request(1), True),
        (1, long, True),
        (7, request(2), True),
        (7, request(3, probe.DATA), False),
        (7, request(4, probe.REPLY), False),
        (7, request(5)[:31], False),
        (7, b"mcst\x02" + request(6)[5:], False),
        (7, request(7)[:7] + b"\x01" + request(7)[8:], False),
        (7, b"hello", False),
        (1, request(8), True),
    ]
    lines = "".join(f"{ttl} {payload.hex()}\n" for ttl, payload, _ in cases)
    host, port = group.rpartition(":")[0].strip("[]"), group.rpartition(":")[2]
    args = [sys.executable, "-c", ASK_AGAIN, own, host, port, str(a.ifindex())]
    said = a.run(args, input=lines, timeout=30).stdout.split("\n")
    for (ttl, payload, answered), line in zip(cases, said, strict=False):
        assert bool(line) == answered
        if answered:
            turned = payload[:5] + bytes((probe.REPLY, payload[6], ttl)) + payload[8:]
            assert bytes.fromhex(line) == turned
    stream = end(echo)
    right = [payload for _, payload, answered in cases if answered]
    assert stream.summary["replies_sent"] == len(right)
    assert stream.summary["reply_bytes"] == sum(map(len, right))
    assert stream.summary["ignored"] == {"not-a-request": 5, "answer": 1}
    assert stream.summary["packets"] == len(cases)
    heard = [one for one in stream.datagrams if one["direction"] == "rx"]
    assert [one["ttl"] for one in heard] == [ttl for ttl, _, answered in cases if answered]
    assert [one["seq"] for one in heard] == [0, 1, 9, 2, 8]
    told = [one for one in stream.datagrams if one["direction"] == "tx"]
    assert [one["length"] for one in heard] == [one["length"] for one in told] == [*map(len, right)]


def test_without_a_descriptor_left_answers_go_on(pair: Pair) -> None:
    """What an answer over IPv6 was sent from takes a socket to find out, and is not worth one."""
    a, b = pair
    echo = start(b, GROUP6, "-i", "b0", "-v")
    for number, spare in enumerate((100, 0), start=1):  # before, whatever it takes is loaded
        held = len(list(Path(f"/proc/{echo.pid}/fd").iterdir()))
        resource.prlimit(echo.pid, resource.RLIMIT_NOFILE, (held + spare, 1000))
        assert len(wire.ask(a, "ff15::1", 5004, request(number), count=1)) == 1
        echo.wait_stdout('"direction":"tx"', count=number)
    resource.prlimit(echo.pid, resource.RLIMIT_NOFILE, (1000, 1000))
    sent = [one["src"] for one in end(echo).all("datagram") if one["direction"] == "tx"]
    assert sent == [b.addr6(), ""]


def test_an_asker_who_cannot_be_reached_is_counted_and_no_more(pair: Pair) -> None:
    a, b = pair
    echo = start(b, GROUP4)
    wire.inject(a, [wire.udp("10.99.0.1", 4000, "239.1.1.1", 5004, request(1))] * 3)
    assert len(wire.ask(a, "239.1.1.1", 5004, request(2))) == 1
    said = end(echo).summary
    assert said["errors"] == {"ENETUNREACH": 3}
    assert said["replies_sent"] == 1


# --- two echoes


MODES = [["--text", "x"], ["--any"], ["--any", "--exec", "cat"]]
KINDS = {
    "plain": b"plain",
    "request": request(0),
    "reply": request(0, probe.REPLY),
    "data": request(0, probe.DATA),
}


@pytest.mark.parametrize("options", MODES, ids=" ".join)
def test_two_echoes_never_keep_each_other_busy(trio: Trio, options: list[str]) -> None:
    """Everything a forger may send between echoes on the same and on different ports."""
    forger, hosts = trio
    ports = dict(zip(hosts, (5004, 5004, 5005), strict=True))
    echoes = {
        host: start(host, f"239.1.1.1:{port}", f"[ff15::1]:{port}", *options, joined=2)
        for host, port in ports.items()
    }
    macs = {host: host.link()["address"] for host in hosts}
    frames, expected = [], dict.fromkeys(hosts, 0)
    for version in (4, 6):
        group = "239.1.1.1" if version == 4 else "ff15::1"
        address = {host: host.addr4() if version == 4 else host.addr6() for host in hosts}
        for (kind, payload), victim, sport, dport, there in product(
            KINDS.items(), hosts[1:], (5004, 5005, 4000), (5004, 5005), (None, *hosts)
        ):
            mac = macs[there] if there else ""
            to = address[there] if there else group
            frames.append(wire.udp(address[victim], sport, to, dport, payload, mac=mac))
            for host in [there] if there else hosts:
                asked = kind == "request" or (kind != "reply" and "--any" in options and not there)
                # The kernel drops what claims to come from this host itself, over IPv4 only.
                heard = dport == ports[host] != sport and (host is not victim or version == 6)
                expected[host] += asked and heard
    wire.inject(forger, frames)
    for host, echo in echoes.items():
        echo.wait_stdout('"direction":"tx"', count=expected[host])
    # Any answer to an answer would set off more within these round trips and never end.
    for _ in range(2):
        assert len(ping(forger, "239.1.1.1:5004").all("reply")) == 4
    for host, echo in echoes.items():
        said = end(echo).summary
        extra = 4 if ports[host] == 5004 else 0
        assert said["replies_sent"] == expected[host] + extra, host.name


@pytest.mark.parametrize("options", MODES, ids=" ".join)
def test_two_echoes_on_one_host(pair: Pair, options: list[str]) -> None:
    """Both answer a group; what comes from a service port of either is not answered by it."""
    a, b = pair
    endpoints = ["239.1.1.1:5004", "239.1.1.1:5005", "[ff15::1]:5004"]
    first = start(b, *endpoints[::2], *options, joined=2)
    second = start(b, *endpoints, *options, joined=3)
    for group, own in (("239.1.1.1", b.addr4()), ("ff15::1", b.addr6())):
        assert len(wire.ask(a, group, 5004, request(), count=2)) == 2
        for sport, dport in ((5004, 5004), (5005, 5004), (5004, 5005)):
            # From this host itself, where the kernel takes the service port for a true source.
            wire.ask(b, group, dport, b"plain", own=own, sport=sport, count=0)
            wire.ask(b, group, dport, request(), own=own, sport=sport, count=0)
    assert len(wire.ask(a, "239.1.1.1", 5004, request(), count=2)) == 2
    firsts, seconds = (end(echo).summary for echo in (first, second))
    busy = "--any" in options
    # One is asked from port 5005, which is not its own: four times, half of them plain. The answers
    # go to the other one, by unicast, and end there.
    assert firsts["replies_sent"] == 3 + (4 if busy else 2)
    assert seconds["replies_sent"] == 3
    assert firsts["ignored"]["service-port"] == 4
    assert seconds["ignored"]["service-port"] >= 10


# --- how it ends


def test_count(pair: Pair) -> None:
    a, b = pair
    echo = start(b, GROUP4, "-c", "3")
    for number in range(3):
        assert len(wire.ask(a, "239.1.1.1", 5004, request(number))) == 1
    said = Stream.of(echo.finish())
    assert (said.status, said.summary["reason"], said.summary["replies_sent"]) == (0, "count", 3)


def test_a_count_is_kept_when_commands_end_together(pair: Pair) -> None:
    a, b = pair
    wired = wire.watch(b)
    echo = start(b, GROUP4, "--any", "--exec", "sh -c 'sleep 0.1; echo x'", "-c", "2")
    plain = [wire.udp("10.0.1.1", 4000 + n, "239.1.1.1", 5004, b"?") for n in range(4)]
    wire.inject(a, plain)
    said = Stream.of(echo.finish())
    assert (said.summary["replies_sent"], said.summary["reason"]) == (2, "count")
    seen = [one for one in wire.settled(wired, b) if one.protocol == wire.UDP and one.outgoing]
    assert [one.payload for one in seen] == [b"x\n"] * 2


def test_nobody_asked(pair: Pair) -> None:
    for option, reason in (("-T", "timeout"), ("--idle", "idle")):
        said = Stream.of(pair.b.mcastctl("echo", "-j", GROUP4, option, "0.1s"))
        assert (said.status, said.summary["reason"]) == (1, reason)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_summary(pair: Pair, number: signal.Signals) -> None:
    a, b = pair
    echo = b.start_mcastctl("echo", GROUP4)
    echo.wait_stderr("^joined 239.1.1.1:5004 on b0")
    assert len(wire.ask(a, "239.1.1.1", 5004, request())) == 1
    echo.signal(number)
    outcome = echo.finish()
    assert outcome.returncode == -number
    assert outcome.stderr.splitlines()[-1] == "answered 1 request, ignored 0"


@pytest.mark.parametrize(
    ("options", "on_stdout", "on_stderr"),
    [
        ([], r"^[0-9:.]+ b0 In 10\.0\.1\.1:4000 > 239\.1\.1\.1:5004 .*\n$", "joined .*answered 1"),
        (
            ["-v"],
            r"^.* b0 In .*\n.* b0 Out 10\.0\.1\.2:5004 > 10\.0\.1\.1:4000 .*\n$",
            "mcastctl echo",
        ),
        (["-q"], "^$", "^.*answered 1"),
        (["-qq"], "^$", "^$"),
        (["-o", "hex"], f"^{request().hex()}\n$", "joined"),
    ],
)
def test_what_people_see(pair: Pair, options: list[str], on_stdout: str, on_stderr: str) -> None:
    a, b = pair
    echo = b.start_mcastctl("echo", GROUP4, "-c", "1", *options)
    b.sh("until grep -q 010101EF /proc/net/igmp; do sleep 0.01; done")
    asker = wire.start_ask(a, "239.1.1.1", 5004, request(), sport=4000)
    outcome = echo.finish()
    assert outcome.returncode == asker.finish().returncode == 0
    assert re.search(on_stdout, outcome.stdout), outcome
    assert re.search(on_stderr, outcome.stderr, re.DOTALL), outcome


def test_the_port_is_taken(pair: Pair) -> None:
    b = pair.b
    b.popen([sys.executable, "-c", OCCUPY, "5004"], stdin=PIPE).wait_stdout("bound")
    outcome = b.mcastctl("echo", GROUP4, "-T", "1s")
    assert outcome.returncode == 2
    assert "bind UDP port 5004" in outcome.stderr
    assert "(EADDRINUSE)" in outcome.stderr
    assert "hint: " in outcome.stderr
    assert "Traceback" not in outcome.stderr

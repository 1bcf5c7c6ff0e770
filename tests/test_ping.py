"""`ping` asks once and shows every host that answers, by multicast and by unicast."""

from __future__ import annotations

import re
import signal
import sys
from subprocess import PIPE

import pytest
import wire
from conftest import Pair, Trio
from streams import Json, Stream
from world import Host, Running, World, need

from mcastctl.model import probe
from mcastctl.model.responders import MULTICAST, UNICAST, Responder

GROUP4, GROUP6 = "239.1.1.1:5004", "[ff15::1]:5004"

DROP = """nft 'table ip t {{
    chain c {{ type filter hook {} priority 0; ip daddr 239.1.1.1 drop; }};
}}'"""


def echo(host: Host, *endpoints: str) -> Running:
    """An echo that has joined."""
    running = host.start_mcastctl("echo", "-j", "-T", "60s", *(endpoints or (GROUP4,)))
    running.wait_stdout('"joined"', count=len(endpoints) or 1)
    return running


def ping(host: Host, *args: str, wait: str = "0.6s") -> Stream:
    """To the end, with JSON."""
    return Stream.of(host.mcastctl("ping", "-j", "--wait", wait, *args))


def legs(stream: Stream, responder: str) -> tuple[Json, Json]:
    """What the summary says of one responder: multicast and unicast."""
    (found,) = [one for one in stream.summary["responders"] if one["responder"] == responder]
    return found["multicast"], found["unicast"]


@pytest.mark.parametrize("endpoint", ["224.0.0.123:7645", GROUP4, "[ff02::123]:7645", GROUP6])
def test_one_ping_shows_all_three(trio: Trio, endpoint: str) -> None:
    asker, responders = trio
    for host in responders:
        echo(host, endpoint)
    asked = ping(asker, endpoint, "-c", "1")
    assert asked.status == 0
    own = Host.lladdr if "ff02" in endpoint else Host.addr6 if "[" in endpoint else Host.addr4
    addresses = [own(host) for host in responders]
    port = int(endpoint.rpartition(":")[2])
    seen = sorted((one["responder"], one["kind"], one["seq"]) for one in asked.all("reply"))
    assert seen == sorted((a, kind, 0) for a in addresses for kind in ("multicast", "unicast"))
    for one in asked.all("reply"):
        assert (one["port"], one["hops"], one["duplicate"]) == (port, 0, False)
        assert one["length"] == 64
    assert 0 < min(one["rtt_ms"] for one in asked.all("reply")) < 250
    assert asked.summary["requests"] == 1
    for address in addresses:
        for leg in legs(asked, address):
            assert (leg["sent"], leg["received"], leg["lost"]) == (1, 1, 0)
            assert (leg["loss_percent"], leg["duplicates"], leg["hops"]) == (0, 0, 0)
            assert 0 < leg["rtt_min_ms"] <= leg["rtt_avg_ms"] <= leg["rtt_max_ms"]
            assert leg["rtt_mdev_ms"] == 0
    assert asked.summary["unmet"] == []
    assert (asked.summary["attempted"], asked.summary["sent"], asked.summary["refused"]) == (
        4,
        4,
        0,
    )


def test_what_people_see(trio: Trio) -> None:
    asker, responders = trio
    for host in responders:
        echo(host)
    outcome = asker.mcastctl("ping", GROUP4, "-c", "2", "--interval", "50ms", "--wait", "0.6s")
    assert outcome.returncode == 0
    lines = outcome.stdout.splitlines()
    assert len(lines) == 12
    summary = outcome.stderr
    for host in responders:
        for kind in ("multicast", "unicast"):
            for seq in (0, 1):
                head = f"64 bytes from {host.addr4()}:5004: {kind} seq={seq} hops=0"
                line = rf"{head} time=\d+\.\d{{3}} ms"
                assert sum(bool(re.fullmatch(line, one)) for one in lines) == 1, (line, lines)
        assert re.search(
            rf"^--- {host.addr4()}\n"
            r"multicast sent 2, received 2, loss 0 %, rtt min/avg/max/mdev [0-9./]+ ms, hops 0\n"
            r"unicast   sent 2, received 2, loss 0 %, rtt min/avg/max/mdev [0-9./]+ ms, hops 0\n",
            summary,
            re.MULTILINE,
        ), summary
    assert "asked 2 times, 3 hosts answered" in summary
    quiet = asker.mcastctl("ping", GROUP4, "-c", "1", "--wait", "0.6s", "-q")
    assert quiet.stdout == ""
    assert "3 hosts answered" in quiet.stderr
    silent = asker.mcastctl("ping", GROUP4, "-c", "1", "--wait", "0.6s", "-qq")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")


def test_requests_are_as_asked_for(pair: Pair) -> None:
    a, b = pair
    echo(b)
    wired = wire.watch(b)
    options = ["-s", "200", "-t", "7", "--bind", ":4000", "-c", "3", "--interval", "40ms"]
    asked = ping(a, GROUP4, *options)
    requests = [
        one for one in wire.settled(wired, b) if one.protocol == wire.UDP and not one.outgoing
    ]
    by_group = [one for one in requests if one.dst == "239.1.1.1"]
    by_unicast = [one for one in requests if one.dst == b.addr4()]
    assert (len(by_group), len(by_unicast), len(requests)) == (3, 3, 6)
    for group in (by_group, by_unicast):
        headers = [probe.decode(one.payload) for one in group]
        assert [header and (header.kind, header.seq) for header in headers] == [
            (probe.REQUEST, seq) for seq in range(3)
        ]
        assert len({header.stream for header in headers if header}) == 1
    assert {(one.ttl, len(one.payload), one.sport) for one in by_group} == {(7, 200, 4000)}
    assert {(one.ttl, len(one.payload), one.sport) for one in by_unicast} == {(64, 200, 4000)}
    assert {one["hops"] for one in asked.all("reply")} == {0}
    assert {one["length"] for one in asked.all("reply")} == {200}


def test_hops(world: World) -> None:
    """Through a router that passes group traffic on as a multicast router does."""
    need("nft")
    a, b = world.host("a"), world.host("b")
    world.link(a, b)
    echo(b)
    b.sh(
        "nft 'table ip t { chain c { type filter hook prerouting priority -300;"
        " ip daddr 239.1.1.1 ip ttl set 6; ip daddr 10.0.1.2 ip ttl set 61; }; }'"
    )
    asked = ping(a, GROUP4, "-t", "8", "-c", "1")
    assert {one["kind"]: one["hops"] for one in asked.all("reply")} == {
        "multicast": 2,
        "unicast": 3,
    }
    multicast, unicast = legs(asked, b.addr4())
    assert (multicast["hops"], unicast["hops"]) == (2, 3)
    shown = a.mcastctl("ping", GROUP4, "-t", "8", "-c", "1", "--wait", "0.6s")
    assert "multicast seq=0 hops=2 " in shown.stdout


def test_hops_without_knowing() -> None:
    assert probe.hops(8, 6) == 2
    assert probe.hops(1, 1) == 0
    assert probe.hops(0, 6) is probe.hops(8, 0) is probe.hops(5, 6) is None


def paced(host: Host, *args: str) -> Running:
    """A ping of some rounds that goes on for a while."""
    return host.start_mcastctl("ping", "-j", GROUP4, "--interval", "0.1s", "--wait", "0.6s", *args)


def test_unicast_fine_multicast_dead(trio: Trio) -> None:
    need("nft")
    asker, (x, y, _) = trio
    echo(x)
    echo(y)
    running = paced(asker, "-c", "20")
    running.wait_stdout('"type":"reply"', count=8)
    x.sh(DROP.format("input"))
    asked = Stream.of(running.finish())
    seqs = {
        kind: [
            one["seq"]
            for one in asked.all("reply")
            if one["kind"] == kind and one["responder"] == x.addr4()
        ]
        for kind in ("multicast", "unicast")
    }
    multicast, unicast = legs(asked, x.addr4())
    assert (unicast["sent"], unicast["received"], unicast["lost"]) == (20, 20, 0)
    assert 2 <= multicast["received"] < 20
    assert multicast["lost"] == 20 - multicast["received"] > 0
    assert multicast["loss_percent"] == 100 * multicast["lost"] / 20
    assert seqs["multicast"] == list(range(multicast["received"]))
    assert seqs["unicast"] == list(range(20))
    for leg in legs(asked, y.addr4()):
        assert (leg["received"], leg["lost"]) == (20, 0)
    assert asked.summary["lost"] == multicast["lost"]
    assert asked.status == 0


def test_loss_counts_from_the_first_answer(pair: Pair) -> None:
    a, b = pair
    running = paced(a, "-c", "40")
    running.wait_stdout('"start"')
    echo(b)
    answers = running.wait_stdout('"type":"reply".*?"seq":([0-9]+)')
    asked = Stream.of(running.finish())
    multicast, unicast = legs(asked, b.addr4())
    first = int(answers[1])
    assert first > 0
    assert (multicast["sent"], multicast["lost"]) == (40 - first, 0)
    assert (unicast["sent"], unicast["lost"]) == (40 - first, 0)
    assert asked.status == 0


def test_some_requests_lost(pair: Pair) -> None:
    """Every third datagram to the group is dropped after the first."""
    need("nft")
    a, b = pair
    echo(b)
    b.sh(
        "nft 'table ip t { chain c { type filter hook input priority 0;"
        " ip daddr 239.1.1.1 numgen inc mod 3 == 2 drop; }; }'"
    )
    asked = ping(a, GROUP4, "-c", "9", "--interval", "20ms")
    multicast, unicast = legs(asked, b.addr4())
    assert (multicast["sent"], multicast["received"], multicast["lost"]) == (9, 6, 3)
    assert multicast["loss_percent"] == pytest.approx(33.3333)
    assert (unicast["received"], unicast["lost"]) == (9, 0)
    seqs = [one["seq"] for one in asked.all("reply") if one["kind"] == "multicast"]
    assert seqs == [0, 1, 3, 4, 6, 7]


# --- exit status


def test_who_has_to_answer(trio: Trio) -> None:
    asker, (x, y, z) = trio
    echo(x)
    echo(y)
    there = ["--expect-from", x.addr4(), "--expect-from", y.addr4()]
    assert ping(asker, GROUP4, "-c", "1", *there).status == 0
    asked = ping(asker, GROUP4, "-c", "2", "--interval", "20ms", *there, "--expect-from", z.addr4())
    assert asked.status == 1
    assert asked.summary["unmet"] == [f"no answer to multicast from {z.addr4()}"]
    multicast, unicast = legs(asked, z.addr4())
    assert (multicast["sent"], multicast["lost"], multicast["rtt_avg_ms"]) == (2, 2, None)
    assert (unicast["sent"], unicast["lost"]) == (2, 2)
    text = asker.mcastctl("ping", GROUP4, "-c", "1", "--wait", "0.1s", "--expect-from", z.addr4())
    assert text.returncode == 1
    assert f"not met: no answer to multicast from {z.addr4()}" in text.stderr


def test_a_host_that_answers_unicast_only_does_not_hear_the_group(pair: Pair) -> None:
    need("nft")
    a, b = pair
    echo(b)
    b.sh(DROP.format("input"))
    asked = ping(a, GROUP4, "-c", "2", "--interval", "20ms", "--expect-from", b.addr4())
    assert asked.status == 1
    assert {one["kind"] for one in asked.all("reply")} == {"unicast"}
    multicast, unicast = legs(asked, b.addr4())
    assert (multicast["lost"], unicast["lost"]) == (2, 0)
    assert asked.summary["unmet"] == [f"no answer to multicast from {b.addr4()}"]


def test_nobody_answers(pair: Pair) -> None:
    asked = ping(pair.a, GROUP4, "-c", "1", wait="0.1s")
    assert (asked.status, asked.summary["reason"]) == (1, "count")
    assert asked.summary["unmet"] == ["nobody answered"]
    outcome = pair.a.mcastctl("ping", GROUP4, "-c", "1", "--wait", "0.1s")
    assert outcome.returncode == 1
    assert "not met: nobody answered" in outcome.stderr


def test_refused_requests(pair: Pair) -> None:
    need("nft")
    a, b = pair
    echo(b)
    a.sh(DROP.format("output"))
    asked = ping(a, GROUP4, "-c", "2", "--interval", "20ms", wait="0.1s")
    assert asked.status == 2
    assert asked.summary["errors"] == {"EPERM": 2}
    assert (asked.summary["attempted"], asked.summary["sent"], asked.summary["refused"]) == (
        2,
        0,
        2,
    )
    assert asked.only("notice")["text"].startswith("cannot send to 239.1.1.1:5004 on a0: ")


def test_a_time_limit(pair: Pair) -> None:
    a, b = pair
    echo(b)
    asked = ping(a, GROUP4, "-T", "0.45s", "--interval", "0.1s")
    assert (asked.status, asked.summary["reason"]) == (0, "timeout")
    assert 1 <= asked.summary["requests"] <= 5
    assert 0.45 <= asked.summary["elapsed_s"] < 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_summary(pair: Pair, number: signal.Signals) -> None:
    a, b = pair
    echo(b)
    running = a.start_mcastctl("ping", GROUP4, "--interval", "50ms")
    running.wait_stdout("multicast seq=2 ")
    running.signal(number)
    outcome = running.finish()
    assert outcome.returncode == -number
    assert f"--- {b.addr4()}\nmulticast sent " in outcome.stderr
    assert "1 host" in outcome.stderr.splitlines()[-1]


@pytest.mark.parametrize("option", [["-s", "31"], ["-s", "65508"], ["--expect-from", "239.1.1.1"]])
def test_bad_options(here: Host, option: list[str]) -> None:
    outcome = here.mcastctl("ping", GROUP4, *option)
    assert outcome.returncode == 2
    first, second = outcome.stderr.splitlines()
    assert first.startswith("mcastctl: error: ")
    assert second.startswith("hint: ")


# --- what is no answer, or one too many


def test_two_answers_from_one_address_are_flagged(pair: Pair) -> None:
    a, b = pair
    echo(b)
    echo(b)
    asked = ping(a, GROUP4, "-c", "2", "--interval", "50ms")
    replies = [one for one in asked.all("reply") if one["kind"] == "multicast"]
    assert [(one["seq"], one["duplicate"]) for one in replies] == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    multicast, unicast = legs(asked, b.addr4())
    assert (multicast["received"], multicast["duplicates"], multicast["lost"]) == (2, 2, 0)
    assert (unicast["received"], unicast["duplicates"]) == (2, 0)  # one of the two gets it
    assert asked.summary["duplicates"] == 2
    text = a.mcastctl("ping", GROUP4, "-c", "1", "--wait", "0.6s")
    assert text.stdout.count("(duplicate)") == 1
    assert ", duplicates 1" in text.stderr


@pytest.mark.parametrize("host_answers", ["239.1.1.1:5004+1", "239.1.1.2:5004"])
def test_several_groups_are_one_round(pair: Pair, host_answers: str) -> None:
    a, b = pair
    responder = b.start_mcastctl("echo", "-j", "-T", "60s", host_answers)
    groups = 2 if "+" in host_answers else 1
    responder.wait_stdout('"joined"', count=groups)
    asked = ping(a, "239.1.1.1:5004+1", "-c", "2", "--interval", "50ms")
    replies = [one for one in asked.all("reply") if one["kind"] == "multicast"]
    assert [(one["seq"], one["duplicate"]) for one in replies] == sorted(
        [(0, False), (1, False)] * groups
    )
    multicast, _ = legs(asked, b.addr4())
    assert (multicast["sent"], multicast["received"], multicast["lost"]) == (2, 2, 0)
    assert (multicast["duplicates"], asked.summary["duplicates"]) == (0, 0)
    assert asked.summary["sent"] == 6


# argv: interface index; answers each request to the group with the forgeries of one who cannot
# know, and with one true reply, whose hops are beyond belief.
FORGE = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("239.1.1.1", 5004))
mreq = struct.pack("@4s4si", socket.inet_aton("239.1.1.1"), b"", int(sys.argv[1]))
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq)
print("joined", flush=True)
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # from another port than an echo's
header = struct.Struct("!4sBBBBQQQ")
while True:
    data, peer = sock.recvfrom(65535)
    magic, version, kind, ttl, seen, stream, seq, sent = header.unpack_from(data)
    rest = data[header.size:]
    for forged in (
        (magic, version, 2, ttl, 1, stream ^ 1, seq, sent),
        (magic, version, 2, ttl, 1, stream, seq + 1, sent),
        (magic, version, 2, ttl, 1, stream, seq, sent + 1),
        (magic, version, 1, ttl, 0, stream, seq, sent),
        (magic, version, 0, ttl, 0, stream, seq, sent),
        (magic, 2, 2, ttl, 1, stream, seq, sent),
        (b"mcsu", version, 2, ttl, 1, stream, seq, sent),
    ):
        sock.sendto(header.pack(*forged) + rest, peer)
    sock.sendto(b"", peer)
    sock.sendto(data[:31], peer)
    true = header.pack(magic, version, 2, ttl, 200, stream, seq, sent)
    out.sendto(true, peer)
    sock.sendto(true + b"\\x1b[31mforged\\n", peer)
"""


def test_forged_answers_are_ignored(pair: Pair) -> None:
    a, b = pair
    forger = b.popen([sys.executable, "-c", FORGE, str(b.ifindex())])
    forger.wait_stdout("joined")
    asked = ping(a, GROUP4, "-c", "2", "--interval", "50ms")
    replies = asked.all("reply")
    assert [(one["seq"], one["kind"], one["hops"]) for one in replies] == [
        (0, "multicast", None),
        (1, "multicast", None),
    ]
    multicast, unicast = legs(asked, b.addr4())
    assert (multicast["received"], multicast["duplicates"], multicast["hops"]) == (2, 0, None)
    assert (unicast["received"], unicast["lost"]) == (0, 2)
    # What a responder says of its own is shown, and cannot reach the terminal raw.
    text = a.mcastctl("ping", GROUP4, "-c", "1", "--wait", "0.6s")
    assert text.stdout.endswith(" ms \\x1b[31mforged\\n\n")
    assert text.stdout.count("\n") == 1


# argv: interface index, address. Answers the first request to the group in the name of the address,
# and then no more.
NAME = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("239.1.1.1", 5004))
mreq = struct.pack("@4s4si", socket.inet_aton("239.1.1.1"), b"", int(sys.argv[1]))
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq)
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_IP, 19, 1)  # IP_TRANSPARENT
out.bind((sys.argv[2], 5004))
print("joined", flush=True)
data, peer = sock.recvfrom(65535)
out.sendto(data[:5] + bytes([2]) + data[6:], peer)
sys.stdin.read()
"""


def test_whom_a_forged_answer_names_is_soon_left_alone(pair: Pair) -> None:
    a, b = pair
    victim = "10.0.1.77"
    forger = b.popen([sys.executable, "-c", NAME, str(b.ifindex()), victim], stdin=PIPE)
    forger.wait_stdout("joined")
    a.ip(f"neigh add {victim} lladdr {b.link()['address']} dev a0")
    watching = wire.watch(a)
    asked = ping(a, GROUP4, "-c", "25", "--interval", "10ms")
    _, unicast = legs(asked, victim)
    assert (unicast["sent"], unicast["lost"]) == (10, 10)
    seen = [one for one in wire.settled(watching, a) if one.dst == victim]
    assert len(seen) == 10
    # Whom the user named is asked in every round.
    asked = ping(a, GROUP4, "-c", "12", "--interval", "10ms", "--expect-from", victim)
    assert legs(asked, victim)[1]["sent"] == 12


def test_a_responder_that_is_silent_for_a_while_is_asked_again() -> None:
    one, heeds = Responder(7), []
    for seq in range(10):
        one.asked(seq)
        heeds.append(one.heeds)
    for kind, seq, first in ((MULTICAST, 14, True), (MULTICAST, 14, False), (UNICAST, 15, True)):
        assert one.answered(kind, seq, 1, 1) is first  # it lives; a duplicate proves nothing
        heeds.append(one.heeds)
        one.asked(seq + 1)
        heeds.append(one.heeds)
    assert heeds == [*[True] * 9, False, True, False, False, False, True, True]
    leg = one.legs[UNICAST]
    assert (leg.sent_count, leg.lost) == (12, 11)  # rounds in which it was not asked are no loss


def test_an_interface_is_chosen(world: World) -> None:
    a, b, c = (world.host(name) for name in "abc")
    world.link(a, b)
    world.link(a, c)
    echo(b, GROUP4)
    echo(c, GROUP4)
    for ifname, host in (("a0", b), ("a1", c)):
        asked = ping(a, GROUP4, "-c", "1", "-i", ifname)
        assert {one["responder"] for one in asked.all("reply")} == {host.addr4()}
    both = ping(a, GROUP4, "-c", "1", "-i", "a0", "-i", "a1")
    assert {one["responder"] for one in both.all("reply")} == {b.addr4(), c.addr4()}
    assert both.summary["sent"] == 4

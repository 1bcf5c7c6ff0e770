"""The package as a library, between hosts: each promise of its documentation, one test each.

The functions called `..._program` are the programs of the tests: their source runs in a host, in
an interpreter of its own, and what they return comes back as JSON.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Pair
from streams import Json
from world import Host, Running, World

import mcastctl
from mcastctl import (
    AddressError,
    PublicationConfig,
    ReceptionConfig,
    Sampler,
    SendCounters,
    Snapshot,
    ValueRangeError,
    delta,
)
from mcastctl.model.errors import McastError

ROOT = Path(__file__).parent.parent


def start(host: Host, program: Callable[..., object], *args: object) -> Running:
    """Start a program in a host; it may print lines of its own before its result."""
    source = textwrap.dedent(inspect.getsource(program))
    call = f"print('result', json.dumps({program.__name__}(*{args!r})))"
    code = f"from __future__ import annotations\nimport json\n{source}\n{call}"
    return host.popen([sys.executable, "-c", code])


def result(running: Running) -> Any:
    """What a program returned."""
    outcome = running.finish(20)
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout.rpartition("result ")[2])


def run(host: Host, program: Callable[..., object], *args: object) -> Any:
    """Run a program in a host to its end."""
    return result(start(host, program, *args))


def listening(host: Host, *args: str, joined: int = 1) -> Running:
    """Our own listener as the judge of what arrives."""
    listener = host.start_mcastctl("listen", "-j", "-T", "60s", *args)
    listener.wait_stdout('^{"type":"joined"', count=joined)
    return listener


def datagrams(listener: Running) -> list[Json]:
    """What it heard."""
    return [one for one in listener.finish().records if one["type"] == "datagram"]


# --- sending


def send_program(*configs: dict[str, Any]) -> object:
    from mcastctl import PublicationConfig, Publisher

    with Publisher() as publisher:
        for config in configs:
            publisher.add(PublicationConfig(**config))
        reports = publisher.send_all(b"hello")
        return [
            [report.bytes, report.destination, report.source, report.source_port, one.announce()]
            for report, one in zip(reports, publisher, strict=True)
        ]


@pytest.mark.parametrize("group", ["239.1.1.1", "ff15::1"])
def test_source_and_interface_are_chosen_apart(world: World, group: str) -> None:
    """The source is what receivers see; the interface, by name, index or address, is the way."""
    a, b, c = (world.host(name) for name in "abc")
    world.link(a, b)
    world.link(a, c)
    other, own, second = (
        (a.addr6("a0"), a.addr6("a1"), "fd00:2::9")
        if ":" in group
        else (a.addr4("a0"), a.addr4("a1"), "10.0.2.9")
    )
    a.ip("addr add 10.0.2.9/24 dev a1", "addr add fd00:2::9/128 dev a1 nodad preferred_lft 0")
    ways: list[dict[str, Any]] = [
        {"source": other, "interface": "a1"},
        {"source": other, "interface": a.ifindex("a1")},
        {"source": other, "interface": own},
        {"interface": second},  # the address is both
        {"interface": a.ifindex("a1")},  # the kernel chooses the address
        {"source": own},  # the interface of the address
    ]
    port = 5004
    where = f"[{group}]:{port}" if ":" in group else f"{group}:{port}"
    nowhere = listening(b, where, "-i", "b0")
    there = listening(c, where, "-i", "c0", "-c", str(len(ways)))
    reports = run(a, send_program, *({"group": group, "port": port, **way} for way in ways))
    sources = [other, other, other, second, own, own]
    assert [report[2] for report in reports] == sources
    assert [one["src"] for one in datagrams(there)] == sources
    nowhere.signal(2)
    assert datagrams(nowhere) == []


def test_exact_bind_and_announce_tuple(pair: Pair) -> None:
    """Source address and port are pinned, and the tuple says how to join."""
    a, b = pair
    for group, source in (("232.1.1.1", a.addr4()), ("ff3e::8000:1", a.addr6())):
        where = f"{source}@[{group}]:5004" if ":" in group else f"{source}@{group}:5004"
        listener = listening(b, where, "-i", "b0", "-c", "1")
        config = {"group": group, "port": 5004, "interface": "a0"}
        ((size, _, told, port, announced),) = run(
            a, send_program, config | {"source": source, "source_port": 4321}
        )
        assert (size, told, port, announced) == (5, source, 4321, [source, group, 5004])
        (heard,) = datagrams(listener)
        assert (heard["src"], heard["sport"], heard["payload"]) == (source, 4321, "hello")


def loop_program(group: str) -> object:
    import select

    from mcastctl import PublicationConfig, Publisher, ReceptionConfig, Subscriber

    with Publisher() as publisher, Subscriber() as subscriber:
        subscriber.add(ReceptionConfig(group, 5004, interface="a0")).join()
        for loop, ttl, payload in ((False, 9, b"for others"), (True, 3, b"for all")):
            config = PublicationConfig(group, 5004, interface="a0", ttl=ttl, loop=loop, dscp=46)
            publisher.add(config).send(payload)
        select.select([subscriber], [], [], 10)
        heard = [one.datagram for one in subscriber.receive_many(9)]
        return [[one.payload.decode(), one.ttl, one.dscp] for one in heard]


@pytest.mark.parametrize("group", ["239.1.1.1", "ff15::1"])
def test_ttl_loop_and_dscp(pair: Pair, group: str) -> None:
    a, b = pair
    where = f"[{group}%b0]:5004" if ":" in group else f"{group}%b0:5004"
    listener = listening(b, where, "-c", "2")
    assert run(a, loop_program, group) == [["for all", 3, 46]]
    heard = [[one["payload"], one["ttl"], one["dscp"]] for one in datagrams(listener)]
    assert heard == [["for others", 9, 46], ["for all", 3, 46]]


def scopes_program(interface: str, groups: list[str]) -> object:
    import selectors
    import socket

    from mcastctl import PublicationConfig, Publisher, ReceptionConfig, Subscriber

    found = []
    with Publisher() as publisher, Subscriber() as subscriber:
        subscriber.add(ReceptionConfig("ff31::8000:1", 5004, interface=interface)).join()
        for group in groups:
            one = publisher.add(PublicationConfig(group, 5004, interface=interface))
            report = one.send(group.encode())
            sock = publisher.detach(one)
            assert isinstance(sock, socket.socket)
            with sock:
                found.append([report.destination[-1], sock.getpeername()[3]])
        with selectors.DefaultSelector() as selector:
            selector.register(subscriber, selectors.EVENT_READ)
            assert selector.select(10)
        heard = subscriber.receive()
        assert heard is not None
        return [found, heard.datagram.payload.decode()]


def test_ipv6_scope_ids_are_kept_for_the_two_narrow_scopes_only(pair: Pair) -> None:
    a, b = pair
    groups = [f"ff3{scope}::8000:1" for scope in "1258e"]
    wide = [f"[{group}%b0]:5004" for group in groups[1:]]
    listener = listening(b, *wide, "-c", "4", joined=4)
    found, local = run(a, scopes_program, "a0", groups)
    index = a.ifindex()
    assert found == [[index, index], [index, index], [0, 0], [0, 0], [0, 0]]
    assert local == groups[0]  # does not leave the host
    heard = datagrams(listener)
    assert sorted(one["payload"] for one in heard) == groups[1:]
    assert {one["payload"]: one["src"] for one in heard}[groups[1]] == a.lladdr()


def all_program(down: str) -> object:
    import subprocess

    from mcastctl import PublicationConfig, Publisher

    with Publisher() as publisher:
        first = publisher.add("239.1.1.1%a0:5001")
        lost = publisher.add(PublicationConfig("239.1.1.2", 5002, interface=down))
        publisher.add("[ff15::3%a0]:5003")
        subprocess.run(["ip", "link", "set", down, "down"], check=True)
        reports = publisher.send_all(b"to all")
        one_more = first.send(b"to one")
        publisher.remove(lost)
        return [
            [[one.bytes, one.error and [one.error.message, one.error.hint]] for one in reports],
            one_more.destination,
            len(publisher),
            publisher.counters(),
        ]


def test_several_publications_and_send_to_all(world: World) -> None:
    """One that cannot send keeps no other from it, and counts outlive who counted."""
    a, b, c = (world.host(name) for name in "abc")
    world.link(a, b)
    world.link(a, c)
    listener = listening(b, "239.1.1.1%b0:5001", "[ff15::3%b0]:5003", "-c", "3", joined=2)
    reports, destination, left, counters = run(a, all_program, "a1")
    assert [one[0] for one in reports] == [6, 0, 6]
    assert reports[0][1] is reports[2][1] is None
    message, hint = reports[1][1]
    assert "cannot send to 239.1.1.2:5002 on a1" in message
    assert "a1" in hint
    assert destination == ["239.1.1.1", 5001]
    assert (left, counters) == (2, [3, 1, 4, 3, 18, 1, 0])
    payloads = sorted((one["dst"], one["payload"]) for one in datagrams(listener))
    assert payloads == [("239.1.1.1", "to all"), ("239.1.1.1", "to one"), ("ff15::3", "to all")]


def gone_program() -> object:
    import subprocess

    from mcastctl import McastError, PublicationConfig, Publisher, ReceptionConfig, Subscriber

    def plug() -> None:
        for line in (
            "link add v0 type veth peer name v1",
            "addr add 10.7.0.1/24 dev v0",
            "link set v1 up",
            "link set v0 up",
        ):
            subprocess.run(["ip", *line.split()], check=True)

    plug()
    with Publisher() as publisher, Subscriber() as subscriber:
        publisher.add(PublicationConfig("239.1.1.1", 5004, interface="v0", source="10.7.0.1"))
        reception = subscriber.add(ReceptionConfig("239.1.1.1", 5004, interface="v0"))
        reception.join()
        said = [publisher.send_all(b"x")[0].error is None]
        subprocess.run(["ip", "link", "del", "v0"], check=True)
        error = publisher.send_all(b"x")[0].error
        said.append(error is not None and "v0" in error.message)
        reception.leave()
        try:
            reception.join()
        except McastError as no:
            said.append(bool(no.hint))
        plug()
        subscriber.remove(reception)
        subscriber.add(ReceptionConfig("239.1.1.1", 5004, interface="v0")).join()
        while publisher.send_all(b"again")[0].error is not None:
            pass  # it looks for the interface every so often; the caller's timeout is the bound
        return said


def test_an_interface_that_goes_is_an_error_and_comes_back(world: World) -> None:
    assert run(world.host("a"), gone_program) == [True, True, True]


# --- sockets of others


def handed_program(group: str, source: str, interface: str) -> object:
    import socket

    from mcastctl import PublicationConfig, Publisher, SocketError

    version = socket.AF_INET6 if ":" in group else socket.AF_INET
    other = socket.AF_INET if ":" in group else socket.AF_INET6
    config = PublicationConfig(group, 5004, source=source, interface=interface, ttl=7)
    publisher = Publisher()
    refusals = []
    closed = socket.socket(version, socket.SOCK_DGRAM)
    closed.close()
    bound = socket.socket(version, socket.SOCK_DGRAM)
    bound.bind(("", 7777))
    connected = socket.socket(version, socket.SOCK_DGRAM)
    connected.connect((source, 9))
    wrong = socket.socket(other, socket.SOCK_DGRAM), socket.socket(version, socket.SOCK_STREAM)
    for sock in (closed, *wrong, bound, connected):
        pinned = None if sock is connected else 4321
        try:
            publisher.add(config._replace(source_port=pinned), sock)
        except SocketError as error:
            untouched = sock.fileno() >= 0 and sock.getblocking()
            refusals.append([error.message, bool(error.hint), untouched])
            sock.close()
    mine = socket.socket(version, socket.SOCK_DGRAM)
    ttl, dscp = (
        ((socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS), (socket.IPPROTO_IPV6, 67))
        if ":" in group
        else ((socket.IPPROTO_IP, socket.IP_MULTICAST_TTL), (socket.IPPROTO_IP, socket.IP_TOS))
    )
    mine.setsockopt(*dscp, 46 << 2)
    one = publisher.add(config, mine)
    one.send(b"ours")
    state = [
        mine.getsockopt(*dscp),
        one.fileno() == mine.fileno(),
        mine.getblocking(),
        mine.getsockopt(*ttl),
        mine.getpeername()[:2],
        mine.getsockname()[:2] == (one.source, one.source_port),
    ]
    back = publisher.detach(one)
    back.send(b"theirs")
    try:
        one.send(b"nobody's")
    except SocketError as error:
        refusals.append([error.message, bool(error.hint), back is mine])
    with publisher.detach(publisher.add(config)) as made:
        made.send(b"made")
    back.close()
    return [refusals, state, len(publisher)]


@pytest.mark.parametrize("group", ["239.1.1.1", "ff15::1"])
def test_existing_sockets_are_validated_configured_connected_and_given_back(
    pair: Pair, group: str
) -> None:
    a, b = pair
    source = a.addr6() if ":" in group else a.addr4()
    where = f"[{group}%b0]:5004" if ":" in group else f"{group}%b0:5004"
    listener = listening(b, where, "-c", "3")
    refusals, state, left = run(a, handed_program, group, source, "a0")
    words = ["closed", "family", "no UDP socket", "bound to", "connected to", "is closed"]
    assert len(refusals) == len(words)
    for word, (message, hint, untouched) in zip(words, refusals, strict=True):
        assert word in message
        assert hint
        assert untouched is (word != "closed")
    assert state == [0, True, False, 7, [group, 5004], True]
    assert left == 0
    heard = datagrams(listener)
    assert [one["payload"] for one in heard] == ["ours", "theirs", "made"]
    assert [(one["src"], one["ttl"]) for one in heard] == [(source, 7)] * 3


def handed_reception_program(group: str, interface: str) -> object:
    import select
    import socket

    from mcastctl import ReceptionConfig, SocketError, Subscriber

    version = socket.AF_INET6 if ":" in group else socket.AF_INET
    subscriber = Subscriber()
    config = ReceptionConfig(group, 5004, interface=interface)
    wrong = socket.socket(version, socket.SOCK_DGRAM)
    wrong.bind(("", 5005))
    try:
        subscriber.add(config, wrong)
    except SocketError as error:
        refused = error.message
    wrong.close()
    mine = socket.socket(version, socket.SOCK_DGRAM)
    mine.bind(("", 5004))
    one = subscriber.add(config, mine)
    one.join()
    print("joined", flush=True)
    select.select([subscriber], [], [], 10)
    heard = one.receive()
    assert heard is not None
    back = subscriber.detach(one)
    print("detached", flush=True)
    select.select([back], [], [], 10)
    return [refused, back is mine, heard.payload.decode(), back.recv(100).decode()]


@pytest.mark.parametrize("group", ["239.1.1.1", "ff15::1"])
def test_existing_sockets_receive_and_stay_joined_when_given_back(pair: Pair, group: str) -> None:
    a, b = pair
    receiver = start(b, handed_reception_program, group, "b0")
    where = f"[{group}%a0]:5004" if ":" in group else f"{group}%a0:5004"
    for word, payload in (("joined", "first"), ("detached", "second")):
        receiver.wait_stdout(f"^{word}")
        assert a.mcastctl("send", where, payload).returncode == 0
    refused, same, first, second = result(receiver)
    assert "bound to" in refused
    assert (same, first, second) == (True, "first", "second")


def misuse_program() -> object:
    """What each thing said that cannot be done, and that what was given away is left alone."""
    import select
    import socket

    from mcastctl import (
        Publication,
        PublicationConfig,
        Publisher,
        SocketError,
        Subscriber,
    )

    said = []

    def refused(ask: object, *args: object) -> None:
        try:
            ask(*args)  # type: ignore[operator]
        except SocketError as error:
            said.append([error.message, bool(error.hint)])

    config = PublicationConfig("239.1.1.1", 5004, interface="lo")
    mine = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
    both: list[tuple[Any, Any]] = [
        (Publisher(), config),
        (Subscriber(), "239.1.1.1%lo:5004"),
    ]
    for of_them, one in both:
        sock = mine.pop()
        member = of_them.add(one, sock)
        refused(of_them.add, one, sock)
        back = of_them.detach(member)
        member.close()
        refused(member.detach)
        assert back is sock and back.fileno() >= 0
        of_them.add(one).close()  # by itself: the next one may have its descriptor
        of_them.add(one)
        assert len(of_them) == 1
        of_them.close()
        refused(of_them.add, one)
        back.close()
    refused(of_them.receive)
    refused(of_them.fileno)
    mine[0].bind(("239.1.1.1", 5004))
    refused(Publication, config, mine[0])
    mine[0].close()
    with Subscriber() as subscriber, Publication(config) as publication:
        gone = subscriber.add("239.1.1.1%lo:5004", mine[1])
        stays = subscriber.add("239.1.1.1%lo:5004")
        gone.join()
        stays.join()
        gone.detach()
        publication.send(b"x")
        select.select([subscriber], [], [], 10)
        heard = subscriber.receive()
        assert heard is not None and heard.reception is stays
        assert subscriber.receive() is None
        assert (len(subscriber), subscriber.counters().closed) == (1, 1)
        assert mine[1].recv(9) == b"x"
    assert publication.closed and stays.closed
    return said


def test_what_was_closed_or_given_away_is_an_error_and_left_alone(world: World) -> None:
    said = run(world.host("a"), misuse_program)
    words = ["already serves", "is closed", "publisher is closed"]
    words += ["already serves", "is closed", "subscriber is closed"]
    words += ["subscriber is closed", "subscriber is closed", "no datagram can come from"]
    assert len(said) == len(words)
    for word, (message, hint) in zip(words, said, strict=True):
        assert word in message
        assert hint


# --- receiving


def filter_program(group: str, interface: str, wanted: list[str], unwanted: list[str]) -> object:
    import select

    from mcastctl import ReceptionConfig, Subscriber

    with Subscriber() as subscriber:
        for port, sources, exclude in ((5001, wanted, False), (5002, unwanted, True)):
            config = ReceptionConfig(group, port, tuple(sources), exclude, interface)
            subscriber.add(config).join()
        subscriber.add(ReceptionConfig(group, 5003, interface=interface)).join()
        print("joined", flush=True)
        heard: list[object] = []
        while not heard or heard[-1] != [5003, "end"]:
            select.select([subscriber], [], [], 10)
            for one in subscriber.receive_many(10):
                heard.append([one.datagram.dport, one.datagram.payload.decode()])
        return heard


@pytest.mark.parametrize("group", ["232.1.1.1", "ff3e::8000:1"])
def test_ssm_groups_hear_their_sources_only(pair: Pair, group: str) -> None:
    """INCLUDE and EXCLUDE filters, per source address as it is on the wire."""
    a, b = pair
    a.ip("addr add 10.0.1.8/24 dev a0", "addr add fd00:1::8/64 dev a0 nodad")
    one, two = ("fd00:1::1", "fd00:1::8") if ":" in group else ("10.0.1.1", "10.0.1.8")
    receiver = start(b, filter_program, group, "b0", [one], [one])
    receiver.wait_stdout("^joined")
    where = f"[{group}%a0]" if ":" in group else f"{group}%a0"
    for source, name in ((two, "two"), (one, "one")):
        for port in (5001, 5002):
            sent = a.mcastctl("send", f"{where}:{port}", name, "--bind", source)
            assert sent.returncode == 0, sent.stderr
    assert a.mcastctl("send", f"{where}:5003", "end").returncode == 0
    assert sorted(result(receiver)) == [[5001, "one"], [5002, "two"], [5003, "end"]]


def lifecycle_program(interface: str) -> object:
    import os
    import select
    from pathlib import Path

    from mcastctl import PublicationConfig, Publisher, ReceptionConfig, SocketError, Subscriber

    def members() -> list[bool]:
        table = Path("/proc/net/igmp").read_text()
        return [f"{number:02X}0101EF" in table for number in (1, 2, 3)]

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # what is sent later comes later
    with Publisher() as publisher, Subscriber() as subscriber:
        groups = [f"239.1.1.{number}" for number in (1, 2, 3)]
        out = [publisher.add(PublicationConfig(g, 5004, interface=interface)) for g in groups]
        into = [subscriber.add(ReceptionConfig(g, 5004, interface=interface)) for g in groups]
        descriptors = [one.fileno() for one in into]
        states = [members()]
        publisher.send_all(b"nobody joined")
        for one in into:
            one.join()
            one.join()
        states.append(members())
        for number in range(50):
            out[0].send(b"much %d" % number)
        for number in range(3):
            out[1].send(b"few %d" % number)
        out[2].send(b"last")
        assert select.select([into[2]], [], [], 10)[0]  # so the others are there as well
        turns = [one.datagram.payload.decode() for one in subscriber.receive_many(8)]
        into[0].leave()
        states.append(members())
        out[0].send(b"not a member")
        out[1].send(b"still a member")
        assert select.select([subscriber], [], [], 10)[0]
        late = [one.datagram.payload.decode() for one in subscriber.receive_many(100)]
        into[0].join()
        states.append(members())
        out[0].send(b"again")
        assert select.select([subscriber], [], [], 10)[0]
        again = subscriber.receive()
        out[0].send(b"first")
        out[1].send(b"second")
        assert select.select([into[1]], [], [], 10)[0]
        pending = [subscriber.receive(), into[1].receive()]  # the subscriber knew of both
        out[0].send(b"third")
        assert select.select([into[0]], [], [], 10)[0]
        pending.append(subscriber.receive())
        same = None not in pending and [one.fileno() for one in into] == descriptors
        for one in into:
            subscriber.remove(one)
        states.append(members())
        try:
            subscriber.remove(into[0])
        except SocketError as error:
            refused = error.message
        assert again is not None
        mine = again.reception is into[0]
        return [states, turns, late, mine, same, refused, subscriber.counters(), len(subscriber)]


def test_add_join_leave_remove_and_fair_receive(pair: Pair) -> None:
    """Membership is the kernel's; a busy group does not keep quiet ones from being heard."""
    states, turns, late, mine, same, refused, counters, left = run(pair.a, lifecycle_program, "a0")
    no, yes = [False] * 3, [True] * 3
    assert states == [no, yes, [False, True, True], yes, no]
    assert sorted(turns[:3]) == ["few 0", "last", "much 0"]
    assert sorted(turns[3:5]) == ["few 1", "much 1"]
    assert sorted(turns[5:7]) == ["few 2", "much 2"]
    assert late == ["still a member"]
    assert (mine, same, left) == (True, True, 0)
    assert "239.1.1.1:5004 on a0 is not here" in refused
    added, removed, joins, leaves, heard, size, skipped, drops = counters
    assert (added, removed, joins, leaves, skipped, drops) == (3, 3, 4, 1, 0, 0)
    assert heard == len(turns) + 5
    assert size == sum(map(len, turns)) + len("still a memberagainfirstsecondthird")


def wide_program(group: str) -> object:
    import os
    import select
    import socket

    from mcastctl.net import nic
    from mcastctl.net.receiver import Receiver, Subscription

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mine.bind(("", 5004))
    wanted = Subscription(group, 5004, nic.find("a0"), (), False)
    receiver = Receiver(wanted, whole=False, sock=mine)  # the fastest way it has
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.0.1.1"))
    heard = 0
    for burst in (1, 2, 3):
        for _ in range(100):
            sender.sendto(b"to the group", (group, 5004))
            sender.sendto(b"to the host", ("10.0.1.1", 5004))
        while heard + receiver.skipped < 200 * burst:
            assert select.select([receiver], [], [], 10)[0]
            heard += sum(one.number for one in receiver.read(4096))
    return [heard, receiver.skipped]


def test_a_socket_bound_to_more_than_the_group_hears_the_group_only(pair: Pair) -> None:
    """Also where datagrams are taken many at a time."""
    assert run(pair.a, wide_program, "239.1.1.1") == [300, 300]


# --- event loops


def full_program(asynchronous: bool) -> object:
    import asyncio
    import selectors
    import socket

    from mcastctl import AsyncSender, Publication, QueueFullError

    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4000)
    publication = Publication("239.1.1.1%a0:5004", sock)
    full = 0
    if asynchronous:

        async def flood() -> None:
            sender = AsyncSender(publication)
            numbers = iter(range(30))

            async def some() -> None:
                for number in numbers:
                    report = await sender.send(b"%04d" % number * 250)
                    assert report.bytes == 1000

            await asyncio.gather(some(), some(), some())

        asyncio.run(flood())
    else:
        with selectors.DefaultSelector() as selector:
            selector.register(publication, selectors.EVENT_WRITE)
            for number in range(30):
                while True:
                    try:
                        publication.send(b"%04d" % number * 250)
                        break
                    except QueueFullError as error:
                        assert isinstance(error, BlockingIOError)
                        full += 1
                        assert selector.select(10)
    counters = publication.counters()
    publication.close()
    assert full in (0, counters.full)
    return counters


@pytest.mark.parametrize("asynchronous", [False, True], ids=["selectors", "asyncio"])
def test_sending_never_blocks_and_waits_by_descriptor(pair: Pair, asynchronous: bool) -> None:
    """A full socket buffer is told; whoever waits for room loses nothing."""
    a, b = pair
    a.sh("tc qdisc add dev a0 root tbf rate 2mbit burst 3000 limit 1000000")
    listener = listening(b, "239.1.1.1%b0:5004", "-c", "30")
    *counted, full = run(a, full_program, asynchronous)
    assert counted == [1, 0, 30, 30, 30_000, 0]
    assert full > 0
    heard = [one["payload"] for one in datagrams(listener)]
    assert sorted(heard) == [f"{number:04}" * 250 for number in range(30)]


def asyncio_program(interface: str) -> object:
    import asyncio

    from mcastctl import (
        AsyncReceiver,
        AsyncSender,
        PublicationConfig,
        Publisher,
        ReceptionConfig,
        Subscriber,
    )

    async def main() -> object:
        with Publisher() as publisher, Subscriber() as subscriber:
            groups = ["239.1.1.1", "ff15::2"]
            senders = [
                AsyncSender(publisher.add(PublicationConfig(group, 5004, interface=interface)))
                for group in groups
            ]
            for group in groups:
                subscriber.add(ReceptionConfig(group, 5004, interface=interface)).join()
            single = next(iter(subscriber))
            receiver = AsyncReceiver(subscriber)
            late = 0
            try:
                async with asyncio.timeout(0.05):
                    await receiver.receive()
            except TimeoutError:
                late += 1
            unwatched = not asyncio.get_running_loop().remove_reader(subscriber.fileno())
            both = (receiver, AsyncReceiver(subscriber)) * 2
            waiting = [asyncio.create_task(one.receive()) for one in both]
            await asyncio.sleep(0)  # they wait already
            for number in range(2):
                for sender in senders:
                    await sender.send(b"%d" % number)
            async with asyncio.timeout(10):
                received = await asyncio.gather(*waiting)
                await senders[0].send(b"by one reception")
                alone = await AsyncReceiver(single).receive()
                # A stream without end: other tasks run all the same.
                ticks = 0
                busy = True

                async def tick() -> None:
                    nonlocal ticks
                    while busy:
                        ticks += 1
                        await asyncio.sleep(0)

                ticking = asyncio.create_task(tick())
                heard = 0
                await senders[0].send(b"0")
                async for _ in receiver:
                    heard += 1
                    if heard == 300:
                        break
                    senders[0].publication.send(b"more")
                busy = False
                await ticking
            payloads = [[one.datagram.dst, one.datagram.payload.decode()] for one in received]
            return [late, unwatched, sorted(payloads), alone.payload.decode(), heard, ticks]

    return asyncio.run(main())


def test_asyncio_in_both_directions(pair: Pair) -> None:
    """Several tasks wait at once, a timeout leaves nothing watched, nobody is starved."""
    late, unwatched, payloads, alone, heard, ticks = run(pair.a, asyncio_program, "a0")
    assert (late, unwatched) == (1, True)
    assert payloads == [[g, n] for g in ("239.1.1.1", "ff15::2") for n in ("0", "1")]
    assert (alone, heard) == ("by one reception", 300)
    assert ticks >= 4


# --- counters


def counters_program(interface: str) -> object:
    import select

    from mcastctl import (
        PublicationConfig,
        Publisher,
        ReceptionConfig,
        Sampler,
        SendCounters,
        Subscriber,
    )

    sampler = Sampler[SendCounters]()
    with Publisher() as publisher, Subscriber() as subscriber:
        one = publisher.add(PublicationConfig("239.1.1.1", 5004, interface=interface))
        reception = subscriber.add(ReceptionConfig("239.1.1.1", 5004, interface=interface))
        reception.join()
        first = sampler.sample(publisher.snapshot())
        for _ in range(5):
            one.send(b"1234")
        publisher.remove(one)
        second = sampler.sample(publisher.snapshot())
        third = sampler.sample(publisher.snapshot())
        assert second is not None
        assert third is not None
        while reception.counters().datagrams < 5:
            assert select.select([reception], [], [], 10)[0]
            reception.receive()
        rate = second.per_s(second.counters.sent)
        return [
            first,
            second.counters,
            second.elapsed_ns > 0 and abs(rate * second.elapsed_ns / 1e9 - 5) < 1e-6,
            third.counters,
            reception.snapshot().counters,
        ]


def test_counters_of_real_traffic_in_snapshots_deltas_and_samples(pair: Pair) -> None:
    first, second, rate, third, heard = run(pair.a, counters_program, "a0")
    assert first is None
    assert second == [0, 1, 5, 5, 20, 0, 0]  # added before the first, removed since
    assert rate is True
    assert third == [0] * 7
    assert heard == [1, 0, 1, 0, 5, 20, 0, 0]


def test_deltas_are_between_two_moments() -> None:
    early = Snapshot(1_000_000_000, SendCounters(2, 0, 10, 8, 800, 2, 1))
    late = Snapshot(3_000_000_000, SendCounters(3, 1, 30, 27, 2700, 3, 1))
    moved = delta(early, late)
    assert (moved.elapsed_ns, moved.counters) == (
        2_000_000_000,
        SendCounters(1, 1, 20, 19, 1900, 1, 0),
    )
    assert moved.per_s(moved.counters.sent) == 9.5
    assert delta(late, late).per_s(7) == 0.0
    with pytest.raises(ValueRangeError, match="older"):
        delta(late, early)
    sampler = Sampler[SendCounters]()
    assert [sampler.sample(early), sampler.sample(late)] == [None, moved]


# --- configuration and names


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (PublicationConfig("10.0.0.1", 5004), "not a multicast group"),
        (PublicationConfig("239.1.1.1", 0), "not a UDP port"),
        (PublicationConfig("239.1.1.1:1", 5004), "not an IP address"),
        (PublicationConfig("10.0.0.1@239.1.1.1", 5004), "not an IP address"),
        (PublicationConfig("239.1.1.1", 5004, source="ff02::1"), "cannot be a source"),
        (PublicationConfig("239.1.1.1", 5004, source="fd00::1"), "mixes IPv4 and IPv6"),
        (PublicationConfig("239.1.1.1", 5004, source_port=65536), "source_port 65536"),
        (PublicationConfig("239.1.1.1", 5004, ttl=256), "ttl 256 is out of range"),
        (PublicationConfig("239.1.1.1", 5004, dscp=64), "dscp 64 is out of range"),
        (ReceptionConfig("239.1.1.1", 5004, ("239.1.1.1",)), "cannot be a source"),
        (ReceptionConfig("ff15::1", 5004, ("10.0.0.1",)), "mixes IPv4 and IPv6"),
        (ReceptionConfig("ff15::1", 5004, buffer_size=0), "buffer_size 0"),
        (PublicationConfig("ff02::1%a0", 5004, interface="b0"), "names interface a0"),
        (ReceptionConfig("ff02::1%a0", 5004, ("fe80::1%b0",)), "names interface b0"),
        (ReceptionConfig("ff02::1%", 5004), "not an IP address"),
    ],
)
def test_configurations_that_cannot_be_meant_are_refused_with_a_hint(
    config: PublicationConfig | ReceptionConfig, said: str
) -> None:
    with pytest.raises(McastError, match=said) as caught:
        config.checked()
    assert caught.value.hint


def test_configurations_from_endpoints() -> None:
    source = PublicationConfig.parse("10.0.0.1@239.1.1.1%eth0:5004")
    assert source == PublicationConfig("239.1.1.1", 5004, source="10.0.0.1", interface="eth0")
    several = ReceptionConfig.parse("!fd00::1,!fd00::2@[ff15::0:1%eth0]:5004")
    assert several == ReceptionConfig("ff15::1", 5004, ("fd00::1", "fd00::2"), True, "eth0")
    plain = ReceptionConfig("FF15::0:1", 5004, ("FD00::1",)).checked()
    assert (plain.group, plain.sources) == ("ff15::1", ("fd00::1",))
    zoned = ReceptionConfig("ff02::1%eth0", 5004, ("fe80::1%eth0",)).checked()
    assert zoned == ReceptionConfig("ff02::1", 5004, ("fe80::1",), interface="eth0")
    assert PublicationConfig("ff02::1%2", 5004, interface=2).checked().interface == "2"
    for text in ("239.1.1.1", "239.1.1.1:5004+2", "!10.0.0.1@239.1.1.1:5004"):
        with pytest.raises(AddressError):
            PublicationConfig.parse(text)


def test_every_public_name_is_there_and_loaded_only_when_used() -> None:
    for name in mcastctl.__all__:
        assert getattr(mcastctl, name) is not None
        assert name in dir(mcastctl)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = mcastctl.Nonsense  # type: ignore[attr-defined]
    code = "import mcastctl, sys; print(sorted(m for m in sys.modules if 'mcastctl.' in m))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


# --- the examples of the README

PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_programs_of_the_readme_run(world: World) -> None:
    """As they stand, on an interface named eth0."""
    eth, other = world.host("eth"), world.host("other")
    world.link(eth, other)
    said = [eth.run([sys.executable, "-W", "error", "-c", one]).stdout for one in PROGRAMS]
    source = eth.addr4()
    announced = f"Announcement(source='{source}', group='239.1.1.1', port=5004)"
    assert said == [
        f"5 {source} ('239.1.1.1', 5004) {announced}\nsent\nsent\n",
        f"232.1.1.1:5004 on eth0 {source} b'for members'\n",
        said[2],
    ]
    assert re.fullmatch(r"b'hello'\n1 \d+\.\d+\n", said[2])


def test_programs_of_the_readme_are_typed(tmp_path: Path) -> None:
    """Strict type checking accepts them, and sees a mistake: the package brings its types."""
    wrong = f"{PROGRAMS[0]}\n    news.send('text')\nimport mcastctl\nmcastctl.Publihser()\n"
    paths = [tmp_path / f"program{number}.py" for number in range(len(PROGRAMS) + 1)]
    for path, source in zip(paths, [*PROGRAMS, wrong], strict=True):
        path.write_text(source)
    mypy: list[str | Path] = [sys.executable, "-m", "mypy", "--strict", *paths]
    told = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    (fault, typo, summary) = told.stdout.splitlines()
    assert "program3.py" in fault
    assert 'incompatible type "str"; expected "bytes"' in fault
    assert 'Module has no attribute "Publihser"' in typo
    assert "Found 2 errors in 1 file" in summary

"""Processes that join groups in every way a program can, for tests of who joined what."""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from subprocess import PIPE
from typing import NamedTuple

from world import Host, Running

ANY = "0.0.0.0"  # noqa: S104

# Sockets as JSON on stdin; tells when all have joined, and waits for the end of its input.
MEMBER = """
import json, socket, struct, sys
STORAGE = 128
def storage(address):
    version6 = ":" in address
    family = socket.AF_INET6 if version6 else socket.AF_INET
    body = socket.inet_pton(family, address)
    head = struct.pack("=HHI" if version6 else "=HH", family, *([0, 0] if version6 else [0]))
    return (head + body).ljust(STORAGE, bytes(1))
kept = []
for one in json.loads(sys.stdin.readline()):
    family = socket.AF_INET6 if one["version"] == 6 else socket.AF_INET
    kind, protocol = (socket.SOCK_RAW, one["raw"]) if one["raw"] else (socket.SOCK_DGRAM, 0)
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if one["bind"]:
        sock.bind((one["bind"], one["port"]))
    for group, ifindex, mode, sources in one["joins"]:
        level = socket.IPPROTO_IPV6 if ":" in group else socket.IPPROTO_IP
        request = struct.pack("@I", ifindex).ljust(struct.calcsize("@P"), bytes(1)) + storage(group)
        if mode == "exclude":
            sock.setsockopt(level, 42, request)
        for source in sources:
            sock.setsockopt(level, 43 if mode == "exclude" else 46, request + storage(source))
    kept.append(sock)
print("joined", *[sock.fileno() for sock in kept], flush=True)
sys.stdin.read()
"""


class Join(NamedTuple):
    """One membership of one socket."""

    group: str
    ifindex: int
    mode: str = "exclude"
    sources: tuple[str, ...] = ()


class Socket(NamedTuple):
    """A socket and what it joins; unbound where `bind` is empty."""

    joins: tuple[Join, ...]
    version: int = 4
    bind: str = ""
    port: int = 0
    raw: int = 0


def member(host: Host, *sockets: Socket, privileged: bool = True) -> tuple[Running, list[int]]:
    """Start a process that has joined; returns it and the descriptors of its sockets."""
    running = host.popen([sys.executable, "-c", MEMBER], stdin=PIPE, privileged=privileged)
    running.write(json.dumps([one._asdict() for one in sockets]) + "\n")
    told = running.wait_stdout(r"^joined( .*)?$", timeout=20)
    return running, [int(word) for word in (told[1] or "").split()]


def some(dice: random.Random, ifindexes: list[int], number: int) -> list[Socket]:
    """Sockets that join few groups in every mode, so that they meet on many."""
    groups = {4: ["239.1.1.1", "239.1.1.2", "232.1.1.1"], 6: ["ff15::1", "ff15::2", "ff35::8000:1"]}
    hosts = {4: "192.0.2.", 6: "2001:db8::"}
    found = []
    for _ in range(number):
        version = dice.choice([4, 6])
        joins = []
        for group in dice.sample(groups[version], dice.randrange(1, 4)):
            for ifindex in dice.sample(ifindexes, dice.randrange(1, len(ifindexes) + 1)):
                mode = dice.choice(["include", "exclude", "exclude"])
                least = 1 if mode == "include" else 0
                chosen = dice.sample(range(1, 6), dice.randrange(least, 4))
                joins.append(
                    Join(group, ifindex, mode, tuple(f"{hosts[version]}{one}" for one in chosen))
                )
        bind = dice.choice(["", ANY if version == 4 else "::"])
        found.append(Socket(tuple(joins), version, bind, 5000 if bind else 0))
    return found


def expected(sockets: list[Socket]) -> dict[tuple[int, str], tuple[str, set[str]]]:
    """The filter of each interface and group that these make together (RFC 3376 section 3.2)."""
    together: dict[tuple[int, str], list[Join]] = defaultdict(list)
    for one in sockets:
        for join in one.joins:
            together[join.ifindex, join.group].append(join)
    found = {}
    for key, joins in together.items():
        included = {source for join in joins if join.mode == "include" for source in join.sources}
        excluding = [set(join.sources) for join in joins if join.mode == "exclude"]
        if excluding:
            found[key] = "exclude", set.intersection(*excluding) - included
        else:
            found[key] = "include", included
    return found

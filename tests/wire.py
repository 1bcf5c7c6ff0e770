"""What is on the wire, and datagrams put on it that no socket would send.

`watch` shows every frame of an interface as it passes; `inject` sends frames made by `udp`, whose
source address and ports may be anybody's or nonsense; `ask` is a plain program with a UDP socket.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from subprocess import PIPE
from typing import NamedTuple

from world import Host, Running

# argv: interface. One line of JSON a frame; what lo delivers twice is shown once.
WATCH = """
import json, socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
sock.bind((sys.argv[1], 3))
print("watching", flush=True)
while True:
    frame, (_, _, kind, _, _) = sock.recvfrom(65535)
    if sys.argv[1] != "lo" or kind != 4:
        print(json.dumps([kind == 4, frame.hex()]), flush=True)
"""

# argv: interface; frames in hex on stdin
INJECT = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.bind((sys.argv[1], 3))
for line in sys.stdin:
    sock.send(bytes.fromhex(line))
"""

# argv: own address, own port, destination, port, interface index, answers to wait for; payload in
# hex on stdin. Prints [address, port, payload] of each datagram that comes back.
ASK = """
import json, socket, struct, sys
own, sport, there, port, index, count = sys.argv[1:]
version6 = ":" in there
scope = lambda address: int(index) if address[:4] in ("fe80", "ff02") else 0
sock = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind((own, int(sport), 0, scope(own)) if version6 else (own, int(sport)))
if version6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, int(index))
else:
    request = struct.pack("@4s4si", b"", b"", int(index))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
payload = bytes.fromhex(sys.stdin.read())
sock.sendto(payload, (there, int(port), 0, scope(there)) if version6 else (there, int(port)))
for _ in range(int(count)):
    data, peer = sock.recvfrom(65535)
    print(json.dumps([peer[0].partition("%")[0], peer[1], data.hex()]), flush=True)
"""

UDP = 17


class Packet(NamedTuple):
    """One frame: `outgoing` from the watched interface, `sport` and `dport` 0 unless UDP."""

    outgoing: bool
    src: str
    dst: str
    ttl: int
    protocol: int
    sport: int
    dport: int
    payload: bytes


class Answer(NamedTuple):
    """A datagram that came back to `ask`."""

    src: str
    sport: int
    payload: bytes


def watch(host: Host, ifname: str | None = None) -> Running:
    """Start watching an interface (by default the first port)."""
    running = host.popen([sys.executable, "-c", WATCH, ifname or host.ports[0]])
    running.wait_stdout("^watching")
    return running


def packets(watching: Running) -> list[Packet]:
    """What was seen so far; IP only, and of UDP only first fragments count as such."""
    lines = re.findall(r"^\[.*\]$", watching.stdout, re.MULTILINE)
    found = (_packet(*json.loads(line)) for line in lines)
    return [one for one in found if one is not None]


def settled(watching: Running, host: Host, ifname: str | None = None) -> list[Packet]:
    """What passed until now: a marker sent by `host` bounds it."""
    name = ifname or host.ports[0]
    inject(host, [udp("192.0.2.1", 9, "192.0.2.2", 9, b"the marker")], name)
    watching.wait_stdout(b"the marker".hex())
    return [one for one in packets(watching) if one.src != "192.0.2.1"]


def _packet(outgoing: bool, text: str) -> Packet | None:
    frame = bytes.fromhex(text)
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\x08\x00":
        start, ttl, protocol = (packet[0] & 15) * 4, packet[8], packet[9]
        src, dst = packet[12:16], packet[16:20]
    elif kind == b"\x86\xdd":
        start, ttl, protocol = 40, packet[7], packet[6]
        src, dst = packet[8:24], packet[24:40]
    else:
        return None
    sport = dport = 0
    if protocol == UDP:
        sport, dport, length, _ = struct.unpack_from("!4H", packet, start)
        payload = packet[start + 8 : start + length]
    else:
        payload = packet[start:]
    return Packet(
        outgoing, str(ip_address(src)), str(ip_address(dst)), ttl, protocol, sport, dport, payload
    )


def udp(
    src: str, sport: int, dst: str, dport: int, payload: bytes, *, ttl: int = 64, mac: str = ""
) -> bytes:
    """An Ethernet frame with one UDP datagram; a group chooses its MAC, else `mac` or broadcast."""
    there = ip_address(dst).packed
    if len(there) == 4 and there[0] >> 4 == 14:
        target = b"\x01\x00\x5e" + bytes([there[1] & 127]) + there[2:]
    elif there[0] == 255 and len(there) == 16:
        target = b"\x33\x33" + there[12:]
    else:
        target = bytes.fromhex(mac.replace(":", "") or "ff" * 6)
    here = ip_address(src).packed
    length = 8 + len(payload)
    pseudo = here + there + struct.pack("!HH", UDP, length)
    datagram = struct.pack("!4H", sport, dport, length, 0) + payload
    total = checksum(pseudo + datagram) or 0xFFFF
    datagram = struct.pack("!4H", sport, dport, length, total) + payload
    if len(there) == 16:
        head = struct.pack("!IHBB", 6 << 28, length, UDP, ttl) + here + there
        return target + b"\x02\0\0\0\0\x99\x86\xdd" + head + datagram
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, ttl, UDP, 0) + here + there
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return target + b"\x02\0\0\0\0\x99\x08\0" + head + datagram


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def inject(host: Host, frames: Iterable[bytes], ifname: str | None = None) -> None:
    """Send frames by an interface of a host, in this order."""
    lines = "".join(f"{frame.hex()}\n" for frame in frames)
    host.run([sys.executable, "-c", INJECT, ifname or host.ports[0]], input=lines)


def start_ask(
    host: Host,
    there: str,
    port: int,
    payload: bytes,
    *,
    own: str = "",
    sport: int = 0,
    count: int = 1,
    ifname: str | None = None,
) -> Running:
    """Send one datagram and wait for `count` that come back."""
    own = own or ("::" if ":" in there else "0.0.0.0")  # noqa: S104
    numbers = [own, sport, there, port, host.ifindex(ifname), count]
    running = host.popen([sys.executable, "-c", ASK, *map(str, numbers)], stdin=PIPE)
    running.write(payload.hex())
    running.close_stdin()
    return running


def ask(host: Host, there: str, port: int, payload: bytes, **options: object) -> Sequence[Answer]:
    """As start_ask, to the end."""
    outcome = start_ask(host, there, port, payload, **options).finish()  # type: ignore[arg-type]
    assert outcome.returncode == 0, outcome.stderr
    return [
        Answer(src, sport, bytes.fromhex(text))
        for src, sport, text in map(json.loads, outcome.stdout.splitlines())
    ]


def packed(address: str) -> bytes:
    """The bytes of an address."""
    return ip_address(address).packed

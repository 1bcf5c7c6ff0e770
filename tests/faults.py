"""Programs that hear and send groups the wrong way, for tests of the doctor; and its examiner.

`ear` and `voice` are told by JSON what to do; both tell when they have begun and end with their
standard input. `Surgery` runs the doctor as root of the machine where the test is run by it, so
that the kernel's drop reasons are told, and else as root of the hosts' own user namespace.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from subprocess import PIPE
from typing import Any

from place import ROOT
from streams import Json, check_schema
from world import Host, Place, Running

EAR = r"""
import json, socket, struct, sys, threading, time
one = json.loads(sys.stdin.readline())
six = one["version"] == 6
level = 41 if six else 0

def storage(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    head = struct.pack("=HHI", family, 0, 0) if ":" in address else struct.pack("=HH", family, 0)
    return (head + socket.inet_pton(family, address)).ljust(128, bytes(1))

def attempt():
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    for option, value in one["options"]:
        sock.setsockopt(*option, value)
    if one["device"]:
        sock.setsockopt(1, 25, one["device"].encode())
    if one["refuse"]:
        import ctypes
        program = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0), 8)
        sock.setsockopt(1, 26, struct.pack("@HP", 1, ctypes.addressof(program)))
    try:
        sock.bind((one["bind"], one["port"]))
    except OSError:
        sock.close()
        raise
    for group, ifname, source in one["joins"]:
        at = 41 if ":" in group else 0
        index = socket.if_nametoindex(ifname) if ifname else 0
        request = struct.pack("@I4x", index) + storage(group)
        try:
            if source.startswith("!"):
                sock.setsockopt(at, 42, request)
                sock.setsockopt(at, 43, request + storage(source[1:]))
            else:
                request += storage(source) if source else b""
                sock.setsockopt(at, 46 if source else 42, request)
        except OSError:
            pass  # the limit, or no interface: a real program would say so and go on
    if one["connect"]:
        sock.connect((one["connect"], one["port"]))
    return sock

def again():
    while True:
        try:
            attempt().close()
        except OSError:
            pass
        time.sleep(0.1)

try:
    sock = attempt()
except OSError:
    sock = None
    threading.Thread(target=again, daemon=True).start()
print("begun", flush=True)
if sock is not None and one["reads"]:
    def read():
        while True:
            sock.recv(65536)
            time.sleep(one["reads"])
    threading.Thread(target=read, daemon=True).start()
sys.stdin.read()
"""

VOICE = r"""
import json, select, socket, struct, sys
one = json.loads(sys.stdin.readline())
six = ":" in one["group"]

def total(data):
    data += bytes(len(data) % 2)
    number = sum(struct.unpack(f">{len(data) // 2}H", data))
    while number >> 16:
        number = (number & 0xFFFF) + (number >> 16)
    return ~number & 0xFFFF

def frame(payload):
    source, group = (socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, one[key])
                     for key in ("source", "group"))
    size = 8 + len(payload)
    pseudo = source + group + (
        struct.pack(">II", size, 17) if six else struct.pack(">HH", 17, size))
    udp = struct.pack(">HHHH", 40000, one["port"], size, 0) + payload
    check = total(pseudo + udp) or 0xFFFF
    if "udp" in one["damage"]:
        check ^= 0x5555
    udp = udp[:6] + struct.pack(">H", check) + payload
    if six:
        ip = struct.pack(">IHBB", 0x60000000, size, 17, one["ttl"]) + source + group
        mac = b"\x33\x33" + group[12:]
    else:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, 0, one["ttl"], 17, 0) + source + group
        check = total(ip) ^ (0x1111 if "ip" in one["damage"] else 0)
        ip = ip[:10] + struct.pack(">H", check) + ip[12:]
        mac = b"\x01\x00\x5e" + bytes([group[1] & 0x7F]) + group[2:]
    if "mac" in one["damage"]:
        mac = b"\x02\x00\x00\x00\x00\x99"
    return mac + bytes(6) + (b"\x86\xdd" if six else b"\x08\x00") + ip + udp

if one["raw"]:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((one["iface"], 0))
    send = lambda payload: sock.send(frame(payload))
else:
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    level = 41 if six else 0
    if one["ttl"] is not None:
        sock.setsockopt(level, 18 if six else 33, one["ttl"])
    if one["iface"]:
        index = socket.if_nametoindex(one["iface"])
        value = index if six else struct.pack("@4s4si", b"", b"", index)
        sock.setsockopt(level, 17 if six else 32, value)
    for option, value in one["options"]:
        sock.setsockopt(*option, value)
    if one["source"]:
        sock.bind((one["source"], 0))
    send = lambda payload: sock.sendto(payload, (one["group"], one["port"]))

number = 0
ending = select.poll()
ending.register(0, select.POLLIN)
print("begun", flush=True)
while not ending.poll(one["interval_ms"]):
    number += 1
    for _ in range(one["burst"]):
        try:
            send(b"%d " % number + bytes(one["size"]))
        except OSError:
            pass
"""

SOL_SOCKET, REUSE = 1, ((1, 2), 1)
GROUP, GROUP6, PORT = "239.1.1.1", "ff15::1:1", 5000
ANY = "0.0.0.0"  # noqa: S104


def _begin(host: Host, program: str, told: Json) -> Running:
    running = host.popen([sys.executable, "-c", program], stdin=PIPE)
    running.write(json.dumps(told) + "\n")
    running.wait_stdout("^begun$", timeout=20)
    return running


def ear(host: Host, **more: Any) -> Running:
    """A program that binds and joins; joins are (group, interface, source), '!' to block."""
    plain = {"version": 4, "bind": ANY, "port": PORT, "joins": [(GROUP, host.ports[0], "")]}
    plain |= {"options": [REUSE], "device": "", "refuse": False, "connect": "", "reads": 0.001}
    if more.get("version") == 6:
        plain |= {"bind": "::", "joins": [(GROUP6, host.ports[0], "")]}
    return _begin(host, EAR, plain | more)


def voice(host: Host, **more: Any) -> Running:
    """A program that sends to the group until it is stopped."""
    plain = {"group": GROUP, "port": PORT, "iface": host.ports[0], "ttl": 8, "source": ""}
    plain |= {"raw": False, "damage": "", "options": [], "size": 60, "burst": 1, "interval_ms": 20}
    return _begin(host, VOICE, plain | more)


class Surgery(Place):
    """A host as the doctor enters it, with all the rights of whoever runs the test."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.config_home)
        self._host = host

    def _argv(self, args: Sequence[str], privileged: bool) -> list[str]:
        if not ROOT or not privileged:
            return self._host._argv(args, privileged)
        return ["nsenter", f"--net=/proc/{self._host.pid}/ns/net", *args]


def doctor(host: Host, *args: str, privileged: bool = True, watch: str = "1s") -> list[Json]:
    """The findings of the doctor at a host."""
    place = Surgery(host)
    try:
        outcome = place.mcastctl(
            *("doctor", *args, "-T", watch, "-j"), privileged=privileged, timeout=30
        )
    finally:
        place.stop()
    assert outcome.returncode in (0, 1), outcome
    findings: list[Json] = json.loads(outcome.stdout)
    check_schema(findings)
    errors = [one for one in findings if one["severity"] == "error"]
    assert outcome.returncode == bool(errors)
    return findings


def answer(findings: list[Json]) -> str:
    """The id of the first error, 'ok' without one."""
    return next((str(one["id"]) for one in findings if one["severity"] == "error"), "ok")

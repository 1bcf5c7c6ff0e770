"""Messages of routers, gateways and clocks, each with what tshark calls the fields we tell."""

from __future__ import annotations

import struct
from typing import NamedTuple

import frames as f

A4, A6 = "10.0.0.1", "fe80::1"
ROUTER = bytes.fromhex("020000000001")


class Told(NamedTuple):
    """A frame, its protocol, tshark's field for each of ours, and whether its checksum is right."""

    frame: bytes
    proto: str
    fields: dict[str, str]
    right: bool = True


def _udp(dst: str, port: int, payload: bytes) -> bytes:
    return f.ether(f.datagram(A6 if ":" in dst else A4, dst, port, port, payload))


def _hsrp1(state: int, operation: int) -> Told:
    body = bytes((0, operation, state, 3, 10, 110, 7, 0)) + b"cisco\0\0\0" + f.packed("10.0.0.254")
    names = {"type": "opcode", "state": "state", "group": "group", "priority": "priority"}
    names |= {"hello_s": "hellotime", "hold_s": "holdtime", "address": "virt_ip"}
    fields = {ours: f"hsrp.{theirs}" for ours, theirs in names.items()}
    return Told(_udp("224.0.0.2", 1985, body), "hsrp", fields)


def _hsrp2(state: int, address: str) -> Told:
    six = ":" in address
    body = struct.pack("!BBBBBBH6s", 1, 40, 2, 0, state, 6 if six else 4, 300, ROUTER)
    body += struct.pack("!III16s", 105, 3000, 10000, f.packed(address)) + b"\3\x08cisco\0\0\0"
    names = {"type": "opcode", "state": "state", "group": "group", "priority": "priority"}
    names |= {"version": "version", "router": "identifier"}
    names["address"] = "virt_ip_v6" if six else "virt_ip"
    fields = {ours: f"hsrp2.{theirs}" for ours, theirs in names.items()}
    dst, port = ("ff02::66", 2029) if six else ("224.0.0.102", 1985)
    return Told(_udp(dst, port, body), "hsrp", fields)


def _glbp(state: int) -> Told:
    body = struct.pack("!BBHH6s", 1, 0, 7, 0, ROUTER)
    body += struct.pack("!BBBBBBH", 1, 28, 0, state, 0, 110, 0)
    body += struct.pack("!IIHHHBB", 3000, 10000, 600, 14400, 0, 1, 4) + f.packed("10.0.0.254")
    names = {"state": "hello.vgstate", "priority": "hello.priority", "group": "group"}
    names |= {"router": "ownerid", "address": "hello.virtualipv4"}
    fields = {ours: f"glbp.{theirs}" for ours, theirs in names.items()}
    return Told(_udp("224.0.0.102", 3222, body), "glbp", fields)


_OSPF = {"version": "version", "type_code": "msg", "router": "srcrouter", "area": "area_id"}
_HELLO = {"hello_s": "hello_interval", "dead_s": "router_dead_interval"}
_HELLO |= {"priority": "router_priority", "designated": "designated_router"}
_HELLO |= {"backup": "backup_designated_router", "neighbors": "active_neighbor"}


def _ospf(kind: int, body: bytes, *, wrong: int = 0) -> Told:
    head = struct.pack("!BBH4s4sHH", 2, kind, 24 + len(body), f.packed("1.1.1.1"), bytes(4), 0, 0)
    value = f.checksum(head + body) ^ wrong
    data = head[:12] + struct.pack("!HH8s", value, 0, b"password") + body
    data += b"a block that is signalled behind it"
    fields = {ours: f"ospf.{theirs}" for ours, theirs in _OSPF.items()}
    if kind == 1:
        fields |= {ours: f"ospf.hello.{theirs}" for ours, theirs in _HELLO.items()}
    return Told(f.ether(f.ip4(A4, "224.0.0.5", 89, data)), "ospf", fields, not wrong)


def _ospf3(kind: int, body: bytes) -> Told:
    data = struct.pack("!BBH4s4sHH", 3, kind, 16 + len(body), f.packed("1.1.1.1"), bytes(4), 0, 0)
    data = f.filled(data + body, 12, f.pseudo(A6, "ff02::5", 89, 16 + len(body)))
    fields = {ours: f"ospf.{theirs}" for ours, theirs in _OSPF.items()}
    if kind == 1:
        fields |= {ours: f"ospf.hello.{theirs}" for ours, theirs in _HELLO.items()}
    return Told(f.ether(f.ip6(A6, "ff02::5", 89, data)), "ospf", fields)


_NEAR = f.packed("10.0.0.1") + f.packed("10.0.0.2") + f.packed("2.2.2.2") + f.packed("3.3.3.3")
_HELLO2 = f.packed("255.255.255.0") + struct.pack("!HBBI", 10, 2, 1, 40) + _NEAR
_HELLO3 = struct.pack("!IB3sHH", 5, 1, b"\0\0\x13", 10, 40) + _NEAR


def _eigrp(code: int, ack: int = 0) -> Told:
    body = f.filled(struct.pack("!BBHIIIHH", 2, code, 0, 0, 17, ack, 0, 100), 2)
    names = {"version": "version", "type_code": "opcode", "as": "as", "seq": "seq", "ack": "ack"}
    fields = {ours: f"eigrp.{theirs}" for ours, theirs in names.items()}
    return Told(f.ether(f.ip4(A4, "224.0.0.10", 88, body)), "eigrp", fields)


def _rip(version: int) -> Told:
    route = struct.pack("!HH4s4s4sI", 2, 9, f.packed("10.1.0.0"), b"\xff\xff\0\0", bytes(4), 2)
    body = struct.pack("!BBH", 2, version, 0) + route + route
    names = {"version": "version", "type_code": "command"}
    fields = {ours: f"rip.{theirs}" for ours, theirs in names.items()}
    return Told(_udp("224.0.0.9", 520, body), "rip", fields)


def _ripng() -> Told:
    route = f.packed("2001:db8::") + struct.pack("!HBB", 9, 32, 1)
    body = struct.pack("!BBH", 1, 1, 0) + route
    return Told(_udp("ff02::9", 521, body), "ripng", {"version": "ripng.version"})


def _ptp(kind: int, *, on_link: bool = False) -> Told:
    size = 64 if kind == 11 else 44
    body = struct.pack("!BBHBBHqI8sHHBb", kind, 2, size, 3, 0, 0x0200, -(1 << 16), 0,
                       bytes(range(8)), 1, 500 + kind, 5, -3)  # fmt: skip
    body += bytes(10)
    names = {"type_code": "messagetype", "domain": "domainnumber", "seq": "sequenceid"}
    names |= {"clock": "clockidentity", "clock_port": "sourceportid", "version": "versionptp"}
    if kind == 11:
        body += struct.pack("!hBBBBHB8sHB", 37, 0, 128, 6, 0x21, 0, 127, b"grandmas", 2, 0x20)
        names |= {"grandmaster": "an.grandmasterclockidentity", "priority1": "an.priority1"}
        names |= {"priority2": "an.priority2", "steps_removed": "an.localstepsremoved"}
    fields = {ours: f"ptp.v2.{theirs}" for ours, theirs in names.items()}
    if on_link:
        return Told(f.ether(body, ethertype=0x88F7), "ptp", fields)
    return Told(_udp("224.0.1.129", 319 if kind < 8 else 320, body), "ptp", fields)


ALL = [
    *(_hsrp1(state, state % 3) for state in (0, 1, 2, 4, 8, 16, 9)),
    *(_hsrp2(state, "10.0.0.254") for state in range(1, 8)),
    _hsrp2(6, "fe80::5"),
    *(_glbp(state) for state in (4, 8, 16, 32, 5)),
    _ospf(1, _HELLO2),
    _ospf(1, _HELLO2, wrong=1),
    *(_ospf(kind, bytes(16)) for kind in (3, 5, 7)),
    _ospf3(1, _HELLO3),
    *(_eigrp(code) for code in (1, 2, 3, 4, 5, 10, 11)),
    _eigrp(5, ack=3),
    *(_rip(version) for version in (1, 2)),
    _ripng(),
    *(_ptp(kind) for kind in (0, 1, 8, 11)),
    _ptp(0, on_link=True),
]
"""Every one, in frames of Ethernet."""

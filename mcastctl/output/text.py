"""Records to lines for people: pure functions, one per type of record."""

import time

from mcastctl.model.address import host_port
from mcastctl.model.mark import PLAIN
from mcastctl.model.records import Datagram, Membership, Message, Notice, Reply, Start
from mcastctl.output.escape import escape, escape_bytes

_SHORT = 1000
"""Bytes of the longest message that is printed in full."""
_UNITS = ("", "k", "M", "G", "T")


def clock(ts_ns: int) -> str:
    """Return local time of day to the microsecond, as tcpdump prints it."""
    whole, rest = divmod(ts_ns, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(whole))}.{rest // 1000:06d}"


def scaled(number: float, unit: str) -> str:
    """Return '4.2 Mbit/s' for 4200000 'bit/s'."""
    for prefix in _UNITS:
        if number < 1000 or prefix == "T":
            break
        number /= 1000
    digits = 0 if number >= 100 or number == int(number) else 1
    space = "" if unit.startswith("/") else " "
    return f"{number:.{digits}f}{space}{prefix}{unit}"


def datagram(record: Datagram, *, payload_shown: bool = True) -> str:
    """Return one line: time, interface, addresses, TTL, DSCP, length, number, payload."""
    mark = record.mark
    line = f"{clock(record.ts_ns)} {where(record)}"
    if mark.seq is not None:
        line += f" seq {mark.seq}"
    end = payload(record) if payload_shown else ""
    return f"{line} {end}" if end else line


def message(record: Message) -> str:
    """Return one line: as of a datagram, with name and parts; what is long is not printed."""
    one = record.datagram
    again = f" duplicates {record.duplicates}" if record.duplicates else ""
    line = f"{clock(one.ts_ns)} {where(one)} message {record.name:x} parts {record.parts}{again}"
    return f"{line} {readable(one.payload)}" if 0 < one.length <= _SHORT else line


def where(record: Datagram) -> str:
    """Return what datagrams of one flow share: interface, addresses, TTL, DSCP, length."""
    parts = [
        escape(record.iface),
        "In" if record.direction == "rx" else "Out",
        f"{host_port(record.src, record.sport)} > {host_port(record.dst, record.dport)}",
        f"ttl {record.ttl}" if record.ttl is not None else "",
        f"dscp {record.dscp}" if record.dscp else "",
        f"length {record.length}",
    ]
    return " ".join(part for part in parts if part)


def payload(record: Datagram) -> str:
    """Return readable payload in full, anything else by its kind."""
    return record.mark.kind if record.mark.kind != PLAIN else readable(record.payload)


def readable(data: bytes) -> str:
    """Return text escaped and in full, 'binary' for what is mostly not text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "binary"
    if text.isprintable():
        return escape(text)
    strange = sum(not char.isprintable() and char not in "\t\r\n" for char in text)
    return escape(text) if strange * 4 <= len(text) else "binary"


def dump(data: bytes, *, ascii_column: bool) -> list[str]:
    """Return tcpdump's -x (or -X) lines: offset, sixteen bytes in pairs, characters."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        pairs = " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))
        characters = "".join(chr(byte) if 32 < byte < 127 else "." for byte in row)
        tail = f"  {characters}" if ascii_column else ""
        lines.append(f"\t0x{at:04x}:  {pairs:<39}{tail}".rstrip())
    return lines


def start(record: Start) -> str:
    """Return the banner."""
    listed = [escape(one) for one in record.endpoints[:4]]
    more = len(record.endpoints) - len(listed)
    asked = f": {' '.join(listed)}{f' and {more} more' if more else ''}" if listed else ""
    return f"mcastctl {record.command}{asked}"


def membership(record: Membership) -> str:
    """Return 'joined 239.1.1.1:5004 on eth0 (index 2) from 10.0.0.1'."""
    source = ""
    if record.source:
        source = f" {'without' if record.mode == 'exclude' else 'from'} {record.source}"
    buffer = ""
    if record.rcvbuf_bytes is not None and record.event == "joined":
        buffer = f", receive buffer {record.rcvbuf_bytes // 1024} KiB"
    where = host_port(record.group, record.port)
    return (
        f"{record.event} {where} on {escape(record.iface)} (index {record.ifindex}){source}{buffer}"
    )


def notice(record: Notice) -> list[str]:
    """Return the line and its hint."""
    head = "" if record.level == "info" else f"{record.level}: "
    lines = [f"mcastctl: {head}{escape(record.text)}"]
    return [*lines, f"hint: {escape(record.hint)}"] if record.hint else lines


def reply(record: Reply) -> str:
    """Return one line in ping's manner."""
    hops = f" hops={record.hops}" if record.hops is not None else ""
    again = " (duplicate)" if record.duplicate else ""
    said = f" {escape_bytes(record.payload)}" if record.payload else ""
    return (
        f"{record.length} bytes from {host_port(record.responder, record.port)}: "
        f"{record.kind} seq={record.seq}{hops} time={record.rtt_ns / 1e6:.3f} ms{again}{said}"
    )

"""Targets that read bytes off the wire: payloads, frames, statistics, the kernel's messages."""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress

import control
import frames as f

from fuzz.target import Target, check
from mcastctl.decode import mpegts, stream
from mcastctl.decode.packet import Decoder
from mcastctl.host import (
    bridges,
    forwarding,
    linkdetails,
    netlink,
    sockets,
    trafficcontrol,
    watching,
)
from mcastctl.model import answering, probe
from mcastctl.model import message as stitching
from mcastctl.model.control import Commentary
from mcastctl.model.frame import Frame
from mcastctl.model.message import Stitcher, Whole
from mcastctl.model.records import Datagram, payload_field
from mcastctl.model.sequence import SequenceTracker
from mcastctl.model.stats import Statistics
from mcastctl.model.watch import Watch
from mcastctl.net import ancillary, routing
from mcastctl.output.packets import Look, tail

LINKTYPES: tuple[int, ...] = (1, 101, 113, 276, 0, 9, 12, 50, 104, 108, 228, 229, 9999)
LINKTYPES += (10, 19, 105, 109, 117, 119, 127, 163, 192, 239, 258)
LOOKS = (Look(), Look("X", True, 1), Look("A", False, 0))


def probes(data: bytes) -> None:
    """A header or none; what is taken apart comes back; an answer is never a request."""
    found = probe.decode(data)
    if found is None:
        return
    check(probe.encode(found)[: probe.MIN_SIZE] == data[: probe.MIN_SIZE], "another header")
    back = probe.decode(probe.answer(found, data[-1]))
    check(back is not None and back.kind == probe.REPLY, "an answer that is none")
    check(back and back[3:] == found[3:], "an answer to something else")
    asked = Datagram(0, "rx", "a0", 1, "10.0.0.1", 4000, "239.1.1.1", 5004, 1, 0, len(data), data)
    if answering.refusal(asked, found, frozenset({5004}), answer_any=True) is None:
        said = answering.answer(asked, found, None)
        check(len(said) == len(data), "an answer of another length")
        turned = asked._replace(payload=said, dst="10.0.0.1")
        again = answering.refusal(turned, probe.decode(said), frozenset({6000}), answer_any=True)
        check(again, "an answer that would be answered")


def parts(data: bytes) -> None:
    """Datagrams of up to 60 bytes, taken for parts of messages: what is whole is as it was sent."""
    stitcher = Stitcher(most_bytes=4096, most_open=4)
    for at in range(0, min(len(data), 6000), 60):
        part = stitching.decode(data[at : at + 60])
        if part is None:
            continue
        for event in stitcher.take(("10.0.0.1", "239.1.1.1", 5004), part):
            if isinstance(event, Whole):
                again = stitching.split(event.data, part.size + stitching.HEADER.size, 1, 1)
                check(len(again) == event.parts, "another number of parts")
            else:
                listed = sum(last - first + 1 for first, last in event.missing)
                check(listed <= event.absent <= event.parts, "more is missing than there is")
    check(len(list(stitcher.end())) <= 4, "more is kept than may be")


def payloads(data: bytes) -> None:
    """Payloads are told in JSON and come back; what their streams count stays plausible."""
    field = json.loads(json.dumps(payload_field(data)))
    back = b64decode(field["payload_b64"]) if "payload_b64" in field else field["payload"].encode()
    check(back == data, "another payload")
    size = max(data[0] if data else 1, 16)
    statistics = Statistics()
    pieces = [data[at : at + size] for at in range(0, len(data), size)][:64]
    for number, piece in enumerate(pieces):
        mark = stream.recognise(piece)
        check(mark == stream.recognise(piece, len(piece)), "two opinions")
        stream.recognise(piece[: stream.HEAD], len(piece) + 1000)
        mpegts.is_ts(piece, len(piece))
        source = f"10.0.0.{number % 3}"
        where = (source, 4000, "239.1.1.1", 5004)
        statistics.update(Datagram(number, "rx", "a0", 1, *where, 1, 0, len(piece), piece, mark))
    check_counts(statistics, len(pieces))


def check_counts(statistics: Statistics, packets: int) -> None:
    """Hold a summary to what can be."""
    summary = statistics.summary(1.0)
    json.dumps(summary, allow_nan=False)
    json.dumps(statistics.interval(1.0), allow_nan=False)
    check(summary["packets"] == packets, "another number")
    kept = sum(one.packets for one in statistics.streams.values())
    check(kept == packets or statistics.evicted, "streams do not add up")
    for name in ("lost", "duplicates", "reordered"):
        check(statistics.total(name) >= 0, f"negative {name}")


def sequences(data: bytes) -> None:
    """Whatever the numbers: each is counted once, nothing is negative, memory is bounded."""
    wide = bool(data[:1]) and data[0] % 2 == 1
    form = "<Q" if wide else "<H"
    step = struct.calcsize(form)
    usable = data[1 : 1 + (len(data) - 1) // step * step] if data else b""
    tracker = SequenceTracker(64 if wide else 16)
    numbers = [number for (number,) in struct.iter_unpack(form, usable)]
    for number in numbers:
        tracker.update(number)
    told = tracker.unique + tracker.duplicates + tracker.strays
    check(told == len(numbers), "a number is counted twice or not at all")
    check(min(tracker.lost, tracker.reordered, tracker.duplicates, tracker.strays) >= 0, "negative")
    if numbers and not tracker.restarts:
        span = tracker.highest - tracker.first + 1
        check(tracker.unique + tracker.lost == span, "lost and heard are not what was sent")


def decoded(frame: Frame) -> None:
    """Decode a frame, count it and show it in every way."""
    decoder, watch, commentary = Decoder(), Watch(), Commentary()
    for _ in range(2):  # what the first one leaves behind must not upset the second
        packet = decoder.decode(frame, 1)
        watch.update(packet)
        for event in commentary.update(packet):
            check(event.text, "an event without words")
    json.dumps(packet.to_dict(), allow_nan=False)
    json.dumps(watch.summary(), allow_nan=False)
    check(packet.info, "a packet without words")
    for look in LOOKS:
        shown = tail(packet, look)
        check(shown.endswith("\n"), "a line without an end")
        for line in shown.splitlines():
            check(line.expandtabs().isprintable(), f"not printable: {line!r}")


def whole_frames(data: bytes) -> None:
    """A frame of any link type, whole or cut by a snap length."""
    if not data:
        return
    linktype = LINKTYPES[data[0] % len(LINKTYPES)]
    cut = 1000 if data[0] > 127 else 0
    decoded(Frame(f.EPOCH * 10**9, linktype, data[1:], len(data) - 1 + cut))


PORTS = (1900, 5353, 5355, 9875, 5004)
PROTOCOLS = (2, 58, 103, 112, 17, 1, 6, 4, 41, 47, 44, 0)


def messages(data: bytes) -> None:
    """A message of any protocol, in a packet that is as it should be."""
    if len(data) < 2:
        return
    protocol, rest = PROTOCOLS[data[0] % len(PROTOCOLS)], data[2:]
    if protocol == 17:
        port = PORTS[data[1] % len(PORTS)]
        rest = struct.pack("!HHHH", 5353, port, (8 + len(rest)) & 0xFFFF, 0) + rest
    if data[1] > 127:
        packet = f.ip6("fe80::1", "ff02::16", protocol, rest[:65000])
    else:
        packet = f.ip4("10.0.0.1", "224.0.0.22", protocol, rest[:65000])
    decoded(Frame(f.EPOCH * 10**9, 101, packet, len(packet)))


class Told:
    """A kernel that answers every question with the same message."""

    def __init__(self, message: bytes) -> None:
        self.message = message

    def dump(self, kind: int, body: bytes) -> list[netlink.Message]:
        """Answer."""
        return [(kind, self.message)]


NAMES = {1: "lo", 2: "eth0"}


def kernel_messages(data: bytes) -> None:
    """Messages of netlink and of recvmsg: taken apart, or passed over."""
    found = list(netlink.messages(data))
    check(sum(len(one) for _, one in found) <= len(data), "more than there is")
    for _, message in [*found, (0, data)]:
        list(netlink.attributes(message, 16))
        watching.parse([(24, message), (25, message), (58, message), (59, message)])
        trafficcontrol.qdisc(message)
        for parent in trafficcontrol._DIRECTIONS:
            trafficcontrol.filter_(message, parent)
        bridges._database(Told(message), NAMES)  # type: ignore[arg-type]
        if len(message) >= 32:
            linkdetails.details(message)
            list(bridges._queriers(message, NAMES, own=True))
            list(forwarding._vifs(message, NAMES))
            forwarding.entry(message, 4, NAMES)
            forwarding.entry(message, 6, NAMES)
        if len(message) >= 16 + sockets._ANSWER:
            sockets.detail(message)
    with suppress(OSError):  # that is how it tells of a route that forbids a group
        routing.parse_egress(data)
    places = ancillary.places(data)
    check(all(at + size <= len(data) for at, size in places), "data beyond the end")
    check(len(ancillary.split(data)) == len(places), "another number of messages")


def _frame_seeds() -> Sequence[bytes]:
    numbers = {linktype: number for number, linktype in enumerate(LINKTYPES)}
    return [
        bytes([numbers[linktype]]) + frame
        for packet in control.ALL.values()
        for linktype, dressed in control.dressed(packet).items()
        if linktype in numbers
        for frame in dressed
    ]


def _message_seeds() -> Sequence[bytes]:
    found = []
    for packet in control.ALL.values():
        six = packet[0] >> 4 == 6
        start = 40 if six else (packet[0] & 15) * 4
        protocol = packet[6] if six else packet[9]
        if protocol == 0:  # MLD behind hop-by-hop options
            protocol, start = packet[40], start + 8 * (packet[41] + 1)
        if protocol in PROTOCOLS:
            port = int.from_bytes(packet[start + 2 : start + 4], "big")
            place = PORTS.index(port) if port in PORTS else 4
            start += 8 if protocol == 17 else 0
            head = bytes([PROTOCOLS.index(protocol), place + (130 if six else 0)])
            found.append(head + packet[start:])
    return found


def _payload_seeds() -> Sequence[bytes]:
    rtp = b"".join(
        bytes([0x80, 33]) + struct.pack("!HII", number, 900 * number, 7) + bytes(20)
        for number in range(4)
    )
    transport = b"".join(bytes([0x47, 1, pid, 0x10 | pid]) + bytes(184) for pid in range(7))
    numbered = b"".join(probe.encode(probe.Probe(0, 1, 0, 7, n, n), 40) for n in range(4))
    return [bytes([32]) + rtp, bytes([188]) + transport, bytes([40]) + numbered, b"hello\n"]


def _sequence_seeds() -> Sequence[bytes]:
    edges = [0, 1, 2, 5, 3, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, 0, 1 << 32]
    narrow = [65533, 65534, 0, 65535, 1, 40000, 40001, 3, 3]
    return [b"\1" + struct.pack("<10Q", *edges), b"\0" + struct.pack("<9H", *narrow)]


def _kernel_seeds() -> Sequence[bytes]:
    def attribute(kind: int, value: bytes) -> bytes:
        return netlink.attribute(kind, value)

    def message(kind: int, body: bytes) -> bytes:
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body

    group = attribute(7, bytes([239, 1, 1, 1])) + attribute(6, struct.pack("=4I", 1, 2, 3, 4))
    link = attribute(3, b"eth0\0") + attribute(
        18, attribute(1, b"macvlan\0") + attribute(2, bytes(8))
    )
    route = attribute(1, bytes([239, 1, 1, 1])) + attribute(2, bytes([10, 0, 0, 1]))
    route += attribute(3, b"\2\0\0\0") + attribute(9, struct.pack("=HBBi", 8, 0, 1, 2))
    route += attribute(17, bytes(24)) + attribute(23, bytes(8))
    entry = attribute(1, attribute(1, attribute(1, bytes(28))))
    stamp = struct.pack("@Nii", 32, 1, 35) + bytes(16)
    counted = attribute(1, bytes(16)) + attribute(3, bytes(20))
    action = attribute(1, b"gact\0") + attribute(2, attribute(2, bytes(20))) + attribute(4, counted)
    traffic = attribute(1, b"u32\0") + attribute(2, attribute(7, attribute(1, action)))
    return [
        message(58, bytes([2, 0, 0, 0]) + struct.pack("=I", 2) + group),
        message(16, struct.pack("=BxHiII", 0, 1, 2, 1, 0) + link),
        message(24, bytes([128, 32, 32, 0, 0, 0, 0, 0]) + bytes(4) + route),
        message(86, struct.pack("=BxxxI", 7, 2) + entry),
        message(2, struct.pack("=i", -101) + bytes(16)),
        message(36, struct.pack("=BxxxiIII", 0, 2, 0x10000, 0xFFFFFFFF, 0) + attribute(7, counted)),
        message(44, struct.pack("=BxxxiIII", 0, 2, 1, 0xFFFFFFF1, 0xC0000300) + traffic),
        stamp + struct.pack("@Nii", 28, 0, 8) + bytes(16),
    ]  # fmt: skip


TARGETS = {
    "probe": Target(
        probes,
        lambda: [probe.encode(probe.Probe(kind, 1, 0, 7, 9, 11), 40) for kind in range(3)],
        (b"mcst\1\1", b"mcst\1\2", b"mcst\1\0"),
    ),
    "part": Target(
        parts,
        lambda: [b"".join(stitching.split(bytes(48), 60, 7, when)) for when in (1, 2)],
        (b"mcsm\1\0", b"\0\0\0\1", b"\xff\xff\xff\xff"),
    ),
    "payload": Target(payloads, _payload_seeds, (b"\x47", b"\x80\x21", b"\x80\xc8", b"mcst\1\0")),
    "sequence": Target(sequences, _sequence_seeds, (b"\0" * 8, b"\xff" * 8, b"\0" * 7 + b"\x80")),
    "frame": Target(whole_frames, _frame_seeds, (b"\x08\0\x45", b"\x86\xdd\x60", b"\x81\0")),
    "message": Target(messages, _message_seeds, (b"\xc0\x0c", b"\xff\xff", b"\0\0", b"\x21\0\x21")),
    "kernel": Target(kernel_messages, _kernel_seeds, (b"\4\0", b"\x08\0\1\0", b"\xff\xff")),
}

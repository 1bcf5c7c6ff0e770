"""Captured packets to lines in tcpdump's manner, or to JSON."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mcastctl.model.frame import Block, Frame, frames
from mcastctl.model.packet import Packet
from mcastctl.model.records import Notice, Record, Report, Start
from mcastctl.model.run import Run
from mcastctl.output import stream, summaries, text
from mcastctl.output.blocks import BlockText, FlowTexts
from mcastctl.output.escape import escape
from mcastctl.output.sinks import JsonLines, Sink

Decode = Callable[[Frame, int], Packet]

_DIRECTIONS = {"in": "In ", "out": "Out "}
_LINK_FIELDS = ("eth_src", "eth_dst", "vlan", "mpls", "cast", "wlan")


CAPTURING, PRIVILEGE = "capturing", "privilege"
"""Codes of the notices with which a live capture begins."""


class Look(NamedTuple):
    """How much a line shows: the dump ('', 'x', 'X', 'A'), the link header, field detail."""

    dump: str = ""
    link: bool = False
    verbose: int = 0


def where(iface: str, direction: str) -> str:
    """Return 'eth0 In ' as far as it is known."""
    return (f"{escape(iface)} " if iface else "") + _DIRECTIONS.get(direction, "")


def tail(packet: Packet, look: Look) -> str:
    """Return what stands behind the time, with a line feed at the end."""
    link = _link(packet) if look.link else ""
    line = f"{where(packet.iface, packet.direction)}{link}{_speakers(packet)}{escape(packet.info)}"
    lines = [line]
    if look.verbose:
        lines += _details(packet)
    lines += [f"\t{escape(one)}" for one in packet.layers]
    shown = packet.data[packet.network_at :]
    if look.dump == "A":
        lines.append("\t" + shown.decode("ascii", "replace").translate(_DOTS))
    elif look.dump:
        lines += text.dump(shown, ascii_column=look.dump == "X")
    return "\n".join(lines) + "\n"


_DOTS = {code: "." for code in [*range(32), 127, 0xFFFD]}


def _speakers(packet: Packet) -> str:
    if packet.family and packet.src is not None:
        head = "IP6" if packet.family == 6 else "IP"
        sport = "" if packet.sport is None else f".{packet.sport}"
        dport = "" if packet.dport is None else f".{packet.dport}"
        return f"{head} {packet.src}{sport} > {packet.dst}{dport}: "
    if packet.proto == "arp" or packet.src is None or packet.dst is None:
        return "" if packet.info.startswith(packet.proto) else f"{packet.proto} "
    return f"{packet.src} > {packet.dst}: "


def _link(packet: Packet) -> str:
    fields = packet.fields
    parts = [f"{fields.get('eth_src') or '?'} > {fields.get('eth_dst') or fields.get('cast')}"]
    parts += [f"vlan {tag}" for tag in fields.get("vlan", ())]
    parts += [f"mpls {label}" for label in fields.get("mpls", ())]
    return ", ".join([*parts, f"length {packet.length}: "])


def _details(packet: Packet) -> Iterator[str]:
    """Yield the fields, one a line, those of the link left to -e."""
    ttl = [] if packet.ttl is None else [("ttl", packet.ttl)]
    shown = [(key, value) for key, value in packet.fields.items() if key not in _LINK_FIELDS]
    for key, value in [*ttl, *shown]:
        yield from _detail(key, value, 1)


def _detail(key: str, value: Any, depth: int) -> Iterator[str]:
    indent = "\t" * depth
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for number, one in enumerate(value, 1):
            yield from _detail(f"{key} {number}", one, depth)
    elif isinstance(value, dict):
        yield f"{indent}{escape(key)}: " + ", ".join(
            f"{escape(str(name))} {_plain(one)}" for name, one in value.items()
        )
    else:
        yield f"{indent}{escape(key)}: {_plain(value)}"


def _plain(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "{ " + "".join(f"{_plain(one)} " for one in value) + "}"
    return escape(str(value))


class Messages(Sink):
    """What is for people beside packets: where a capture runs, and how it ended."""

    def tell(self, record: Record) -> None:
        """Print one record for people to standard error."""
        if isinstance(record, Report):
            self.out.flush()
            for line in captured(record.fields):
                stream.notice(line)
        elif isinstance(record, Notice) and record.code == CAPTURING:
            if not self.quiet:
                stream.notice(text.notice(record)[0])
        else:
            super().tell(record)


class PacketText(Messages):
    """Lines for people. Blocks come out the cheap way where a line shows no more than it can."""

    def __init__(
        self, decode: Decode, plain: Callable[[int, int], bool], look: Look, *, quiet: int
    ) -> None:
        super().__init__(quiet=quiet, verbose=look.verbose)
        self._look = look
        self._decode = decode
        self._blocks = BlockText(
            FlowTexts(plain),
            lambda frame, number: tail(decode(frame, number), look),
            lambda block: where(block.iface, block.direction),
        )

    def write(self, record: "Record | Run | Block") -> None:
        """Take one record, or a block of frames."""
        if isinstance(record, Block):
            if not self.quiet:
                self.out.write(self._block(record))
        elif isinstance(record, Packet):
            if not self.quiet:
                line = f"{text.clock(record.ts_ns)} {tail(record, self._look)}"
                self.out.write(line.encode(errors="backslashreplace"))
        else:
            super().write(record)

    def _block(self, block: Block) -> bytes:
        if self._look == Look():
            return self._blocks.lines(block)
        lines = [
            f"{text.clock(frame.ts_ns)} {tail(self._decode(frame, number), self._look)}"
            for number, frame in frames(block)
        ]
        return "".join(lines).encode(errors="backslashreplace")


class PacketJson(JsonLines):
    """One JSON object a packet."""

    def __init__(self, *, quiet: int) -> None:
        super().__init__(quiet=quiet)

    def write(self, record: "Record | Run") -> None:
        """Take one record."""
        if isinstance(record, Packet):
            if not self.quiet:
                self.out.write(self._encode(record.to_dict()).encode() + b"\n")
        elif isinstance(record, Start | Notice | Report):
            super().write(record)


def captured(fields: summaries.Fields) -> list[str]:
    """Return the lines that end a capture."""
    if fields["reason"] == "error" and not fields["packets"]:
        return []
    notes = [summaries.counted(fields["packets"], "packet")]
    if fields.get("written") is not None:
        notes.append(f"{fields['written']} written")
    if fields.get("malformed"):
        notes.append(f"{fields['malformed']} malformed")
    if fields.get("streams_evicted"):
        notes.append(f"{fields['streams_evicted']} quiet streams left out to make room")
    if fields.get("forgotten"):
        notes.append(f"{fields['forgotten']} of who was heard forgotten to make room")
    if fields.get("kernel_drops"):
        notes.append(f"{fields['kernel_drops']} dropped by the kernel")
    return [", ".join(notes) + summaries.deaf(fields)]

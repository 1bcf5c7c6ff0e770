"""Targets that read files: captures, whole and cut off anywhere."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import control
import frames as f

from fuzz.target import Target, check
from mcastctl.capture.files import CaptureFile, CaptureFileError, DamagedFile, Input
from mcastctl.capture.pcap import PcapFile, is_pcap
from mcastctl.capture.pcapng import PcapngFile, is_pcapng
from mcastctl.decode.packet import Decoder
from mcastctl.decode.protocols import is_plain
from mcastctl.model.frame import MAX_FRAME, Frame, frames
from mcastctl.output import text
from mcastctl.output.blocks import BlockText, FlowTexts
from mcastctl.output.packets import Look, tail, where


class Memory(Input):
    """An input that hands out bytes in pieces of a size."""

    def __init__(self, data: bytes, size: int) -> None:
        self.name, self.offset, self.pending, self.stopped = "memory", 0, b"", False
        self._rest, self._piece = data, size

    def more(self) -> bool:
        """Hand out one more piece."""
        piece, self._rest = self._rest[: self._piece], self._rest[self._piece :]
        self.pending += piece
        return bool(piece)


def opened(data: bytes, size: int) -> CaptureFile | None:
    """Open what `files.open_file` would; None for what it refuses."""
    if len(data) < 4 or not (is_pcap(data[:4]) or is_pcapng(data[:4])):
        return None
    source = Memory(data, size)
    source.need(4)
    return PcapFile(source) if is_pcap(data[:4]) else PcapngFile(source)


def read(data: bytes, size: int) -> tuple[list[Frame], str]:
    """Return every frame, and what is said of damage."""
    found: list[Frame] = []
    try:
        file = opened(data, size)
        for block in file.blocks() if file else ():
            check(len(block.numbers) == len(block.offsets), "numbers and places differ")
            found += [frame._replace(data=bytes(frame.data)) for _, frame in frames(block)]
    except DamagedFile as error:
        check(0 <= error.offset <= len(data), f"damage at {error.offset} of {len(data)}")
        return found, error.message
    except CaptureFileError as error:
        return found, error.message
    return found, ""


def captures(data: bytes) -> None:
    """Records, then what is damaged; the same in any pieces, and as far as a file that is cut."""
    whole, damage = read(data, 1 << 20)
    check(sum(len(one.data) for one in whole) <= len(data), "more than there is")
    check(all(len(one.data) <= MAX_FRAME for one in whole), "an endless frame")
    check((whole, damage) == read(data, len(data) // 3 + 1), "other pieces, other records")
    cut = len(data) * 2 // 3
    part, _ = read(data[:cut], 1 << 20)
    check(part == whole[: len(part)], "the beginning of the file has other records")
    shown(data)


def shown(data: bytes) -> None:
    """Blocks become the same text the cheap way as frame by frame."""
    thorough = Decoder()

    def slow(frame: Frame, number: int) -> str:
        return tail(thorough.decode(frame, number), Look())

    lines = BlockText(FlowTexts(is_plain), slow, lambda block: where(block.iface, block.direction))
    try:
        file = opened(data, 1 << 20)
        for block in file.blocks() if file else ():
            cheap = lines.lines(block).decode(errors="replace").splitlines()
            check(len(cheap) == len(block.offsets), "not a line for each frame")
            for line, (number, frame) in zip(cheap, frames(block), strict=True):
                check(line.isprintable(), f"not printable: {line!r}")
                said = slow(frame, number).removesuffix("\n").encode(errors="backslashreplace")
                wanted = f"{text.clock(frame.ts_ns)} {said.decode()}"
                check(line == wanted, f"{line!r} is not {wanted!r}")
    except CaptureFileError:
        pass


def _seeds() -> Sequence[bytes]:
    packets = [f.ether(packet) for packet in list(control.ALL.values())[:6]]
    plain = f.ether(f.datagram("10.0.0.1", "239.1.1.1", 4000, 5004, b"hello"))
    made = [
        f.Record(data, f.EPOCH * 10**9 + number * 1_234_567)
        for number, data in enumerate([plain, *packets, plain])
    ]
    found = [f.pcap(made, order=order, nano=nano) for order in "<>" for nano in (False, True)]
    for order in "<>":

        def block(kind: int, body: bytes, order: str = order) -> bytes:
            body += bytes(-len(body) % 4)
            size = struct.pack(f"{order}I", 12 + len(body))
            return struct.pack(f"{order}I", kind) + size + body + size

        section = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
        options = struct.pack(f"{order}HHB3xHH4sHH", 9, 1, 9, 2, 4, b"eth0", 0, 0)
        interface = block(1, struct.pack(f"{order}HHI", 1, 0, 65535) + options)
        parts = [section, interface]
        for record in made:
            high, low = divmod(record.ts_ns, 1 << 32)
            head = struct.pack(f"{order}5I", 0, high, low, len(record.data), len(record.data))
            parts.append(block(6, head + record.data))
        parts.append(block(3, struct.pack(f"{order}I", len(plain)) + plain))
        parts.append(
            block(2, struct.pack(f"{order}HHIIII", 0, 0, 1, 2, len(plain), len(plain)) + plain)
        )
        found.append(b"".join(parts))
    return found  # fmt: skip


TARGETS = {
    "capture": Target(
        captures,
        _seeds,
        (b"\x0a\x0d\x0d\x0a", b"\x4d\x3c\x2b\x1a", b"\1\0\0\0", b"\6\0\0\0", b"\xff\xff\xff\xff"),
        cost_s=0.05,
    )
}

"""MPEG transport stream packets (ISO/IEC 13818-1 section 2.4.3)."""

PACKET = 188
"""Bytes of one transport packet."""
SYNC = 0x47
"""First byte of every packet."""
_NULL_PID = 0x1FFF


def is_ts(payload: bytes, size: int | None = None) -> bool:
    """Tell whether the payload is whole transport packets, each with its sync byte.

    Of a payload cut short, `size` bytes in truth, only what is there is looked at.
    """
    size = len(payload) if size is None else size
    seen = payload[::PACKET]
    return size >= PACKET and size % PACKET == 0 and seen == bytes([SYNC]) * len(seen) != b""


def counters(payload: bytes) -> tuple[tuple[int, int, bool], ...]:
    """Return (pid, continuity counter, discontinuity flag) of each packet that counts.

    Null packets, packets marked damaged and packets without payload do not move the counter.
    `payload` has passed `is_ts`.
    """
    found = []
    for at in range(0, len(payload) - PACKET + 1, PACKET):
        pid = (payload[at + 1] & 0x1F) << 8 | payload[at + 2]
        control = payload[at + 3]
        if pid == _NULL_PID or payload[at + 1] & 0x80 or not control & 0x10:
            continue
        discontinuity = control & 0x20 and payload[at + 4] and payload[at + 5] & 0x80
        found.append((pid, control & 0x0F, bool(discontinuity)))
    return tuple(found)

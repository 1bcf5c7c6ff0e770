"""Payload to mark: our probe, MPEG-TS, RTP, RTCP, or a stream without numbers."""

from mcastctl.decode import mpegts, rtp
from mcastctl.model import probe
from mcastctl.model.mark import MPEGTS, NO_MARK, PROBE, RTCP, RTP, Mark

HEAD = 192
"""Bytes of a payload that are enough to recognise it, but see `undecided`."""
PLAIN_BYTES = bytes(set(range(256)) - {probe.MAGIC[0], mpegts.SYNC} - set(range(0x80, 0xC0)))
"""First bytes that no payload with numbers has."""


def recognise(payload: bytes, size: int | None = None) -> Mark:
    """Return the mark of one payload, of which `size` bytes came. Total on any bytes.

    The header alone decides; whether a plausible RTP header is chance shows only in the
    next one (`model.stats` watches for that).
    """
    size = len(payload) if size is None else size
    header = probe.decode(payload)
    if header is not None:
        return Mark(PROBE, header.stream, header.seq, header.sent_ns)
    if mpegts.is_ts(payload, size):
        return Mark(MPEGTS, counters=mpegts.counters(payload) if size == len(payload) else None)
    found = rtp.decode(payload, size)
    if found is not None:
        rate = rtp.CLOCK_RATES.get(found.payload_type)
        return Mark(RTP, found.ssrc, found.seq, found.timestamp, rate)
    return Mark(RTCP) if rtp.is_rtcp(payload, size) else NO_MARK


def undecided(payload: bytes, mark: Mark) -> bool:
    """Tell whether only whole payloads tell all: transport packets, and the end of padded RTP."""
    return mark.kind == MPEGTS or b"\xa0" <= payload[:1] < b"\xc0"

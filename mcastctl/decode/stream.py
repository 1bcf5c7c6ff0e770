"""Payload to mark: our probe, MPEG-TS, RTP, RTCP, or a stream without numbers."""

from mcastctl.decode import mpegts, rtp
from mcastctl.model import probe
from mcastctl.model.mark import MPEGTS, NO_MARK, PROBE, RTCP, RTP, Mark


def recognise(payload: bytes) -> Mark:
    """Return the mark of one payload. Total on any bytes.

    The header alone decides; whether a plausible RTP header is chance shows only in the
    next one (`model.stats` watches for that).
    """
    header = probe.decode(payload)
    if header is not None:
        return Mark(PROBE, header.stream, header.seq, header.sent_ns)
    if mpegts.is_ts(payload):
        return Mark(MPEGTS, counters=mpegts.counters(payload))
    found = rtp.decode(payload)
    if found is not None:
        rate = rtp.CLOCK_RATES.get(found.payload_type)
        return Mark(RTP, found.ssrc, found.seq, found.timestamp, rate)
    return Mark(RTCP) if rtp.is_rtcp(payload) else NO_MARK

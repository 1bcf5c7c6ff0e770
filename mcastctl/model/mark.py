"""What a payload says of itself: the numbered stream it belongs to, if any."""

from typing import NamedTuple

PROBE, RTP, RTCP, MPEGTS, PLAIN = "probe", "rtp", "rtcp", "mpegts", "plain"
UNNUMBERED = (PLAIN, RTCP)
"""Kinds of which loss cannot be known."""


class Mark(NamedTuple):
    """The place of one datagram in its stream.

    `ident` tells streams on the same addresses apart (probe stream id, RTP SSRC). `seq` is
    the datagram's number, None for kinds without one. `stamp` is the sender's clock: send
    time in ns for probes, RTP timestamp for RTP, where `rate` is its ticks per second if the
    payload type fixes it. `counters` are (pid, continuity counter, discontinuity) of each
    transport packet of MPEG-TS, None when only the beginning of the payload was received.
    """

    kind: str
    ident: int = 0
    seq: int | None = None
    stamp: int = 0
    rate: int | None = None
    counters: tuple[tuple[int, int, bool], ...] | None = ()


NO_MARK = Mark(PLAIN)
"""The mark of a payload that carries no numbers."""

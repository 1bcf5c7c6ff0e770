"""Statistics of everything heard: one entry per stream, bounded, and their totals."""

from collections import OrderedDict

from mcastctl.model.continuity import Continuity
from mcastctl.model.jitter import Jitter, RtpClock
from mcastctl.model.mark import MPEGTS, NO_MARK, PLAIN, PROBE, RTP, Mark
from mcastctl.model.records import Datagram
from mcastctl.model.sequence import DUPLICATE, SequenceTracker

MAX_STREAMS = 4096
"""Streams kept apart; the quietest makes room for a new one and stays in the totals."""

COUNTERS = ("packets", "bytes", "lost", "duplicates", "reordered")
Counters = tuple[int, int, int, int, int]
Flow = tuple[str, int, str, int]
_ZERO: Counters = (0, 0, 0, 0, 0)
_CHANCE = 3000  # a second RTP header further away than this was no RTP (RFC 3550 A.1)


class StreamStats:
    """Counters of one stream: one sender's port to one group and port, one stream id."""

    __slots__ = (
        "_clock",
        "_continuity",
        "_sequence",
        "bytes",
        "dport",
        "dst",
        "first_ns",
        "ident",
        "iface",
        "jitter",
        "kind",
        "last_ns",
        "max_gap_ns",
        "packets",
        "sport",
        "src",
        "ttl",
    )

    def __init__(self, datagram: Datagram, mark: Mark) -> None:
        self.src, self.sport = datagram.src, datagram.sport
        self.dst, self.dport = datagram.dst, datagram.dport
        self.iface, self.ttl = datagram.iface, datagram.ttl
        self.kind, self.ident = mark.kind, mark.ident
        self.packets = self.bytes = self.max_gap_ns = 0
        self.first_ns = self.last_ns = datagram.ts_ns
        self.jitter = Jitter()
        self._sequence = SequenceTracker(16 if mark.kind == RTP else 64)
        self._continuity = Continuity()
        self._clock = RtpClock(mark.rate)

    def update(self, datagram: Datagram, mark: Mark) -> None:
        """Account for one datagram of this stream."""
        self.packets += 1
        self.bytes += datagram.length
        gap = datagram.ts_ns - self.last_ns
        self.max_gap_ns = max(gap, self.max_gap_ns)
        self.last_ns = datagram.ts_ns
        self.ttl = datagram.ttl
        if mark.seq is None:
            self._continuity.update(mark.counters)
        elif self._sequence.update(mark.seq) != DUPLICATE:
            self._update_jitter(datagram, mark)

    def _update_jitter(self, datagram: Datagram, mark: Mark) -> None:
        if mark.kind == PROBE:
            self.jitter.update(mark.stamp, datagram.ts_ns)
            return
        sent = self._clock.to_ns(mark.stamp, datagram.ts_ns)
        if sent is not None:
            self.jitter.update(sent, datagram.ts_ns)

    def contradicted_by(self, mark: Mark) -> bool:
        """Tell whether one plausible RTP header was chance: the next does not follow it."""
        if self.kind != RTP or self.packets != 1:
            return False
        step = ((mark.seq or 0) - self._sequence.highest) & 0xFFFF
        far = min(step, 0x10000 - step) > _CHANCE
        return mark.kind != RTP or mark.ident != self.ident or far

    def forget_numbers(self) -> None:
        """Go on as a stream without numbers."""
        self.kind, self.ident = PLAIN, 0
        self._sequence = SequenceTracker()

    def absorb(self, other: "StreamStats") -> None:
        """Take over the counts of a stream without numbers that came after this one."""
        self.packets += other.packets
        self.bytes += other.bytes
        self.max_gap_ns = max(self.max_gap_ns, other.max_gap_ns, other.first_ns - self.last_ns)
        self.last_ns, self.ttl = other.last_ns, other.ttl

    @property
    def numbered(self) -> bool:
        """Whether loss can be known."""
        return self.kind != PLAIN

    @property
    def lost(self) -> int:
        """Datagrams missing (transport packets for MPEG-TS)."""
        return self._sequence.lost + self._continuity.lost

    @property
    def duplicates(self) -> int:
        """Datagrams (transport packets for MPEG-TS) that came again."""
        return self._sequence.duplicates + self._continuity.duplicates

    @property
    def reordered(self) -> int:
        """Datagrams that came after a higher number."""
        return self._sequence.reordered

    @property
    def loss_percent(self) -> float:
        """Lost of all that must have been sent since the first one heard, in percent."""
        heard = self._continuity.unique if self.kind == MPEGTS else self._sequence.unique
        return 100 * self.lost / (heard + self.lost) if self.lost else 0.0

    def counters(self) -> Counters:
        """Return the values of COUNTERS."""
        return (self.packets, self.bytes, self.lost, self.duplicates, self.reordered)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form (an element of `streams`)."""
        sequence = self._sequence if self.kind in (PROBE, RTP) else None
        elapsed = (self.last_ns - self.first_ns) / 1e9
        return {
            "src": self.src,
            "sport": self.sport,
            "dst": self.dst,
            "dport": self.dport,
            "iface": self.iface,
            "kind": self.kind,
            "stream": f"{self.ident:x}" if sequence else None,
            "packets": self.packets,
            "bytes": self.bytes,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "reordered": self.reordered,
            "restarts": self._sequence.restarts,
            "jitter_ms": round(self.jitter.ns / 1e6, 6),
            "max_gap_ms": round(self.max_gap_ns / 1e6, 6),
            "first_seq": sequence.first if sequence and sequence.unique else None,
            "last_seq": sequence.highest if sequence and sequence.unique else None,
            "ttl": self.ttl,
            "packets_per_s": round((self.packets - 1) / elapsed, 3) if elapsed > 0 else 0.0,
        }


class Statistics:
    """All streams heard in one run."""

    def __init__(self, *, assume_rtp: bool = False) -> None:
        self.streams: OrderedDict[tuple[Flow, str, int], StreamStats] = OrderedDict()
        self.packets = self.bytes = self.evicted = 0
        self._evicted_counters = (0, 0, 0)
        self._verdicts: dict[Flow, StreamStats | str] = {}
        self._assume_rtp = assume_rtp
        self._reported: dict[StreamStats, Counters] = {}
        self._unreported = _ZERO  # of streams that made room since the last interval

    def update(self, datagram: Datagram) -> Mark:
        """Account for one datagram; return its mark as far as the stream so far bears it out."""
        self.packets += 1
        self.bytes += datagram.length
        flow = (datagram.src, datagram.sport, datagram.dst, datagram.dport)
        mark = self._settle(flow, datagram.mark)
        key = (flow, mark.kind, mark.ident)
        stream = self.streams.get(key)
        if stream is None:
            stream = self.streams[key] = StreamStats(datagram, mark)
            if mark.kind == RTP and flow not in self._verdicts and not self._assume_rtp:
                self._verdicts[flow] = stream
            self._bound()
        else:
            self.streams.move_to_end(key)
        stream.update(datagram, mark)
        return mark

    def _settle(self, flow: Flow, mark: Mark) -> Mark:
        """Take an RTP header that the flow contradicts for chance: any bytes can look like one."""
        verdict = self._verdicts.get(flow)
        if isinstance(verdict, StreamStats) and mark.kind != PROBE:
            chance = verdict.contradicted_by(mark)
            self._verdicts[flow] = PLAIN if chance else RTP
            if chance:
                del self.streams[(flow, RTP, verdict.ident)]
                verdict.forget_numbers()
                self._rejoin((flow, PLAIN, 0), verdict)
        if mark.kind == RTP and self._verdicts.get(flow) == PLAIN:
            return NO_MARK
        return mark

    def _rejoin(self, key: tuple[Flow, str, int], chance: StreamStats) -> None:
        """Put a stream that turned out to have no numbers where its flow's others are."""
        earlier = self.streams.setdefault(key, chance)
        if earlier is not chance:
            earlier.absorb(chance)
            told = _sum(self._reported.get(earlier, _ZERO), self._reported.pop(chance, _ZERO))
            self._reported[earlier] = told

    def _bound(self) -> None:
        while len(self.streams) > MAX_STREAMS:
            (flow, _, _), gone = self.streams.popitem(last=False)
            self.evicted += 1
            self._verdicts.pop(flow, None)
            moved = _difference(gone.counters(), self._reported.pop(gone, _ZERO))
            self._unreported = _sum(self._unreported, moved)
            lost, duplicates, reordered = self._evicted_counters
            self._evicted_counters = (
                lost + gone.lost,
                duplicates + gone.duplicates,
                reordered + gone.reordered,
            )

    def total(self, name: str) -> int:
        """Return the sum of `lost`, `duplicates` or `reordered` over all streams."""
        place = ("lost", "duplicates", "reordered").index(name)
        kept: int = sum(getattr(stream, name) for stream in self.streams.values())
        return kept + self._evicted_counters[place]

    @property
    def numbered(self) -> bool:
        """Whether any stream lets loss be known."""
        return any(stream.numbered for stream in self.streams.values())

    @property
    def timed(self) -> bool:
        """Whether any stream lets jitter be known."""
        return any(stream.kind in (PROBE, RTP) for stream in self.streams.values())

    @property
    def jitter_ns(self) -> float:
        """The worst jitter of any stream."""
        return max((stream.jitter.ns for stream in self.streams.values()), default=0.0)

    def summary(self, elapsed_s: float) -> dict[str, object]:
        """Return the totals and streams of the whole run."""
        return {
            **_totals(self.packets, self.bytes, elapsed_s),
            "lost": self.total("lost"),
            "duplicates": self.total("duplicates"),
            "reordered": self.total("reordered"),
            "streams_evicted": self.evicted,
            "streams": [stream.to_dict() for stream in self.streams.values()],
        }

    def interval(self, elapsed_s: float) -> dict[str, object]:
        """Return what was counted since the last call, with the streams that moved."""
        rows = []
        sums, self._unreported = self._unreported, _ZERO
        for stream in self.streams.values():
            now = stream.counters()
            moved = _difference(now, self._reported.get(stream, _ZERO))
            self._reported[stream] = now
            sums = _sum(sums, moved)
            if any(moved):
                rows.append(stream.to_dict() | dict(zip(COUNTERS, moved, strict=True)))
        packets, size, lost, duplicates, reordered = sums
        return {
            **_totals(packets, size, elapsed_s),
            "lost": lost,
            "duplicates": duplicates,
            "reordered": reordered,
            "streams": rows,
        }


def _sum(a: Counters, b: Counters) -> Counters:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4])


def _difference(a: Counters, b: Counters) -> Counters:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4])


def _totals(packets: int, size: int, elapsed_s: float) -> dict[str, object]:
    span = elapsed_s if elapsed_s > 0 else 1.0
    return {
        "packets": packets,
        "bytes": size,
        "elapsed_s": round(elapsed_s, 6),
        "packets_per_s": round(packets / span, 3),
        "bits_per_s": round(8 * size / span, 3),
    }

"""Statistics of one stream: one sender's port to one group and port, one stream id."""

from mcastctl.model.continuity import Continuity
from mcastctl.model.jitter import MEMORY, Jitter, RtpClock
from mcastctl.model.mark import MPEGTS, PLAIN, PROBE, RTP, UNNUMBERED, Mark
from mcastctl.model.records import Datagram
from mcastctl.model.room import Room
from mcastctl.model.run import Run
from mcastctl.model.sequence import DUPLICATE, SequenceTracker

COUNTERS = ("packets", "bytes", "lost", "duplicates", "reordered")
Counters = tuple[int, int, int, int, int]
_CHANCE = 3000  # a second RTP header further away than this was no RTP (RFC 3550 A.1)


class StreamStats:
    """Counters of one stream; `rank` is for who decides which streams to keep."""

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
        "rank",
        "sport",
        "src",
        "ttl",
    )

    def __init__(self, datagram: Datagram, mark: Mark, room: Room | None = None) -> None:
        self.rank = 1
        self.src, self.sport = datagram.src, datagram.sport
        self.dst, self.dport = datagram.dst, datagram.dport
        self.iface, self.ttl = datagram.iface, datagram.ttl
        self.kind, self.ident = mark.kind, mark.ident
        self.packets = self.bytes = self.max_gap_ns = 0
        self.first_ns = self.last_ns = datagram.ts_ns
        self.jitter = Jitter()
        self._sequence = SequenceTracker(16 if mark.kind == RTP else 64, room)
        self._continuity = Continuity(room)
        self._clock = RtpClock(mark.rate)

    def update(self, datagram: Datagram, mark: Mark) -> None:
        """Account for one datagram of this stream."""
        self.packets += 1
        self.bytes += datagram.length
        gap = datagram.ts_ns - self.last_ns
        self.max_gap_ns = max(gap, self.max_gap_ns)
        self.last_ns = datagram.ts_ns
        if datagram.ttl is not None:
            self.ttl = datagram.ttl
        if mark.seq is None:
            self._continuity.update(mark.counters)
        elif self._sequence.update(mark.seq) != DUPLICATE:
            self._update_jitter(datagram, mark)

    def _update_jitter(self, datagram: Datagram, mark: Mark) -> None:
        if mark.kind == PROBE:
            self.jitter.update_burst(mark.stamp, datagram.ts_ns)
            return
        sent = self._clock.to_ns(mark.stamp, datagram.ts_ns)
        if sent is not None:
            self.jitter.update(sent, datagram.ts_ns)

    def continued_by(self, run: Run) -> bool:
        """Tell whether a run of this stream goes on where it is now."""
        seq = run.first.mark.seq
        return self.kind == PLAIN if seq is None else self._sequence.continues(seq)

    def extend(self, run: Run) -> None:
        """Account for all datagrams of a run that continues this stream."""
        times, base = run.times_ns, run.base_ns
        self.packets += run.number
        self.bytes += run.number * run.first.length
        self.max_gap_ns = max(self.max_gap_ns, base + times[0] - self.last_ns)
        self.max_gap_ns = run.widest_gap_ns(self.max_gap_ns)
        self.last_ns = base + times[-1]
        if run.first.ttl is not None:
            self.ttl = run.first.ttl
        if run.first.mark.seq is None:
            return
        self._sequence.extend(run.number)
        if self.kind == PROBE:
            self.jitter.extend(run.stamps, base, times)
            return
        tail = max(run.number - MEMORY, 0)
        for stamp, time in zip(run.stamps[tail:], times[tail:], strict=True):
            sent = self._clock.to_ns(stamp, base + time)
            if sent is not None:
                self.jitter.update(sent, base + time)

    def followed_by(self, mark: Mark) -> bool:
        """Tell whether an RTP header of the same source comes near enough after this one."""
        step = ((mark.seq or 0) - self._sequence.highest) & 0xFFFF
        return min(step, 0x10000 - step) <= _CHANCE

    def forget_numbers(self) -> None:
        """Go on as a stream without numbers."""
        self.kind, self.ident = PLAIN, 0
        self.release()
        self._sequence = SequenceTracker()

    def release(self) -> None:
        """Give back what is remembered of numbers; what was counted stays."""
        self._sequence.release()
        self._continuity.release()

    def absorb(self, other: "StreamStats") -> None:
        """Take over the counts of a stream without numbers that came after this one."""
        self.packets += other.packets
        self.bytes += other.bytes
        self.max_gap_ns = max(self.max_gap_ns, other.max_gap_ns, other.first_ns - self.last_ns)
        self.last_ns, self.ttl = other.last_ns, other.ttl

    @property
    def numbered(self) -> bool:
        """Whether loss can be known."""
        # One header that looks like RTP proves nothing yet.
        return self.kind not in UNNUMBERED and not (self.kind == RTP and self.packets < 2)

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
        # Between the first and the last lies one datagram less than came.
        per_s = (self.packets - 1) / elapsed if elapsed > 0 else 0.0
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
            "loss_percent": round(self.loss_percent, 4),
            "restarts": self._sequence.restarts,
            "jitter_ms": round(self.jitter.ns / 1e6, 6),
            "max_gap_ms": round(self.max_gap_ns / 1e6, 6),
            "first_seq": sequence.first if sequence and sequence.unique else None,
            "last_seq": sequence.highest if sequence and sequence.unique else None,
            "ttl": self.ttl,
            "packets_per_s": round(per_s, 3),
            "bits_per_s": round(8 * self.bytes / self.packets * per_s, 3) if per_s else 0.0,
        }

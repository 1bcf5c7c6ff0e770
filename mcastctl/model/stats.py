"""Statistics of everything heard: one entry per stream, bounded, and their totals."""

from collections import OrderedDict

from mcastctl.model.mark import NO_MARK, PLAIN, PROBE, RTCP, RTP, Mark
from mcastctl.model.records import Datagram
from mcastctl.model.room import Room
from mcastctl.model.run import Heard, Run
from mcastctl.model.stream import COUNTERS, Counters, StreamStats

MAX_STREAMS = 4096
"""Streams kept apart; the quietest makes room for a new one and stays in the totals."""

ESTABLISHED = 5
"""Rank of a stream that was heard 16 times or more; with twice as many datagrams one rises by one.
Ever new sources, mostly forged, make room for each other, not those heard more often for them."""
FEW = MAX_STREAMS // 8
"""Streams of each lower rank that are left alone."""
PLACES = 32_768
"""Open gaps and PIDs remembered of all streams together, beside the few that each may have."""

MAX_SOURCES = 8
"""RTP sources on one flow that may still be waiting for their second header."""

Flow = tuple[str, int, str, int, int]
"""Source, its port, group, its port, and the place where it is heard."""
Key = tuple[Flow, str, int]
_ZERO: Counters = (0, 0, 0, 0, 0)


class Statistics:
    """All streams heard in one run; `rtp` are the (group, port) known to carry RTP.

    The same datagram heard in two places (interfaces, by any number the caller keeps for each) is
    no duplicate, and no place makes up for what another loses.
    """

    def __init__(self, *, rtp: frozenset[tuple[str, int]] = frozenset()) -> None:
        self.streams: OrderedDict[Key, StreamStats] = OrderedDict()
        self._ranks: list[OrderedDict[Key, None]] = [OrderedDict() for _ in range(ESTABLISHED)]
        self._room = Room(PLACES)
        self.packets = self.bytes = self.evicted = self._interval_packets = 0
        self._evicted_counters = (0, 0, 0)
        self._verdicts: dict[Flow, list[StreamStats] | str] = {}
        self._rtp = rtp
        self._reported: dict[StreamStats, Counters] = {}
        self._unreported = _ZERO  # of streams that made room since the last interval

    def update(self, datagram: Datagram, place: int = 0) -> Mark:
        """Account for one datagram; return its mark as far as the stream so far bears it out."""
        self.packets += 1
        self.bytes += datagram.length
        flow = (datagram.src, datagram.sport, datagram.dst, datagram.dport, place)
        mark = self._settle(flow, datagram.mark)
        key = (flow, mark.kind, mark.ident)
        stream = self.streams.get(key)
        if stream is None:
            stream = self.streams[key] = StreamStats(datagram, mark, self._room)
            self._ranks[stream.rank][key] = None
            if mark.kind == RTP and flow[2:4] not in self._rtp:
                verdict = self._verdicts.setdefault(flow, [])
                if isinstance(verdict, list):
                    verdict.append(stream)
            if len(self.streams) > MAX_STREAMS:
                self.evict()
        else:
            self._refresh(key, stream)
        stream.update(datagram, mark)
        return mark

    def _refresh(self, key: Key, stream: StreamStats) -> None:
        """Note that a stream is heard again."""
        self.streams.move_to_end(key)
        if stream.rank < ESTABLISHED:
            rank = min((stream.packets + 1).bit_length(), ESTABLISHED)
            del self._ranks[stream.rank][key]
            stream.rank = rank
            if rank < ESTABLISHED:
                self._ranks[rank][key] = None

    def rename(self, before: str, now: str) -> None:
        """Call an interface by a new name."""
        for stream in self.streams.values():
            if stream.iface == before:
                stream.iface = now

    def account(self, heard: Heard, place: int = 0) -> list[Heard]:
        """Account for a datagram or a run; return it as it turned out, in pieces if need be."""
        if isinstance(heard, Datagram):
            mark = self.update(heard, place)
            return [heard if mark is heard.mark else heard._replace(mark=mark)]
        if self._extend(heard, place):
            return [heard]
        found = self.account(heard.at(0), place)  # settles what stream it is, and any gap before it
        if heard.number == 1:
            return found
        rest = heard.after(1)
        if self._extend(rest, place):
            return [*found, rest]
        pieces = (piece for one in rest.datagrams() for piece in self.account(one, place))
        return [*found, *pieces]

    def _extend(self, run: Run, place: int) -> bool:
        """Account for a run if it only goes on with a stream known well; else do nothing."""
        first = run.first
        flow = (first.src, first.sport, first.dst, first.dport, place)
        key = (flow, first.mark.kind, first.mark.ident)
        stream = self.streams.get(key)
        if stream is None or isinstance(self._verdicts.get(flow), list):
            return False
        if first.mark.kind == RTP and not (
            self._verdicts.get(flow) == RTP or flow[2:4] in self._rtp
        ):
            return False
        if not stream.continued_by(run):
            return False
        self.packets += run.number
        self.bytes += run.number * first.length
        self._refresh(key, stream)
        stream.extend(run)
        return True

    def _settle(self, flow: Flow, mark: Mark) -> Mark:
        """Take RTP headers that the flow contradicts for chance: any bytes can look like one.

        They are believed once a source's next header follows its first; several sources may
        share a port. What is no RTP, or ever new sources, speaks against them.
        """
        if mark.kind in (PROBE, RTCP) or flow[2:4] in self._rtp:
            return mark
        verdict = self._verdicts.get(flow)
        if isinstance(verdict, list):
            same = [one for one in verdict if mark.kind == RTP and one.ident == mark.ident]
            if mark.kind == RTP and not same and len(verdict) < MAX_SOURCES:
                return mark
            believed = bool(same) and same[0].followed_by(mark)
            self._verdicts[flow] = RTP if believed else PLAIN
            for one in () if believed else verdict:
                if self.streams.pop((flow, RTP, one.ident), None) and one.rank < ESTABLISHED:
                    del self._ranks[one.rank][flow, RTP, one.ident]
                one.forget_numbers()
                self._rejoin((flow, PLAIN, 0), one)
        return NO_MARK if mark.kind == RTP and self._verdicts.get(flow) == PLAIN else mark

    def _rejoin(self, key: Key, chance: StreamStats) -> None:
        """Put a stream that turned out to have no numbers where its flow's others are."""
        earlier = self.streams.setdefault(key, chance)
        if earlier is chance:
            if chance.rank < ESTABLISHED:
                self._ranks[chance.rank][key] = None
        else:
            earlier.absorb(chance)
            told = _sum(self._reported.get(earlier, _ZERO), self._reported.pop(chance, _ZERO))
            self._reported[earlier] = told

    def evict(self) -> None:
        """Let the quietest stream go; what it counted stays in the totals."""
        many = next((one for one in self._ranks if len(one) > FEW), self.streams)
        key = next(iter(many))
        gone = self.streams.pop(key)
        if gone.rank < ESTABLISHED:
            del self._ranks[gone.rank][key]
        gone.release()
        self.evicted += 1
        self._verdicts.pop(key[0], None)
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
            **totals(self.packets, self.bytes, elapsed_s),
            "lost": self.total("lost"),
            "duplicates": self.total("duplicates"),
            "reordered": self.total("reordered"),
            "streams_evicted": self.evicted,
            "streams": [stream.to_dict() for stream in self.streams.values()],
        }

    @property
    def moved(self) -> bool:
        """Whether anything was heard since the last interval."""
        return self.packets != self._interval_packets

    def interval(self, elapsed_s: float) -> dict[str, object]:
        """Return what was counted since the last call, with the streams that moved."""
        rows = []
        self._interval_packets = self.packets
        sums, self._unreported = self._unreported, _ZERO
        for stream in self.streams.values():
            now = stream.counters()
            moved = _difference(now, self._reported.get(stream, _ZERO))
            self._reported[stream] = now
            sums = _sum(sums, moved)
            if any(moved):
                pace = round(moved[0] / elapsed_s, 3) if elapsed_s > 0 else 0.0
                row = dict(zip(COUNTERS, moved, strict=True))
                size = round(8 * moved[1] / elapsed_s, 3) if elapsed_s > 0 else 0.0
                rates = {"packets_per_s": pace, "bits_per_s": size}
                rows.append(stream.to_dict() | row | rates)
        packets, size, lost, duplicates, reordered = sums
        return {
            **totals(packets, size, elapsed_s),
            "lost": lost,
            "duplicates": duplicates,
            "reordered": reordered,
            "streams": rows,
        }


def _sum(a: Counters, b: Counters) -> Counters:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4])


def _difference(a: Counters, b: Counters) -> Counters:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4])


def totals(packets: int, size: int, elapsed_s: float) -> dict[str, object]:
    """Return packets, bytes, time and the rates they make; sizes in bytes, rates a second."""
    span = elapsed_s if elapsed_s > 0 else 1.0
    return {
        "packets": packets,
        "bytes": size,
        "elapsed_s": round(elapsed_s, 6),
        "packets_per_s": round(packets / span, 3),
        "bits_per_s": round(8 * size / span, 3),
    }

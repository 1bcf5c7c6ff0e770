"""MPEG-TS continuity counters to counts (ISO/IEC 13818-1 section 2.4.3.3)."""

_MAX_PIDS = 256


class Continuity:
    """Counters of the PIDs of one stream; `lost` counts missing transport packets.

    The counter has four bits: a gap shows as its size modulo 16, and packets out of order as a
    loss of up to 15.
    """

    __slots__ = ("_last", "duplicates", "lost", "unique")

    def __init__(self) -> None:
        self.unique = 0
        self.lost = 0
        self.duplicates = 0
        self._last: dict[int, int] = {}

    def update(self, counters: tuple[tuple[int, int, bool], ...] | None) -> None:
        """Account for the (pid, counter, discontinuity) triples of one datagram.

        After one of which they are not known (None) counting begins anew.
        """
        if counters is None:
            self._last.clear()
            return
        for pid, counter, discontinuity in counters:
            last = self._last.get(pid)
            if last is None and len(self._last) >= _MAX_PIDS:
                continue
            self._last[pid] = counter
            if counter == last and not discontinuity:
                self.duplicates += 1  # the standard allows sending a packet twice
                continue
            self.unique += 1
            if last is not None and not discontinuity:
                self.lost += (counter - last - 1) & 0x0F

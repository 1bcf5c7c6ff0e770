"""MPEG-TS continuity counters to counts (ISO/IEC 13818-1 section 2.4.3.3)."""

from mcastctl.model.room import OWN, Room

MAX_PIDS = 256
"""PIDs of a stream whose counters are watched; those of a stream without room are not."""


class Continuity:
    """Counters of the PIDs of one stream; `lost` counts missing transport packets.

    The counter has four bits: a gap shows as its size modulo 16, and packets out of order as a
    loss of up to 15. A datagram that comes twice in a row, as behind a mirror port, is known by
    its counters and no loss.
    """

    __slots__ = ("_before", "_granted", "_last", "_room", "duplicates", "lost", "unique")

    def __init__(self, room: Room | None = None) -> None:
        self._room = Room(MAX_PIDS) if room is None else room
        self._granted = OWN
        self.unique = 0
        self.lost = 0
        self.duplicates = 0
        self._last: dict[int, int] = {}
        self._before = 0  # hash of the counters of the last datagram, 0 for none

    def update(self, counters: tuple[tuple[int, int, bool], ...] | None) -> None:
        """Account for the (pid, counter, discontinuity) triples of one datagram.

        After one of which they are not known (None) counting begins anew.
        """
        if counters is None:
            self._last.clear()
            self._before = 0
            return
        if len(counters) > 1 and self._again(counters):
            self.duplicates += len(counters)
            return
        for pid, counter, discontinuity in counters:
            last = self._last.get(pid)
            if last is None and len(self._last) >= self._granted and not self._grow():
                continue
            self._last[pid] = counter
            if counter == last and not discontinuity:
                self.duplicates += 1  # the standard allows sending a packet twice
                continue
            self.unique += 1
            if last is not None and not discontinuity:
                self.lost += (counter - last - 1) & 0x0F

    def _again(self, counters: tuple[tuple[int, int, bool], ...]) -> bool:
        """Tell whether these are those of the datagram before and do not go on from there."""
        before, self._before = self._before, hash(counters)
        pid, counter, _ = counters[0]
        return before == self._before and self._last.get(pid) != (counter - 1) & 0x0F

    def _grow(self) -> bool:
        """Get places for more PIDs."""
        if self._granted >= MAX_PIDS or not self._room.take():
            return False
        self._granted += OWN
        return True

    def release(self) -> None:
        """Forget the counters of all PIDs."""
        self._room.left += self._granted - OWN
        self._granted = OWN
        self._last.clear()
        self._before = 0

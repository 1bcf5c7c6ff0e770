"""What a busy receiver hears, hundreds of datagrams in one call: how many at once, how closely.

Fewer at first, more once no new stream turns up; with all that the kernel can tell of each, or
only what is cheap; super-packets whole where they come. `batch` makes runs of what a call brought.
"""

import select
import time
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from mcastctl.decode.stream import HEAD
from mcastctl.model.address import family
from mcastctl.model.run import Heard, Run, without_last
from mcastctl.net import ancillary, sockopts
from mcastctl.net.batch import Batch
from mcastctl.net.messages import Inbox
from mcastctl.net.sockopts import Socket

if TYPE_CHECKING:
    from mcastctl.net.receiver import Subscription

HEADS = 1024
"""Datagrams taken at once when their beginnings are enough: more leave the processor's cache."""
_DETAILED = 64
"""So many of them when each brings all that the kernel can tell, as the first ones do."""
_WIDER = 4
"""How many times more come with the next call while there are more: among them may be the first
of a stream whose beginnings are not enough."""
_CALM = 8
"""Calls without a new flow after which none is expected."""
WHOLE = 256
"""Datagrams taken at once with all of their payload."""
_FEW, _WHOLE_BYTES = 4, 131_072
"""So many of them at first and at the least, and then no more than such payload: each slot takes
real memory as far as it was filled once, and what is shown of it several times that."""
_LOOSE = 256
"""Pieces after which what was heard is handed on: told one by one, datagrams take memory too."""
_WHOLE_SIZE = 65536 + 320
"""Slot of a whole payload; no multiple of a page, lest all slots meet in the same cache lines."""
_DETAIL_NS = 1_000_000_000
_NAP_RATE = 20_000
"""Datagrams per second from which on letting some gather beats waking up for each."""
_NAP_S = 0.004
_PAUSE_NS = 50_000_000
"""After so long without a look the burst just read says nothing of the rate to come."""
_BOOKKEEPING = 1024
"""Bytes a small datagram takes of a socket buffer beside its payload; more with some drivers,
for which the kernel's doubling of the buffer makes room."""
_SEGMENTS = 128
"""Datagrams of a super-packet at the most (UDP_MAX_SEGMENTS of <linux/udp.h>)."""
_LOOKED_AT, _AT_ONCE = 64, 16
"""So many arrivals are looked at, and at so few different times they came if the kernel has cut
super-packets: those datagrams share one time stamp."""
_TRIAL = 4096
"""Datagrams without a super-packet among them after which none are expected any more."""

_inboxes: "WeakValueDictionary[bool, Inbox]" = WeakValueDictionary()


def _inbox(whole: bool) -> Inbox:
    """Return the one buffer of its kind, which nothing of a read stays in, while anybody has it."""
    found = _inboxes.get(whole)
    if found is None:
        found = Inbox(WHOLE, _WHOLE_SIZE) if whole else Inbox(HEADS, HEAD)
        _inboxes[whole] = found
    return found


class Intake:
    """Batches from one socket; `whole` asks for payloads, not only their beginnings.

    Payloads are received in full until nothing new comes: what appears later is known by its
    beginning first. Without them TTL and traffic class are looked at once a second where much
    comes; interface and destination too where the kernel lets nothing else in (`sole`).
    `skipped` counts datagrams that were not meant for the subscription; `undecided` tells that
    there were some of which the beginning does not tell all; `supers` that super-packets, which
    another namespace or a network card hands over uncut, are taken so: all of their datagrams
    have one arrival time, as they have when the kernel cuts them.
    """

    def __init__(
        self, sock: Socket, subscription: "Subscription", *, whole: bool, sole: bool = False
    ) -> None:
        self._batch = Batch(subscription, whole=whole)
        self._sock = sock
        self._sole = sole
        self._version = family(subscription.group)
        self._take(True)  # until it is known what comes
        self._calm = self._detail_ns = self._looked_ns = self._gathered = 0
        self._full = self._busy = False
        self._detailed = True
        self._gathered_ns = time.monotonic_ns()
        self.supers = self._tried = False
        self._trial: int | None = None  # datagrams left of it

    def _take(self, whole: bool) -> None:
        """Make ready to take whole payloads or only beginnings from now on."""
        self._inbox = _inbox(whole)
        self._roomy = whole
        self._room = _FEW if whole else _DETAILED
        self._batch.take(self._inbox)

    @property
    def whole(self) -> bool:
        """Whether payloads are handed on, not only their beginnings."""
        return self._batch.whole

    @property
    def skipped(self) -> int:
        """How many datagrams were not meant for the subscription."""
        return self._batch.skipped

    @property
    def undecided(self) -> bool:
        """Whether there were datagrams of which the beginning does not tell all."""
        return self._batch.undecided

    def rename(self, name: str) -> None:
        """Call the interface by a new name from now on."""
        self._batch.flows.rename(name)

    def take_whole(self) -> None:
        """Hand on whole payloads from now on."""
        self._batch.whole = True
        self._take(True)

    def read(self, most: int) -> list[Heard]:
        """Return what is there, up to `most` datagrams, in the order of arrival."""
        heard: list[Heard] = []
        before, batch = self._gathered, self._batch
        most = min(most, WHOLE) if batch.whole else most  # what is shown is held several times
        while most > 0:
            self._choose_details()
            asked = min(most, self._room)
            self._calm += 1
            if self.supers:
                asked = min(_FEW, max(most // _SEGMENTS, 1))
            count = self._receive(asked)
            skipped = batch.skipped
            if count:
                batch.note_times(count)
                for one in batch.pieces(count, supers=self.supers):
                    most -= one.number if isinstance(one, Run) else 1
                    last = heard[-1] if heard else None
                    if not (isinstance(one, Run) and isinstance(last, Run) and last.absorb(one)):
                        heard.append(one)
            most -= batch.skipped - skipped
            self._heed_news()
            self._gathered += count
            self._full = count == asked
            if self._trial is not None:
                self._trial -= count
                if self._trial < 0 and not self._full:
                    self._end_trial()
            if not self._full or len(heard) >= _LOOSE or (batch.undecided and not batch.whole):
                break
            if self.supers and most < _SEGMENTS:
                break  # one more may hold more than that; only who asks for few gets a part
            self._widen(count)
            self._look_for_supers(count)
        self._busy = self._gathered - before >= _DETAILED
        return without_last(heard, -most) if most < 0 else heard

    def _heed_news(self) -> None:
        """Look at what is new with all details, and take only beginnings once nothing is."""
        batch = self._batch
        if batch.flows.news:
            batch.flows.news = False
            self._calm = self._detail_ns = 0
        elif self._roomy and self._calm >= _CALM and not (self.whole or self.supers):
            self._take(False)
        if batch.cut:
            batch.cut = False
            self._trial = None

    def _choose_details(self) -> None:
        """Ask for details unless so much comes that they cost more than they tell."""
        now_ns = time.monotonic_ns()
        much = self._full or (self._busy and now_ns - self._looked_ns < _PAUSE_NS)
        self._looked_ns = now_ns
        detailed = self.whole or not much or now_ns >= self._detail_ns
        if detailed:
            self._detail_ns = now_ns + _DETAIL_NS
            self._room = self._room if self._roomy else _DETAILED
        if detailed != self._detailed:
            self._detailed = self._batch.detailed = detailed
            ancillary.request_details(self._sock, self._version, wanted=detailed, where=self._sole)

    def _widen(self, count: int) -> None:
        """Take more in the next call, but not before what this one brought was looked at."""
        if not self._roomy:
            self._room = min(_WIDER * self._room, HEADS) if self._calm < _CALM else HEADS
        else:
            longest = max(self._inbox.lengths[:count])
            self._room = min(max(_WHOLE_BYTES // max(longest, 1), _FEW), WHOLE)

    def _look_for_supers(self, count: int) -> None:
        """Ask for super-packets where the kernel seems to cut them, once.

        To cut them and queue each datagram costs it several times what taking them whole does.
        """
        if self._tried or not self._batch.stamped or count < _LOOKED_AT:
            return
        if len(set(self._batch.times[:_LOOKED_AT])) <= _AT_ONCE:
            self._tried = True
            self.supers = sockopts.set_whole_segments(self._sock, wanted=True)
            if self.supers:
                self._trial = _TRIAL
                self._take(True)

    def _end_trial(self) -> None:
        """Take datagrams as before: no super-packet came, and nothing waits that could be one.

        What was queued until it is off may be one, and its segment size is told to those only who
        ask for it when they read: where anything waits by then, it stays on until the next time.
        """
        sockopts.set_whole_segments(self._sock, wanted=False)
        if self._waiting():
            sockopts.set_whole_segments(self._sock, wanted=True)
            return
        self._trial = None
        self.supers = False
        self._take(self.whole)

    def _waiting(self) -> bool:
        """Tell whether a datagram could be read now."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def _receive(self, most: int) -> int:
        try:
            return self._inbox.receive(self._sock.fileno(), most)
        except BlockingIOError:
            return 0

    def nap_s(self, buffer_size: int) -> float:
        """Return how long to let datagrams gather in the buffer before the next `read`.

        A wake-up costs as much as several datagrams. No nap while more may be waiting, at a low
        rate, after a pause, or for longer than fills a quarter of the buffer.
        """
        if self._full or not self._gathered:
            return 0.0
        now_ns = time.monotonic_ns()
        elapsed_ns = max(now_ns - self._gathered_ns, 1)
        rate = self._gathered * 1e9 / elapsed_ns
        self._gathered, self._gathered_ns = 0, now_ns
        if rate < _NAP_RATE or elapsed_ns > _PAUSE_NS:
            return 0.0
        taken = rate * (self._inbox.lengths[0] + _BOOKKEEPING)
        return min(_NAP_S, buffer_size / 4 / taken)

"""The interfaces of a capture through time: gone, back, up, down; told, and made good.

A packet socket is told that its interface went, and then nothing more: it is deaf for ever unless
it is bound again, which needs no privilege.
"""

import _socket as socket
import time
from collections.abc import Callable, Iterator, Sequence

from mcastctl.model.hearing import (
    GONE,
    LATE,
    AddressNews,
    Deafness,
    Hearing,
    LinkGone,
    LinkState,
    Moment,
    News,
)
from mcastctl.model.limits import Limits
from mcastctl.model.records import Notice
from mcastctl.net import linkwatch, nic
from mcastctl.net.linkwatch import LOOK_S, LinkWatch, moment, state
from mcastctl.net.loop import Loop
from mcastctl.net.nic import Nic


class Presence:
    """What befalls the interfaces `asked` for, name or index or address with what it was found as.

    With none, every interface is meant: then those that are new are told only to `restore`, which
    is called with index before (0 if new) and interface, and says whether it can be heard again.
    """

    def __init__(self, asked: Sequence[tuple[str, Nic]]) -> None:
        self._hearings = {Hearing(*found): text for text, found in asked}
        self._watch = LinkWatch()
        self._deafness = Deafness()
        self._known = set() if asked else {index for index, _ in socket.if_nameindex()}
        self._look_ns = 0.0
        self.changes = 0
        """How often something befell any interface: names, indexes, kinds may be others now."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is news, -1 without one."""
        return self._watch.fileno()

    @property
    def deaf(self) -> bool:
        """Whether any of them cannot be heard now."""
        return any(one.cause for one in self._hearings)

    def alarm_ns(self) -> float | None:
        """Return when `attend` is to be called although there is no news, None for never."""
        gone = any(one.cause == GONE for one in self._hearings)
        return self._look_ns if gone or not self._watch.told else None

    def begin(self) -> Iterator[Notice]:
        """Say what cannot be heard from the beginning."""
        for hearing in self._hearings:
            yield from self._judge(hearing, moment())

    def attend(self, restore: Callable[[int, Nic], bool]) -> Iterator[Notice]:
        """Take in the news, if there is any, and say what it means."""
        now = moment()
        news = self._watch.read()
        if news is None or any(not isinstance(one, AddressNews) for one in news):
            self.changes += 1
        for one in news or ():
            yield from self._learn(one, restore, now)
        if news is None:
            yield from self._doubt(restore, now)
        if news != [] or now.mono_ns >= self._look_ns:
            self._look_ns = now.mono_ns + LOOK_S * 1e9
            for hearing in self._hearings:
                if hearing.cause == GONE:
                    yield from self._return(hearing, restore)

    def _learn(
        self, news: News, restore: Callable[[int, Nic], bool], now: Moment
    ) -> Iterator[Notice]:
        if not self._hearings and isinstance(news, LinkState) and news.ifindex not in self._known:
            self._known.add(news.ifindex)
            restore(0, Nic(news.name, news.ifindex))
        self._known -= {news.ifindex} if isinstance(news, LinkGone) else set()
        for hearing in self._hearings:
            if hearing.ifindex != news.ifindex or hearing.cause == GONE:
                continue
            if isinstance(news, LinkGone):
                yield from self._note(hearing, GONE, now)
            elif not isinstance(news, AddressNews):
                yield from hearing.renamed(news.name, now)
                yield from self._note(hearing, news.cause, now)

    def _doubt(self, restore: Callable[[int, Nic], bool], now: Moment) -> Iterator[Notice]:
        """News was lost: an interface may have been deleted and made again with its old index."""
        if not self._hearings:  # any of them, so each is heard anew
            there = socket.if_nameindex()
            self._known = {index for index, _ in there}
            for index, name in there:
                restore(0, Nic(name, index))
        for hearing in self._hearings:
            one = Nic(hearing.name, hearing.ifindex)
            if linkwatch.state(one) is None or not restore(hearing.ifindex, one):
                yield from self._note(hearing, GONE, now)
            else:
                yield from self._judge(hearing, now)

    def _return(self, hearing: Hearing, restore: Callable[[int, Nic], bool]) -> Iterator[Notice]:
        found = nic.find_again(self._hearings[hearing], hearing.name)
        if found is not None and restore(hearing.ifindex, found):
            hearing.name, hearing.ifindex = found
            yield from self._judge(hearing, moment())

    def _judge(self, hearing: Hearing, now: Moment) -> Iterator[Notice]:
        state = linkwatch.state(Nic(hearing.name, hearing.ifindex))
        yield from self._note(hearing, GONE if state is None else state.cause, now)

    def _note(self, hearing: Hearing, cause: str, now: Moment) -> Iterator[Notice]:
        yield from hearing.note(cause, now)
        self._deafness.note(self.deaf, now)

    def end(self) -> Iterator[Notice]:
        """Say what is deaf still."""
        now = moment()
        for hearing in self._hearings:
            yield from hearing.ended(now)

    def deaf_s(self) -> float:
        """Return how long at least one of them could not be heard, in seconds."""
        return self._deafness.seconds(moment())

    def close(self) -> None:
        """Hear no more of them."""
        self._watch.close()


def appear(names: Sequence[str], loop: Loop, limits: Limits) -> Iterator[Notice]:
    """Wait until there is an interface for each name, and it is up: libpcap opens no other.

    A limit or a signal ends it before.
    """
    missing = {text: Hearing(text, 0) for text in names}
    watch = LinkWatch()
    if watch.told:
        loop.watch(watch.fileno())
    while not limits.reached(time.monotonic_ns()):
        now = moment()
        for text, hearing in list(missing.items()):
            found = nic.find(text, late=True)
            there = state(found) if found.ifindex else None
            cause = LATE if there is None else "" if there.up else there.cause
            yield from hearing.note(cause, now)
            if not cause:
                del missing[text]
        if not missing or loop.stopped_by is not None:
            break
        until_ns = now.mono_ns + LOOK_S * 1e9
        loop.wait(min(until_ns, limits.next_ns() or until_ns))
        watch.read()
    if loop.stopped_by is not None:
        limits.reason = "signal"
    if watch.told:
        loop.unwatch(watch.fileno())
    watch.close()
    for hearing in missing.values():
        yield from hearing.ended(moment())

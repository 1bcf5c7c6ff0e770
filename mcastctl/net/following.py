"""Receivers that outlive their interface: what it loses is joined again when it comes back.

A socket is told nothing when its interface is deleted or moved away: it stays deaf for ever, and
its membership counts on. So the interface is watched, and the socket closed and made anew.
"""

import select
import time
from collections.abc import Callable, Iterator
from typing import Any

from mcastctl.model.errors import SocketError
from mcastctl.model.hearing import (
    ENSLAVED,
    GONE,
    LATE,
    MIN_MTU,
    NO_CARRIER,
    NO_IPV6,
    AddressNews,
    Deafness,
    Hearing,
    LinkGone,
    LinkState,
    Moment,
    News,
    Unheard,
)
from mcastctl.model.records import Membership, Notice
from mcastctl.net import linkwatch, nic, remarks, sockopts
from mcastctl.net.linkwatch import LOOK_S, LinkWatch, moment
from mcastctl.net.loop import Loop
from mcastctl.net.nic import Nic
from mcastctl.net.place import Place
from mcastctl.net.receiver import Receiver, Subscription, open_all

_DRAIN_NS = 200_000_000
"""How long what a lost socket still holds is read; normally nothing more comes into it."""
_IPV6_SIZE = 16
_PATIENCE = 10
"""Looking for interfaces takes at most one part in so many of the time."""
Told = Membership | Notice


class Following:
    """The receivers of a run. `readers` (by descriptor) always holds those that are open.

    Use in this order: `begin`, `attend` whenever `batches` gives a turn without a reader, `end`,
    `close`. `renamed` is called with the old and the new name of an interface.
    """

    def __init__(
        self,
        wanted: list[Subscription],
        open_one: Callable[[Subscription], Receiver],
        readers: dict[int, Any],
        *,
        renamed: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._open = open_one
        self._readers = readers
        self._renamed = renamed
        hearings = {one.nic: Hearing(*one.nic) for one in wanted}
        self._places = [Place(n, one, hearings[one.nic]) for n, one in enumerate(wanted)]
        self._numbers: dict[int, int] = {}
        self._deafness, self._missing = Deafness(), Deafness()
        self._remarked: set[Nic] = set()
        self._drops = self._skipped = 0
        self._look = False
        self._look_ns = 0.0
        self.alarm_ns: float | None = None
        """When `attend` is to be called although there is no news, None for never."""
        self._loop: Loop | None = None
        self._watch: LinkWatch | None = None

    def begin(self, loop: Loop) -> Iterator[Told]:
        """Open every subscription or none, but for those that wait; yield what was joined.

        What its interface has too small an MTU for waits, too.
        """
        self._loop, self._watch = loop, LinkWatch()
        if self._watch.told:
            loop.watch(self._watch.fileno())
        present = [place for place in self._places if place.subscription.nic.ifindex]
        for hearing in {place.hearing for place in present if place.version == 6}:
            state = linkwatch.state(Nic(hearing.name, hearing.ifindex))
            hearing.mtu = 0 if state is None else state.mtu
        there = [place for place in present if not place.held]
        later = len(self._places) - len(there)
        opened = open_all([place.subscription for place in there], self._open, later=later)
        for place, one in zip(there, opened, strict=True):
            self._start(place, one)
        for place in there:
            yield from self._memberships(place, "joined")
        now = moment()
        for hearing in self._hearings():
            if not hearing.ifindex:
                yield from self._note(hearing, LATE, now)
        yield from self._judge({place.hearing for place in present})
        self.alarm_ns = self._next_ns()

    @property
    def receivers(self) -> list[Receiver]:
        """Those that are open now."""
        return [place.receiver for place in self._places if place.receiver is not None]

    def audible(self) -> Subscription | None:
        """Return the first subscription of which something could be heard now, None for none."""
        return next((one.subscription for one in self._places if not one.deaf), None)

    def place_of(self, receiver: Receiver) -> int:
        """Return the number of the place that one of them is for, which outlives it."""
        return self._numbers[receiver.fileno()]

    def without(self, numbers: set[int]) -> list[Subscription]:
        """Return the subscriptions of all places but those with these numbers."""
        return [one.subscription for n, one in enumerate(self._places) if n not in numbers]

    def kernel_drops(self) -> int:
        """Return how many datagrams found a socket buffer full, in closed sockets too."""
        return self._drops + sum(one.kernel_drops() for one in self.receivers)

    @property
    def skipped(self) -> int:
        """How many datagrams were not meant for their subscription."""
        return self._skipped + sum(one.skipped for one in self.receivers)

    def deaf_s(self) -> float:
        """Return how long at least one interface could not be heard, in seconds."""
        return self._deafness.seconds(moment())

    def unheard(self) -> Unheard:
        """Return how long something could not be heard once it had been waited for."""
        still = any(one.cause for one in self._hearings())
        return Unheard(self._missing.seconds(moment()), still)

    def _next_ns(self) -> float | None:
        if any(place.ends_ns is not None for place in self._places):
            return 0
        waits = any(
            place.receiver is None or place.away or place.hearing.cause == NO_IPV6
            for place in self._places
        )
        told = self._watch is not None and self._watch.told
        return self._look_ns if waits or not told else None

    def attend(self) -> Iterator[Told]:
        """Take in the news; close, open and refresh what they ask for; yield what to tell."""
        if self._watch is None:
            return
        now = moment()
        news = self._watch.read()
        if news is None:
            yield from self._doubt(now)
        for one in news or ():
            yield from self._learn(one, now)
        yield from self._finish(now)
        if self._look or now.mono_ns >= self._look_ns:
            self._look = False
            yield from self._return(now)
            spent_ns = time.monotonic_ns() - now.mono_ns
            self._look_ns = time.monotonic_ns() + max(LOOK_S * 1e9, _PATIENCE * spent_ns)
        self.alarm_ns = self._next_ns()

    def _learn(self, news: News, now: Moment) -> Iterator[Told]:
        about = [one for one in self._hearings() if one.ifindex == news.ifindex]
        for hearing in about:
            places = [one for one in self._places if one.hearing is hearing]
            if isinstance(news, LinkGone):
                yield from self._lose(hearing, now)
            elif isinstance(news, AddressNews):
                yield from _address(news, places, now)
                yield from self._readdressed(news, hearing, places, now)
            else:
                yield from self._changed(news, hearing, places, now)
        self._look = self._look or not isinstance(news, LinkGone)

    def _readdressed(
        self, news: AddressNews, hearing: Hearing, places: list[Place], now: Moment
    ) -> Iterator[Told]:
        """Look again: that IPv6 is switched off is told by nothing but its addresses."""
        if len(news.packed) == _IPV6_SIZE and any(place.version == 6 for place in places):
            state = linkwatch.state(Nic(hearing.name, hearing.ifindex))
            if state is not None:
                yield from self._changed(state, hearing, places, now)

    def _changed(
        self, news: LinkState, hearing: Hearing, places: list[Place], now: Moment
    ) -> Iterator[Told]:
        before = hearing.name
        yield from hearing.renamed(news.name, now)
        if hearing.name != before:
            self._renamed(before, hearing.name)
            for place in places:
                place.home = hearing.name if place.home == before else place.home
                place.subscription = place.subscription._replace(nic=Nic(news.name, news.ifindex))
                if place.receiver is not None:
                    place.receiver.rename(hearing.name)
        hearing.mtu = news.mtu
        for place in places:
            if place.held:  # the kernel has forgotten its membership, also if the MTU grows again
                self._dismiss(place)
        if any(place.lacking for place in places):
            return  # not all of it is joined again; it is judged when it is
        before = hearing.cause
        yield from self._assess(news, hearing, now)
        if not hearing.cause and before in (NO_CARRIER, ENSLAVED):
            self._refresh([one for one in places if one.version == 4 or before == ENSLAVED])

    def _assess(self, state: LinkState, hearing: Hearing, now: Moment) -> Iterator[Told]:
        """Say what an interface on which all is joined that can be is deaf to, or cannot do."""
        chosen = Nic(state.name, state.ifindex)
        for remark in remarks.of_interface(chosen) if chosen not in self._remarked else ():
            self._remarked.add(chosen)
            yield remark
        versions = {place.version for place in self._places if place.hearing is hearing}
        without_ipv6 = 6 in versions and nic.without_ipv6(chosen)
        cause = state.cause_for(versions, without_ipv6=without_ipv6)
        yield from self._note(hearing, cause, now, nic.name_of(state.master))

    def _refresh(self, places: list[Place]) -> None:
        """Report memberships again: for IPv4 the kernel does not when a carrier comes back.

        Nor has a port of a bridge heard any query.
        """
        for place in places:
            if place.receiver is not None:
                try:
                    place.receiver.refresh()
                except SocketError:
                    self._dismiss(place)

    def _lose(self, hearing: Hearing, now: Moment) -> Iterator[Told]:
        hearing.ifindex = hearing.mtu = 0
        for place in self._places:
            if place.hearing is hearing:
                self._dismiss(place)
        yield from self._note(hearing, GONE, now)

    def _dismiss(self, place: Place) -> None:
        """Let a receiver be closed once what it holds is read."""
        self._look = True
        if place.receiver is not None and place.ends_ns is None:
            place.ends_ns = time.monotonic_ns() + _DRAIN_NS

    def _doubt(self, now: Moment) -> Iterator[Told]:
        """News was lost: an interface may have been deleted and made again with its old index."""
        text = "news of interfaces was lost: every group is joined anew"
        yield Notice(now.ts_ns, "warning", "news-lost", text)
        for hearing in self._hearings():
            state = linkwatch.state(Nic(hearing.name, hearing.ifindex)) if hearing.ifindex else None
            if hearing.ifindex and state is None:
                yield from self._lose(hearing, now)
            hearing.mtu = 0
        for place in self._places:
            self._dismiss(place)

    def _finish(self, now: Moment) -> Iterator[Told]:
        """Close the receivers that are to be closed and hold nothing more."""
        ending = [place for place in self._places if place.ends_ns is not None]
        if not ending:
            return
        poll = select.poll()
        for place in ending:
            if place.receiver is not None:
                poll.register(place.receiver.fileno(), select.POLLIN)
        full = {descriptor for descriptor, _ in poll.poll(0)}
        for place in ending:
            one = place.receiver
            if one is None or (one.fileno() in full and now.mono_ns < (place.ends_ns or 0)):
                continue
            yield from self._memberships(place, "left")
            self._stop(place)
            self._look = True

    def _return(self, now: Moment) -> Iterator[Told]:
        """Open what waits and can be opened."""
        known: dict[tuple[str, str], Nic | None] = {}
        opened = {one for one in self._hearings() if one.cause == NO_IPV6}
        missed: Place | None = None
        taken = {one.subscription[:3] for one in self.receivers}
        for place in list(self._places):
            if place.ends_ns is not None or (place.receiver is not None and not place.away):
                continue
            subscription, hearing = place.subscription, place.hearing
            key = (subscription.asked, hearing.name if subscription.asked else subscription.group)
            if key not in known:
                known[key] = place.found()
            found = known[key]
            if found is None or not found.ifindex:
                missed = missed or place
                continue
            if place.held and found.ifindex == hearing.ifindex:
                continue
            wanted = subscription._replace(nic=found)
            if place.receiver is not None:
                if found.name == place.home:
                    self._dismiss(place)
            elif wanted[:3] in taken:  # two names of one interface were given
                self._places.remove(place)
                yield from self._without_places(hearing, now)
            else:
                taken.add(wanted[:3])
                yield from self._reopen(place, wanted, now)
                opened.add(place.hearing)
        if missed:
            yield from self._cannot_look(missed, now)
        yield from self._judge(opened)

    def _cannot_look(self, place: Place, now: Moment) -> Iterator[Told]:
        """Say so if no interface would be found for want of a descriptor to ask with."""
        try:
            sockopts.open_udp(place.version).close()
        except SocketError as error:
            yield from self._refused(place, error, now)
        else:
            place.said = ""

    def _refused(self, place: Place, error: SocketError, now: Moment) -> Iterator[Told]:
        if error.message != place.said:
            place.said = error.message
            yield Notice(now.ts_ns, "warning", "not-joined", error.message, error.hint)

    def _reopen(self, place: Place, subscription: Subscription, now: Moment) -> Iterator[Told]:
        found = subscription.nic
        try:
            receiver = self._open(subscription)
        except SocketError as error:
            self._look_ns = now.mono_ns + LOOK_S * 1e9
            state = linkwatch.state(found)
            if state is not None and 0 < state.mtu < MIN_MTU[place.version]:
                yield from self._adopt(place, found, now)
                place.subscription = subscription
                place.hearing.mtu = state.mtu
            elif state is not None:
                yield from self._refused(place, error, now)
            return
        place.said = ""
        yield from self._adopt(place, found, now)
        place.subscription = subscription
        place.home = place.home or found.name
        self._start(place, receiver)
        yield from self._memberships(place, "joined")

    def _adopt(self, place: Place, found: Nic, now: Moment) -> Iterator[Told]:
        """Let the place be heard on this interface, together with others that are."""
        hearing = place.hearing
        if hearing.ifindex == found.ifindex:
            return
        same = next((one for one in self._hearings() if one.ifindex == found.ifindex), None)
        if same is None and not hearing.ifindex:
            was, index = place.subscription.asked, place.subscription.nic.ifindex
            if was.isdecimal() and index and hearing.name == found.name:
                text = f"index {was} is gone: {found.name} is back with index {found.ifindex}"
                yield Notice(now.ts_ns, "warning", "renumbered", text)
            if found.name != hearing.name:
                self._renamed(hearing.name, found.name)
            hearing.name, hearing.ifindex = found
            return
        place.hearing = same or Hearing(*found)
        yield from self._without_places(hearing, now)

    def _without_places(self, hearing: Hearing, now: Moment) -> Iterator[Told]:
        """End what nothing is listened to any more."""
        if hearing not in self._hearings():
            yield from self._note(hearing, "", now)

    def _judge(self, opened: set[Hearing]) -> Iterator[Told]:
        """Say of interfaces on which something was opened how they are, once everything is."""
        for hearing in self._hearings():
            places = [place for place in self._places if place.hearing is hearing]
            if hearing in opened and not any(place.lacking for place in places):
                chosen = Nic(hearing.name, hearing.ifindex)
                state = linkwatch.state(chosen)
                if state is None:
                    yield from self._note(hearing, GONE, moment())
                else:
                    yield from self._assess(state, hearing, moment())

    def _note(self, hearing: Hearing, cause: str, now: Moment, master: str = "") -> Iterator[Told]:
        yield from hearing.note(cause, now, master)
        deaf = [one for one in self._hearings() if one.cause]
        self._deafness.note(bool(deaf), now)
        self._missing.note(any(not one.waits for one in deaf), now)

    def _hearings(self) -> list[Hearing]:
        return list(dict.fromkeys(place.hearing for place in self._places))

    def _start(self, place: Place, receiver: Receiver) -> None:
        place.receiver = receiver
        self._readers[receiver.fileno()] = receiver
        self._numbers[receiver.fileno()] = place.number
        if self._loop is not None:
            self._loop.watch(receiver.fileno())

    def _stop(self, place: Place) -> None:
        one, place.receiver, place.ends_ns = place.receiver, None, None
        if one is None:
            return
        self._drops += one.kernel_drops()
        self._skipped += one.skipped
        del self._readers[one.fileno()]
        if self._loop is not None:
            self._loop.unwatch(one.fileno())
        one.close()

    def _memberships(self, place: Place, event: str) -> list[Membership]:
        return place.receiver.memberships(event) if place.receiver is not None else []

    def end(self) -> Iterator[Told]:
        """Yield what is still deaf, and what is left."""
        now = moment()
        for hearing in self._hearings():
            yield from hearing.ended(now)
        for place in self._places:
            yield from self._memberships(place, "left")

    def close(self) -> None:
        """Leave every group."""
        if self._watch is not None:
            self._watch.close()
        for one in self.receivers:
            one.close()


def _address(news: AddressNews, places: list[Place], now: Moment) -> Iterator[Notice]:
    """Say that the address is gone by which an interface was chosen: it is listened on still."""
    asked = {place.subscription.asked for place in places}
    for text in () if news.added else sorted(asked):
        if news.packed and nic.packed(text) == news.packed:
            name = places[0].subscription.nic.name
            said = f"{text}, by which {name} was chosen, is gone from it: listening there still"
            yield Notice(now.ts_ns, "warning", "address-gone", said)

"""Sender and control messages of a datagram to what all of its flow share, looked up by bytes."""

import _socket as socket
import itertools
import sys
from functools import cache
from typing import TYPE_CHECKING

from mcastctl.model.mark import Mark
from mcastctl.net import ancillary
from mcastctl.net.platforms import HERE

if TYPE_CHECKING:
    from mcastctl.net.receiver import Subscription

Flow = tuple[str, str, int, str, int, str, int, int | None, int | None]
"""The fields of `Datagram` from direction to dscp."""
_KNOWN = 2048
"""Flows remembered by all together; more than that come only from forged addresses."""
_numbers = itertools.count()


@cache
def _known() -> dict[bytes, Flow | None]:
    """Return the flows of all subscriptions, under the number of their own."""
    return {}


class Flows:
    """The flows of one subscription. `news` tells of one that was not known, until set back."""

    def __init__(self, subscription: "Subscription") -> None:
        self.news = False
        self._subscription = subscription
        self._own = next(_numbers).to_bytes(4)
        self._known = _known()
        self._streams: set[tuple[str, int, str, int]] = set()

    def rename(self, name: str) -> None:
        """Call the interface by a new name from now on."""
        nic = self._subscription.nic._replace(name=name)
        self._subscription = self._subscription._replace(nic=nic)
        self._known.clear()

    def find(self, name: bytes, control: bytes) -> Flow | None:
        """Return the flow of a sockaddr and its control messages, None if it is for others."""
        key = self._own + name + control
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            flow = self._known[key] = self._flow(name, control)
            self.news = True
            return flow

    def note(self, flow: Flow, mark: Mark, *, known: bool) -> None:
        """Take a stream that its flow did not have before for news, unless all of it is `known`."""
        stream = (flow[3], flow[4], mark.kind, mark.ident)
        if stream not in self._streams:
            if len(self._streams) >= _KNOWN:
                self._streams.clear()
            self._streams.add(stream)
            self.news = self.news or not known

    def _flow(self, name: bytes, control: bytes) -> Flow | None:
        group, port, (iface, index), *_ = self._subscription
        arrival = ancillary.parse(ancillary.split(control))
        if arrival.dst not in (group, None) or arrival.ifindex not in (index, 0):
            return None
        if int.from_bytes(name[:2], sys.byteorder) == HERE.af_inet6:
            source = socket.inet_ntop(socket.AF_INET6, name[8:24])
        else:
            source = socket.inet_ntoa(name[4:8])
        dscp = arrival.tos >> 2 if arrival.tos is not None else None
        sport = int.from_bytes(name[2:4], "big")
        where = arrival.dst or group
        return "rx", iface, index, source, sport, where, port, arrival.ttl, dscp

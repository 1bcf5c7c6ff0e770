"""Answers sent before anything else is done with a request: the asker is waiting for them.

What made one request of an asker fit to be answered holds for its next one as well where only the
probe's numbers differ; those bytes are turned into the answer where they lie.
"""

import struct
from typing import NamedTuple

from mcastctl.model import probe
from mcastctl.model.mark import PROBE, Mark
from mcastctl.model.records import Datagram
from mcastctl.net.ancillary import Arrival, Messages
from mcastctl.net.receiver import Caught, caught_bytes
from mcastctl.net.sockopts import SockAddr, Socket

_ASKED = probe.MAGIC + bytes((probe.VERSION, probe.REQUEST))
_KIND_AT, _TTL_AT, _SEEN_TTL_AT, _STREAM_AT = 5, 6, 7, 8
_NUMBERS = struct.Struct("!QQQ")
"""Stream, sequence number and send time, from _STREAM_AT on (`model.probe`)."""
_FLOW = slice(Datagram._fields.index("direction"), Datagram._fields.index("length"))
_KNOWN = 4096
"""Askers remembered; more than that come only from forged addresses."""


class Way(NamedTuple):
    """How an asker is answered: by which socket, as whom, to whom; with what its requests share."""

    sock: Socket
    messages: Messages
    where: SockAddr
    request: Datagram
    arrival: Arrival


class Prompt:
    """The ways to those whose last request was answered with its own bytes."""

    def __init__(self) -> None:
        self._ways: dict[object, Way] = {}

    def way(self, caught: Caught) -> Way | None:
        """Return how to answer what was just caught, None if it has to be judged first."""
        asked = caught.size >= probe.MIN_SIZE and caught_bytes[:_TTL_AT] == _ASKED
        if not asked or caught_bytes[_SEEN_TTL_AT]:
            return None
        return self._ways.get(caught.flow())

    def remember(self, caught: Caught, way: Way) -> None:
        """Note that requests like this one may be answered; nothing is kept of what they carry."""
        if len(self._ways) >= _KNOWN:
            self._ways.clear()
        kept = way._replace(request=way.request._replace(payload=b""))
        self._ways[caught.flow()] = kept

    def forget(self) -> None:
        """Judge everybody anew: interfaces have changed, or their names."""
        self._ways.clear()


def answer(caught: Caught, way: Way) -> None:
    """Answer what was just caught with its own bytes, and leave them as they were.

    Raises OSError.
    """
    caught_bytes[_KIND_AT], caught_bytes[_SEEN_TTL_AT] = probe.REPLY, way.request.ttl or 0
    try:
        way.sock.sendmsg((caught_bytes[: caught.size],), way.messages, 0, way.where)
    finally:
        caught_bytes[_KIND_AT], caught_bytes[_SEEN_TTL_AT] = probe.REQUEST, 0


def told(caught: Caught, way: Way) -> tuple[Datagram, Arrival]:
    """Return the record and arrival of what was just caught; `way` says what kind it is."""
    payload = caught.payload()
    mark = Mark(PROBE, *_NUMBERS.unpack_from(payload, _STREAM_AT))
    fields = (caught.stamp_ns(), *tuple(way.request)[_FLOW], caught.size, payload, mark)
    return Datagram._make(fields), way.arrival

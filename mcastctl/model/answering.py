"""Which datagrams an echo answers. Nothing that could be an answer itself is ever answered.

Loops between echoes, and between an echo and older services, are the 2024 'loop DoS' class
(CVE-2024-2169): one spoofed datagram keeps two services busy for ever. The rules below leave
no datagram of ours that another echo of ours would answer.
"""

from mcastctl.model import probe
from mcastctl.model.address import can_be_source, is_multicast
from mcastctl.model.records import Datagram

NOT_A_REQUEST = "not-a-request"
ANSWER = "answer"
SERVICE_PORT = "service-port"
PORT_ZERO = "port-0"
WELL_KNOWN = "well-known-port"
BAD_SOURCE = "bad-source"
"""Reasons for silence, as counted in the summary; beside them those of `pacing.SourceLimit`."""

_FIRST_ASKING = 1024
"""Below are ports that services answer from (RFC 6335 section 6): a datagram from echo, chargen or
TFTP was forged, or is itself an answer."""


def refusal(
    datagram: Datagram, header: probe.Probe | None, own_ports: frozenset[int], *, answer_any: bool
) -> str | None:
    """Return why `datagram` must not be answered, None when it may be.

    With `answer_any`, plain datagrams are answered too, but only those sent to the group: a
    plain unicast datagram may be somebody's answer.
    """
    if datagram.sport < _FIRST_ASKING:
        return WELL_KNOWN if datagram.sport else PORT_ZERO
    if datagram.sport in own_ports:
        return SERVICE_PORT  # our own datagram, another echo's, or made to look like one
    if not can_be_source(datagram.src):
        return BAD_SOURCE
    if header is not None and header.kind != probe.DATA:
        return ANSWER if header.kind == probe.REPLY else None
    return None if answer_any and is_multicast(datagram.dst) else NOT_A_REQUEST


def answer(datagram: Datagram, header: probe.Probe | None, said: bytes | None) -> bytes:
    """Return the payload of the answer: `said`, or the request's own bytes when None.

    A request of ours is answered under a reply header, so that the asker knows it and no
    echo answers it.
    """
    if header is None or header.kind != probe.REQUEST:
        return datagram.payload if said is None else said
    rest = datagram.payload[probe.MIN_SIZE :] if said is None else said
    return probe.answer(header, datagram.ttl) + rest

"""The probe payload: a numbered, time-stamped datagram both ends understand.

    offset  size  field                                   (network byte order)
         0     4  magic, b"mcst"
         4     1  version, 1
         5     1  kind: 0 data, 1 request (wants an answer), 2 reply (never answered)
         6     1  TTL or hop limit the sender set
         7     1  in a reply: TTL the request had on arrival, 0 when unknown
         8     8  stream id, random for each run and endpoint
        16     8  sequence number, from 0
        24     8  send time, nanoseconds since the epoch
        32        filling up to the asked size

32 bytes keep the columns of many probes in a row aligned for arithmetic on all of them at once.
Datagrams that the sender handed to its kernel together carry the same send time: between them
there is no interval to compare with that of their arrival.
"""

import struct
from typing import NamedTuple

MAGIC = b"mcst"
VERSION = 1
DATA, REQUEST, REPLY = 0, 1, 2
HEADER = struct.Struct("!4sBBBBQQQ")
MIN_SIZE = HEADER.size
"""Smallest probe in bytes."""
SEQ_AT, STAMP_AT = 16, 24
"""Places of sequence number and send time."""
COUNTED = 1 << 16
"""How many numbers share their upper 48 bits: no burst crosses a multiple of it."""


class Probe(NamedTuple):
    """The decoded header of one probe."""

    kind: int
    ttl: int
    seen_ttl: int
    stream: int
    seq: int
    sent_ns: int


def encode(probe: Probe, size: int = MIN_SIZE) -> bytes:
    """Return `size` bytes: header and a repeating alphabet (so that a dump shows its place)."""
    kind, ttl, seen_ttl, stream, seq, sent_ns = probe
    header = HEADER.pack(MAGIC, VERSION, kind, ttl, seen_ttl, stream, seq, sent_ns)
    return header + filling(size - MIN_SIZE)


def filling(size: int) -> bytes:
    """Return `size` bytes of 'abc...zabc...'."""
    alphabet = b"abcdefghijklmnopqrstuvwxyz"
    return (alphabet * (size // 26 + 1))[: max(size, 0)]


def decode(payload: bytes) -> Probe | None:
    """Return the header of a well-formed probe, None for anything else. Total on any bytes."""
    if payload[:4] != MAGIC or len(payload) < MIN_SIZE:
        return None
    _, version, kind, ttl, seen_ttl, stream, seq, sent_ns = HEADER.unpack_from(payload)
    if version != VERSION or kind > REPLY or (seen_ttl and kind != REPLY):
        return None
    return Probe(kind, ttl, seen_ttl, stream, seq, sent_ns)


def answer(request: Probe, arrived_ttl: int | None) -> bytes:
    """Return the reply header for a request that arrived with `arrived_ttl`."""
    _, ttl, _, stream, seq, sent_ns = request
    return HEADER.pack(MAGIC, VERSION, REPLY, ttl, arrived_ttl or 0, stream, seq, sent_ns)


def hops(sent_ttl: int, seen_ttl: int) -> int | None:
    """Return how many routers took one off the TTL, None when either end did not say."""
    if not sent_ttl or not seen_ttl or seen_ttl > sent_ttl:
        return None
    return sent_ttl - seen_ttl

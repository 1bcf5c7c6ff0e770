"""The records that sources yield and sinks print, one type per kind of event.

`to_dict` gives the JSON form: flat, snake_case, unit in the name, times as seconds since
the epoch. Within a schema number keys are only ever added.
"""

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mcastctl.model.mark import NO_MARK, Mark

if TYPE_CHECKING:  # send and listen start without them
    from mcastctl.model.interface import Rates
    from mcastctl.model.membership import Change
    from mcastctl.model.packet import Packet

SCHEMA = 1


def seconds(ns: int) -> float:
    """Return nanoseconds since the epoch as seconds, to the microsecond."""
    return round(ns / 1e9, 6)


def printable(payload: bytes) -> str | None:
    """Return a payload that is printable UTF-8 (with tab and line ends), None for any other."""
    if b"\0" in payload:  # most binary has zeros
        return None
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() or text.translate(_LINES).isprintable() else None


_LINES = {9: None, 10: None, 13: None}


def base64(payload: bytes) -> str:
    """Return the payload in base64 (RFC 4648 section 4)."""
    from binascii import b2a_base64  # only what prints JSON comes here

    return b2a_base64(payload, newline=False).decode()


def payload_field(payload: bytes) -> dict[str, object]:
    """Return `payload` if it is printable, else `payload_b64`."""
    text = printable(payload)
    return {"payload_b64": base64(payload)} if text is None else {"payload": text}


class Start(NamedTuple):
    """The first line of every stream: what runs and what it was asked for."""

    ts_ns: int
    version: str
    command: str
    endpoints: list[str]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "type": "start",
            "ts": seconds(self.ts_ns),
            "schema": SCHEMA,
            "version": self.version,
            "command": self.command,
            "endpoints": self.endpoints,
        }


class Membership(NamedTuple):
    """A group joined or left on one interface, once per source of a filter.

    `event` is 'joined' or 'left'; `mode` 'any', 'include' or 'exclude'; `rcvbuf_bytes` what
    the kernel granted, None where nothing is received.
    """

    ts_ns: int
    event: str
    group: str
    port: int
    source: str | None
    mode: str
    iface: str
    ifindex: int
    rcvbuf_bytes: int | None

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = self._asdict()
        del fields["ts_ns"], fields["event"]
        return {"type": self.event, "ts": seconds(self.ts_ns), **fields}


class Datagram(NamedTuple):
    """One UDP datagram sent ('tx') or received ('rx').

    `ts_ns` is the kernel's receive time where it gives one, `length` the true payload length
    in bytes, `ttl` the TTL or hop limit on arrival (None when unknown).
    """

    ts_ns: int
    direction: str
    iface: str
    ifindex: int
    src: str
    sport: int
    dst: str
    dport: int
    ttl: int | None
    dscp: int | None
    length: int
    payload: bytes
    mark: Mark = NO_MARK

    @property
    def number(self) -> int:
        """One: a `Run` holds more."""
        return 1

    @property
    def last_ns(self) -> int:
        """When it came: a `Run` is of more than one time."""
        return self.ts_ns

    def datagrams(self) -> "tuple[Datagram]":
        """Return this one, as a `Run` its many."""
        return (self,)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = {
            "type": "datagram",
            "ts": seconds(self.ts_ns),
            "direction": self.direction,
            "iface": self.iface,
            "ifindex": self.ifindex,
            "src": self.src,
            "sport": self.sport,
            "dst": self.dst,
            "dport": self.dport,
            "ttl": self.ttl,
            "dscp": self.dscp,
            "length": self.length,
        }
        if self.mark.seq is not None:
            fields["stream"] = f"{self.mark.ident:x}"
            fields["seq"] = self.mark.seq
        fields.update(payload_field(self.payload))
        return fields


class Message(NamedTuple):
    """A whole message that came in parts; the datagram is the last of them, with all its payload.

    `name` and `sent_ns` are those of `model.message`, `duplicates` parts that came again.
    """

    datagram: Datagram
    name: int
    sent_ns: int
    parts: int
    duplicates: int

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        one = self.datagram
        return {
            "type": "message",
            "ts": seconds(one.ts_ns),
            "iface": one.iface,
            "ifindex": one.ifindex,
            "src": one.src,
            "sport": one.sport,
            "dst": one.dst,
            "dport": one.dport,
            "message": f"{self.name:x}",
            "sent_ts": seconds(self.sent_ns),
            "parts": self.parts,
            "duplicates": self.duplicates,
            "length": one.length,
            **payload_field(one.payload),
        }


class Reply(NamedTuple):
    """One answer to a ping: `kind` says how the request travelled, multicast or unicast.

    `payload` is what the responder said of its own, empty when it sent the request back.
    """

    ts_ns: int
    responder: str
    port: int
    seq: int
    rtt_ns: int
    hops: int | None
    kind: str
    length: int
    duplicate: bool
    payload: bytes

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = {
            "type": "reply",
            "ts": seconds(self.ts_ns),
            "responder": self.responder,
            "port": self.port,
            "seq": self.seq,
            "rtt_ms": round(self.rtt_ns / 1e6, 6),
            "hops": self.hops,
            "kind": self.kind,
            "length": self.length,
            "duplicate": self.duplicate,
        }
        return fields | payload_field(self.payload) if self.payload else fields


class Notice(NamedTuple):
    """Something a person should know: `level` is 'info' or 'warning', `hint` the remedy.

    `more` are keys of its own that a code brings along in JSON.
    """

    ts_ns: int
    level: str
    code: str
    text: str
    hint: str = ""
    more: tuple[tuple[str, object], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = self._asdict()
        del fields["ts_ns"], fields["more"]
        return {"type": "notice", "ts": seconds(self.ts_ns), **fields, **dict(self.more)}


class Report(NamedTuple):
    """Counters of one stretch of time ('interval') or of the whole run ('summary')."""

    ts_ns: int
    event: str
    fields: dict[str, object]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"type": self.event, "ts": seconds(self.ts_ns), **self.fields}


class Finding(NamedTuple):
    """One result of a diagnosis; `severity` is error, warning or info.

    `certain` is 'proved' where the evidence leaves no other reading, 'inferred' where it does.
    """

    id: str
    severity: str
    title: str
    evidence: list[str]
    hint: str
    where: str
    certain: str = "proved"

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"type": "finding", **self._asdict()}


Record: TypeAlias = (
    "Start | Membership | Datagram | Message | Reply | Notice | Report | Change | Rates | Packet"
)
"""Anything a stream prints."""
